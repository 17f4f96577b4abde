// pgsteer as operators meet it: its process, its HTTP endpoints and its commands, in front of a real cluster.

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { type EventDocument, eventsSchema } from "../../src/admin/events-document.ts";
import { topologySchema } from "../../src/admin/topology-document.ts";
import { makeCertificates } from "../support/certificates.ts";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, type PgsteerConfiguration, projectRoot, startPgsteer } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import { barrierFor } from "../support/processes.ts";
import { HARNESS_VARIABLE } from "../support/procfs.ts";
import { type Connection, codeOf, connect, query, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

const main = process.env["PGSTEER_MAIN"] ?? join(projectRoot, "src", "cli", "main.ts");

let cluster: Cluster;
let pgsteer: Pgsteer;
const connections: Connection[] = [];
const children: ChildProcess[] = [];

beforeAll(async () => {
  cluster = await startCluster({ members: 2 });
  pgsteer = await startPgsteer(cluster);
});

afterEach(() => {
  for (const connection of connections.splice(0)) connection.destroy();
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

afterAll(async () => {
  await cluster?.remove();
});

async function get(url: string): Promise<readonly [status: number, text: string]> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(5000) });
  return [answer.status, await answer.text()];
}

const topologyOf = async (url: string) => topologySchema.parse(JSON.parse((await get(`${url}/topology`))[1]));

function cli(...args: string[]): Promise<{ code: unknown; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { timeout: 120_000 }, (error, out, err) => {
      resolve({ code: error === null ? 0 : error.code, out, err });
    });
  });
}

async function client(port: number): Promise<Connection> {
  const connection = await connect({ host: "127.0.0.1", port, ...APPLICATION });
  connections.push(connection);
  return connection;
}

interface Run {
  readonly child: ChildProcess;
  readonly url: string;
  readonly ports: Readonly<Record<string, number>>;
  readonly file: string;
  /** What it has written so far. */
  log(): string;
  readonly exited: Promise<number | null>;
  /** Rewrites its file. */
  configure(change: (configuration: PgsteerConfiguration) => void): void;
}

/** A pgsteer of its own for a test, whose exit code matters. */
async function run(
  name: string,
  change: (configuration: PgsteerConfiguration) => void = () => {},
  node: readonly string[] = [],
): Promise<Run> {
  const file = join(cluster.directory, `${name}.yaml`);
  const read = (path: string): PgsteerConfiguration => parse(readFileSync(path, "utf8"));
  const configuration = read(pgsteer.configurationFile);
  const ports: Record<string, number> = {};
  for (const listener of configuration.listeners) {
    ports[String(listener["name"])] = await freePort();
    listener["port"] = ports[String(listener["name"])];
  }
  configuration.http["port"] = await freePort();
  change(configuration);
  writeFileSync(file, stringify(configuration));
  let log = "";
  const child = spawn(process.execPath, [...node, main, "run", "-c", file], {
    env: { ...process.env, [HARNESS_VARIABLE]: cluster.directory },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  child.stdout.on("data", (chunk) => {
    log += chunk.toString();
  });
  child.stderr.on("data", (chunk) => {
    log += chunk.toString();
  });
  const exited = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
  return {
    child,
    url: `http://127.0.0.1:${configuration.http["port"]}`,
    ports,
    file,
    log: () => log,
    exited,
    configure: (next) => {
      const current = read(file);
      next(current);
      writeFileSync(file, stringify(current));
    },
  };
}

const says = (running: Run, text: string | RegExp) =>
  waitFor(() => (typeof text === "string" ? running.log().includes(text) : text.test(running.log())), {
    timeoutMs: 30_000,
    what: `the log says ${text}; it says:\n${running.log()}`,
  });

const ready = (running: Pick<Run, "url">, route = "write") =>
  waitFor(async () => (await get(`${running.url}/readyz?route=${route}`))[0] === 200, {
    timeoutMs: 30_000,
    what: `${route} is ready`,
  });

describe("the HTTP endpoints of a running pgsteer", () => {
  test("agree with PostgreSQL and Patroni on who leads, who replicates and who serves what", async () => {
    const leader = await cluster.requireLeader();
    const [replica] = await cluster.replicas();
    await ready({ url: pgsteer.httpUrl }, "read");
    const document = await waitFor(
      async () => {
        const found = await topologyOf(pgsteer.httpUrl);
        return found.clusters[0]?.members.every(({ serves }) => serves.length > 0) === true && found;
      },
      { timeoutMs: 30_000, what: "every member serves something" },
    );
    const [only] = document.clusters;
    expect(only).toMatchObject({ name: "demo", writable: true, source: { kind: "etcd", connected: true } });
    expect(only?.leader).toMatchObject({ member: leader, state: "writable", epoch: 1 });
    const serves = (name: string | undefined) =>
      only?.members.find((member) => member.name === name)?.serves.map(({ route, purpose }) => `${route} ${purpose}`);
    expect(serves(leader)).toEqual(["auto write", "write write"]);
    expect(serves(replica)).toEqual(["auto read", "read read"]);
    const [, text] = await get(`${pgsteer.httpUrl}/metrics`);
    expect(text).toContain(`pgsteer_leader{cluster="demo",member="${leader}",state="writable"} 1\n`);
    expect(text).toContain(`pgsteer_member_info{cluster="demo",member="${replica}",role="replica",`);
  });

  test("count clients, servers, transactions and refused logins", async () => {
    const connection = await client(pgsteer.ports.write);
    await query(connection, "BEGIN");
    const wrong = { host: "127.0.0.1", port: pgsteer.ports.write, ...APPLICATION, password: "wrong" };
    expect(await queryOnce(wrong, "SELECT 1").catch(codeOf)).toBe("28P01");
    const document = await topologyOf(pgsteer.httpUrl);
    expect(document.listeners.find(({ name }) => name === "write")?.clients).toMatchObject({ active: 1, idle: 0 });
    const [pool] = document.clusters[0]?.pools.filter(({ servers }) => servers.active > 0) ?? [];
    expect(pool).toMatchObject({ database: "app", user: "app", purpose: "write", servers: { active: 1 } });
    const before = (await get(`${pgsteer.httpUrl}/metrics`))[1];
    const count = (text: string) =>
      Number(/^pgsteer_transactions_total\{cluster="demo",listener="write"\} (\d+)$/m.exec(text)?.[1]);
    expect(before).toContain('pgsteer_clients{cluster="demo",listener="write",state="active"} 1\n');
    expect(before).toContain(
      'pgsteer_errors_total{cluster="demo",listener="write",code="password_failed",sqlstate="28P01"} 1\n',
    );
    expect(before).toContain('pgsteer_client_login_failures_total{cluster="demo",listener="write"} 1\n');
    await query(connection, "COMMIT");
    const after = (await get(`${pgsteer.httpUrl}/metrics`))[1];
    expect(count(after)).toBe(count(before) + 1);
    expect(after).toContain('pgsteer_clients{cluster="demo",listener="write",state="idle"} 1\n');
  });

  test("are what `pgsteer status` shows", async () => {
    const leader = await cluster.requireLeader();
    const { code, out } = await cli("status", "-c", pgsteer.configurationFile);
    expect(code).toBe(0);
    expect(out).toContain(`leader ${leader} (epoch 1, timeline 1) takes writes`);
    expect(out).toMatch(new RegExp(`\\| ${leader} +\\| 127\\.0\\.0\\.1:${cluster.member(leader).port} +\\| Leader`));
    const json = await cli("status", "--json", "--url", pgsteer.httpUrl);
    expect(topologySchema.parse(JSON.parse(json.out)).clusters[0]?.leader.member).toBe(leader);
  });

  test("agree with `pgsteer check --connect`, which finds everything in place, or a scope that is wrong", async () => {
    const good = await cli("check", "--connect", "-c", pgsteer.configurationFile);
    expect([good.code, good.err]).toEqual([0, ""]);
    for (const { name, apiUrl, port } of cluster.members) {
      expect(good.out).toMatch(new RegExp(`ok +demo: member ${name}: PostgreSQL 127\\.0\\.0\\.1:${port}: `));
      expect(good.out).toContain(`demo: member ${name}: Patroni ${apiUrl}: `);
    }
    const file = join(cluster.directory, "scope.yaml");
    writeFileSync(file, readFileSync(pgsteer.configurationFile, "utf8").replace("scope: demo", "scope: domo"));
    const bad = await cli("check", "--connect", "-c", file);
    expect(bad.code).toBe(1);
    expect(bad.out).toContain("has no keys under /service/domo/: check scope and namespace");
  });
});

describe("HTTP with a login, over TLS", () => {
  test("is asked, and told to reload, by commands that find all in the file, or are told it", async () => {
    await makeCertificates(cluster.directory);
    const [first, second] = ["a-token-of-an-administrator", "another-token-of-an-administrator"];
    const tokenFile = join(cluster.directory, "http.token");
    writeFileSync(tokenFile, `${first}\n`, { mode: 0o600 });
    const running = await run("login", ({ http, auth }) => {
      Object.assign(http, { token_file: "http.token", cert_file: "server.crt", key_file: "server.key" });
      auth["stats_users"] = [APPLICATION.user];
    });
    await says(running, "pgsteer is running");
    const url = running.url.replace("http:", "https:");
    const told = ["--url", url, "--ca-file", join(cluster.directory, "ca.crt")];
    await waitFor(async () => (await cli("status", "-c", running.file)).code === 0, {
      timeoutMs: 30_000,
      what: `status with what the file says; the log ends ${running.log().slice(-2000)}`,
    });
    expect((await cli("status", ...told, "--token-file", tokenFile)).code).toBe(0);
    expect((await cli("events", "-c", running.file)).code).toBe(0);
    const stranger = await cli("status", ...told);
    expect([stranger.code, stranger.err]).toEqual([1, expect.stringContaining("--token-file")]);
    expect((await cli("status", "--url", url, "--token-file", tokenFile)).err).toContain("pgsteer does not answer");

    running.configure(({ pool, http }) => {
      pool["default_pool_size"] = 3;
      http["address"] = "127.0.0.2";
    });
    const reloaded = await cli("reload", ...told, "--token-file", tokenFile);
    expect([reloaded.code, reloaded.out]).toEqual([
      0,
      expect.stringMatching(/kept until a restart: http\nreloaded; changed: .*pool/),
    ]);
    running.configure(({ pool }) => {
      pool["default_pool_sise"] = 3;
    });
    const refused = await cli("reload", ...told, "--token-file", tokenFile);
    expect([refused.code, refused.out]).toEqual([1, "not reloaded: the old configuration stays\n"]);
    expect(refused.err).toMatch(/pool\.default_pool_sise: [\s\S]*remedy: .*default_pool_size/);

    // A new token holds from the next reload on.
    running.configure(({ pool, http }) => {
      delete pool["default_pool_sise"];
      delete http["address"];
    });
    writeFileSync(join(cluster.directory, "old.token"), first);
    writeFileSync(tokenFile, second);
    const old = ["--token-file", join(cluster.directory, "old.token")];
    expect((await cli("reload", ...told, ...old)).code).toBe(0);
    expect((await cli("reload", ...told, ...old)).err).toContain("--token-file");
    expect((await cli("reload", "-c", running.file)).code).toBe(0);
    expect(running.log()).not.toContain(first);
    running.child.kill("SIGTERM");
    expect(await running.exited).toBe(0);
  });
});

describe("an ordinary user", () => {
  /** A port below 1024 that is free now. */
  async function lowPort(): Promise<number> {
    for (let port = 1_023; port > 512; port -= 1) {
      const server = createServer();
      const free = await new Promise<boolean>((resolve) => {
        server.once("error", () => resolve(false));
        server.listen({ host: "127.0.0.1", port }, () => server.close(() => resolve(true)));
      });
      if (free) return port;
    }
    throw new Error("no port below 1024 is free");
  }

  test("runs pgsteer on a low port with CAP_NET_BIND_SERVICE alone, as the unit file has it, and not without", async (context) => {
    const rangeFile = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    if (process.getuid?.() !== 0) return context.skip("only root can become another user");
    if (barrierFor(projectRoot) !== null)
      return context.skip(`the user postgres may not pass ${barrierFor(projectRoot)}`);
    if (Number(readFileSync(rangeFile, "utf8")) < 1_024) return context.skip("here everybody may listen on low ports");
    const port = await lowPort();
    const file = join(cluster.directory, "ordinary.yaml");
    const configuration: PgsteerConfiguration = parse(readFileSync(pgsteer.configurationFile, "utf8"));
    configuration.listeners = [{ name: "low", address: "127.0.0.1", port, route: "write" }];
    configuration.http["port"] = await freePort();
    // The harness's files are root's.
    configuration.auth = { type: "trust" };
    writeFileSync(file, stringify(configuration), { mode: 0o644 });
    const start = (capabilities: string) => {
      const sets = ["--bounding-set", "--inh-caps", "--ambient-caps"].map((set) => `${set}=-all${capabilities}`);
      const words = ["--reuid=postgres", "--regid=postgres", "--clear-groups", "--no-new-privs", ...sets];
      const child = spawn("setpriv", [...words, process.execPath, main, "run", "-c", file], {
        env: { ...process.env, [HARNESS_VARIABLE]: cluster.directory },
        stdio: ["ignore", "pipe", "pipe"],
      });
      children.push(child);
      let log = "";
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (log += chunk));
      return { child, log: () => log, code: new Promise((resolve) => child.once("close", resolve)) };
    };
    const allowed = start(",+net_bind_service");
    const login = { host: "127.0.0.1", port, ...APPLICATION };
    const what = () => `it answers; its log:\n${allowed.log()}`;
    await waitFor(() => allowed.log().includes("pgsteer is running"), { timeoutMs: 30_000, what: what() });
    // Who trusts has no password for servers: it is the server's refusal that shows that pgsteer took the client.
    expect(await queryOnce(login, "SELECT 1").catch(codeOf)).not.toBe("ECONNREFUSED");
    expect(allowed.log()).not.toContain("runs as root");
    const status = readFileSync(`/proc/${allowed.child.pid}/status`, "utf8");
    expect(/^CapEff:\t0*400$/m.test(status)).toBe(true);
    allowed.child.kill("SIGTERM");
    expect(await allowed.code).toBe(0);
    const refused = start("");
    expect(await refused.code).toBe(1);
    expect(refused.log()).toMatch(/cannot listen on 127\.0\.0\.1:\d+ \(listeners\[0\], \\?"low\\?"\)/);
  });
});

describe("a pgsteer whose etcd does not answer at the start", () => {
  test("runs, says so loudly, and is not ready", async () => {
    const running = await run("no-etcd", (configuration) => {
      const etcd = { endpoints: ["http://127.0.0.1:1"] };
      Object.assign(configuration.clusters["demo"] ?? {}, { etcd });
    });
    await says(running, "pgsteer is running");
    expect((await get(`${running.url}/livez`))[0]).toBe(200);
    for (const route of ["write", "read", "auto"]) {
      expect((await get(`${running.url}/readyz?route=${route}`))[0]).toBe(503);
    }
    const { code, out } = await cli("status", "--url", running.url);
    expect(code).toBe(2);
    expect(out).toContain("etcd DOES NOT ANSWER");
    await says(running, /"level":"error".*etcd does not answer: clients that need a leader wait/);
    running.child.kill("SIGTERM");
    expect(await running.exited).toBe(0);
  });
});

describe("SIGHUP", () => {
  test("takes a new listener and drops an old one, and no client notices", async () => {
    const running = await run("reload");
    await ready(running);
    const connection = await client(running.ports["write"] ?? 0);
    const more = await freePort();
    running.configure(({ listeners, http, log }) => {
      listeners.splice(0, 2, { name: "more", address: "127.0.0.1", port: more, route: "write" });
      http["port"] = 1;
      log["level"] = "warn";
    });
    running.child.kill("SIGHUP");
    await says(running, "configuration reloaded");
    expect(running.log()).toMatch(/"level":"warn".*http cannot change while pgsteer runs/);
    expect(running.log()).toMatch(/"level":"warn".*log cannot change while pgsteer runs/);
    expect((await queryOnce({ host: "127.0.0.1", port: more, ...APPLICATION }, "SELECT 1")).rows).toHaveLength(1);
    expect((await query(connection, "SELECT 1")).rows).toHaveLength(1);
    const gone = { host: "127.0.0.1", port: running.ports["write"] ?? 0, ...APPLICATION };
    expect(await queryOnce(gone, "SELECT 1").catch(codeOf)).toBe("ECONNREFUSED");
    expect((await topologyOf(running.url)).listeners.map(({ name }) => name)).toEqual(["read", "more"]);
  });

  test("with mistakes in the file, with a port that is taken, or with a new cluster changes nothing", async () => {
    const running = await run("no-reload");
    await ready(running);
    const valid = readFileSync(running.file, "utf8");
    writeFileSync(running.file, `${valid}pol: {}\n`);
    running.child.kill("SIGHUP");
    await says(running, /"level":"error","time":"[^"]*","remedy":"[^"]+","msg":"[^"]*no-reload\.yaml:\d+:1: pol: /);
    await says(running, "not reloaded: the old configuration stays");

    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen({ host: "127.0.0.1", port: 0 }, resolve));
    try {
      const address = taken.address();
      const port = address !== null && typeof address === "object" ? address.port : 0;
      writeFileSync(running.file, valid);
      running.configure(({ listeners }) => {
        Object.assign(listeners[1] ?? {}, { port });
      });
      running.child.kill("SIGHUP");
      await says(running, "not reloaded: the old configuration is in force again");
      expect(running.log()).toContain(`cannot listen on 127.0.0.1:${port} (listeners[1], \\"write\\")`);
    } finally {
      taken.close();
    }
    writeFileSync(running.file, valid.replaceAll(/^( +)demo:/gm, "$1other:"));
    running.child.kill("SIGHUP");
    await says(running, /leads to cluster \\"other\\", which needs a restart/);
    for (const port of Object.values(running.ports)) {
      expect((await queryOnce({ host: "127.0.0.1", port, ...APPLICATION }, "SELECT 1")).rows).toHaveLength(1);
    }
  });
});

describe("SIGTERM", () => {
  test("lets a transaction finish, refuses new clients, says 503 meanwhile, and ends with 0", async () => {
    const running = await run("drain");
    await ready(running);
    const connection = await client(running.ports["write"] ?? 0);
    await query(connection, "BEGIN; CREATE TABLE drained (n int)");
    running.child.kill("SIGTERM");
    await says(running, "draining");
    const [status, text] = await get(`${running.url}/readyz`);
    expect([status, text]).toEqual([503, expect.stringContaining("shutting down")]);
    expect((await get(`${running.url}/livez`))[0]).toBe(200);
    expect((await cli("status", "--url", running.url)).out).toContain("SHUTTING DOWN");
    const refused = { host: "127.0.0.1", port: running.ports["write"] ?? 0, ...APPLICATION };
    expect(["ECONNREFUSED", "57P01"]).toContain(await queryOnce(refused, "SELECT 1").catch(codeOf));
    await query(connection, "INSERT INTO drained VALUES (1)");
    await query(connection, "COMMIT");
    expect(await running.exited).toBe(0);
    const rows = await cluster.sql(await cluster.requireLeader(), "SELECT * FROM drained", [], "app");
    expect(rows.rows).toEqual([{ n: 1 }]);
  });

  test("waits no longer than drain_timeout", async () => {
    const running = await run("impatient", ({ pool }) => {
      pool["drain_timeout"] = "200ms";
    });
    await ready(running);
    await query(await client(running.ports["write"] ?? 0), "BEGIN");
    running.child.kill("SIGTERM");
    expect(await running.exited).toBe(0);
    expect(running.log()).toContain("clients are cut off in the middle of their work");
  });

  test("twice ends it at once", async () => {
    const running = await run("twice");
    await ready(running);
    await query(await client(running.ports["write"] ?? 0), "BEGIN");
    running.child.kill("SIGTERM");
    await says(running, "draining");
    running.child.kill("SIGINT");
    expect(await running.exited).toBe(0);
    expect(running.log()).toContain("stopping at once");
  });

  test("ends a pgsteer without clients and without HTTP too", async () => {
    const running = await run("no-http", ({ http }) => {
      http["enabled"] = false;
    });
    await says(running, "leader is writable");
    running.child.kill("SIGTERM");
    expect(await running.exited).toBe(0);
  });
});

describe("a bug", () => {
  test.each([
    ["an exception", 'throw new Error("a bug")'],
    ["a rejection", 'Promise.reject(new Error("a bug"))'],
  ])("that shows as %s that nobody catches ends the process with 70 and its stack in the log", async (_what, bug) => {
    const later = `data:text/javascript,setTimeout(() => { ${bug} }, 1000)`;
    const running = await run("bug", () => {}, ["--import", later]);
    expect(await running.exited).toBe(70);
    const last = running.log().trimEnd().split("\n").at(-1) ?? "";
    expect(JSON.parse(last)).toMatchObject({
      level: "fatal",
      msg: "internal error: pgsteer ends",
      err: { message: "a bug", stack: expect.stringContaining(" at ") },
    });
  });

  test("at the start ends the process in the same way", async () => {
    const patch = 'import net from "node:net"; net.Server.prototype.listen = () => { throw new Error("a bug") }';
    const running = await run("early-bug", () => {}, ["--import", `data:text/javascript,${encodeURIComponent(patch)}`]);
    expect(await running.exited).toBe(70);
    expect(running.log()).toContain('"message":"a bug"');
  });
});

describe("without a writable leader", () => {
  test("/readyz, /metrics and status say so, and why; reads stay ready; all is well again afterwards", async () => {
    const leader = await cluster.requireLeader();
    const logins = async () => {
      const [, text] = await get(`${pgsteer.httpUrl}/metrics`);
      const pattern = `^pgsteer_server_logins_total\\{cluster="demo",member="${leader}",purpose="write"\\} (\\d+)$`;
      return Number(new RegExp(pattern, "m").exec(text)?.[1] ?? 0);
    };
    await queryOnce(pgsteer.login("write"), "SELECT 1");
    const before = await logins();
    expect(before).toBeGreaterThan(0);
    cluster.freezePatroni(leader);
    await cluster.killPostgres(leader);
    try {
      const why = await waitFor(
        async () => {
          const [status, text] = await get(`${pgsteer.httpUrl}/readyz?route=write`);
          return status === 503 && text;
        },
        { timeoutMs: 30_000, what: "write is not ready" },
      );
      expect(why).toMatch(/^route "write" is not ready: .+\n$/);
      expect((await get(`${pgsteer.httpUrl}/readyz?route=read`))[0]).toBe(200);
      expect((await get(`${pgsteer.httpUrl}/metrics`))[1]).toContain('pgsteer_writable{cluster="demo"} 0\n');
      const { code, out } = await cli("status", "--url", pgsteer.httpUrl);
      expect(code).toBe(2);
      expect(out).toContain("write is not ready: ");
      // The pool goes when its last server is gone; what was counted stays.
      await waitFor(async () => (await topologyOf(pgsteer.httpUrl)).clusters[0]?.pools.length === 0, {
        timeoutMs: 30_000,
        what: "the pool is gone",
      });
      expect(await logins()).toBeGreaterThanOrEqual(before);
    } finally {
      cluster.thawPatroni(leader);
    }
    await cluster.waitHealthy();
    await waitFor(async () => (await get(`${pgsteer.httpUrl}/readyz?route=write`))[0] === 200, {
      timeoutMs: 30_000,
      what: "write is ready again",
    });
    expect((await cli("status", "--url", pgsteer.httpUrl)).code).toBe(0);
  }, 180_000);
});

describe("a change of leader", () => {
  const events = async () => eventsSchema.parse(JSON.parse((await get(`${pgsteer.httpUrl}/events`))[1])).events;
  /** The newest record, once it is as wanted. */
  const newest = (what: string, wanted: (event: EventDocument) => boolean): Promise<EventDocument> =>
    waitFor(async () => (await events()).slice(0, 1).find(wanted) ?? false, {
      timeoutMs: 60_000,
      intervalMs: 10,
      what,
    });
  const phasesOf = ({ timeline }: EventDocument, wanted: readonly string[]) =>
    timeline.map(({ phase }) => phase).filter((phase) => wanted.includes(phase));
  const insert = (connection: Connection) => query(connection, "INSERT INTO witnessed VALUES (1)", [], 60_000);
  const five = () => Promise.all([1, 2, 3, 4, 5].map(() => client(pgsteer.ports.write)));

  test("leaves a record: its phases in order, who waited, and the one error that was given", async () => {
    const leader = await cluster.requireLeader();
    const successor = cluster.members.find(({ name }) => name !== leader)?.name ?? "";
    await queryOnce(cluster.login(leader, APPLICATION), "CREATE TABLE witnessed (n int)");
    const before = (await events())[0]?.id ?? 0;
    const writers = await five();
    const inTransaction = await client(pgsteer.ports.write);
    await query(inTransaction, "BEGIN");
    await insert(inTransaction);
    let stopped = false;
    const work = writers.map(async (writer) => {
      // Whoever writes without a pause is held once: from the announcement until the gate opens.
      while (!stopped) await insert(writer);
    });
    await cluster.switchover();
    const event = await newest("the record is over", ({ going, id }) => !going && id > before);
    stopped = true;
    await Promise.all(work);
    expect(await query(inTransaction, "SELECT 1").catch(codeOf)).toBe("40001");
    const order = ["first_sign", "first_hold", "fence", "key", "gate", "first_lease", "end"];
    expect(phasesOf(event, order)).toEqual(order);
    expect(event.phases_ms["first_answer"]).toBeGreaterThanOrEqual(event.phases_ms["first_lease"] ?? Number.NaN);
    expect(event).toMatchObject({
      kind: "switchover",
      cause: "announced",
      old_leader: { member: leader },
      new_leader: { member: successor, epoch: event.old_leader.epoch + 1 },
      clients: { held: 5, held_at_once: 5, held_now: 0 },
      avoided: { waited: 5, rerun: 0 },
      errors: [{ code: "leader_changed", sqlstate: "40001", count: 1 }],
    });
    expect(event.new_leader?.timeline).toBeGreaterThan(event.old_leader.timeline ?? Number.NaN);
    const { code, out } = await cli("events", "-c", pgsteer.configurationFile, "--limit", "1");
    expect(code).toBe(0);
    expect(out).toMatch(new RegExp(`^#${event.id} SWITCHOVER +demo: ${leader} → ${successor} `));
    expect(out).toMatch(/errors +1: 1 × 40001 /);
    const said = `switchover: ${successor} leads in place of ${leader} after `;
    expect(pgsteer.process.tail(50)).toContain(said);
    await cluster.waitHealthy();
  }, 180_000);

  test("that is none, because PostgreSQL was killed and started again in place, leaves one too", async () => {
    const leader = await cluster.requireLeader();
    const metrics = async () => (await get(`${pgsteer.httpUrl}/metrics`))[1];
    const held = async () =>
      Number(/^pgsteer_failover_held_total\{cluster="demo"\} (\d+)$/m.exec(await metrics())?.[1]);
    const before = { id: (await events())[0]?.id ?? 0, held: await held() };
    const writers = await five();
    for (const writer of writers) await insert(writer);
    let answers: Promise<unknown>[] = [];
    const follower = spawn(process.execPath, [main, "events", pgsteer.httpUrl, "--follow", "--limit", "1"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    children.push(follower);
    let followed = "";
    follower.stdout.on("data", (chunk) => {
      followed += chunk.toString();
    });
    const tells = (text: string) =>
      waitFor(() => followed.includes(text), {
        timeoutMs: 40_000,
        what: `"${text}" is followed; so far:\n${followed}`,
      });
    await tells("SWITCHOVER");
    cluster.freezePatroni(leader);
    try {
      await cluster.killPostgres(leader);
      await newest("the loss is known", ({ going, id }) => going && id > before.id);
      answers = writers.map(insert);
      const going = await newest("all wait", ({ clients }) => clients.held_now === 5);
      expect([going.kind, going.ended, going.away_ms]).toEqual(["away", null, null]);
      expect(await metrics()).toContain('pgsteer_failover_going{cluster="demo"} 1\n');
      await tells("STILL GOING ON");
    } finally {
      cluster.thawPatroni(leader);
    }
    await Promise.all(answers);
    const event = await newest("the record is over", ({ going, id }) => !going && id > before.id);
    const order = ["first_sign", "first_hold", "gate", "first_lease", "end"];
    expect(phasesOf(event, [...order, "key_gone", "key", "fence"])).toEqual(order);
    expect(event).toMatchObject({
      kind: "away",
      old_leader: { member: leader },
      new_leader: { member: leader },
      clients: { held: 5, held_at_once: 5 },
      avoided: { waited: 5 },
      errors: [],
    });
    expect(event.cause).toMatch(/^(connection_lost|connection_refused|probe_failed)$/);
    expect(await held()).toBe(before.held + 5);
    const text = await waitFor(() => /it was +LEADER AWAY.*\n\n$/s.exec(followed)?.[0], {
      timeoutMs: 40_000,
      what: "its end",
    });
    expect(text).toContain("errors        none");
    expect(await metrics()).toMatch(/^pgsteer_failover_phase_seconds_count\{cluster="demo",phase="gate"\} [2-9]$/m);
  }, 180_000);
});
