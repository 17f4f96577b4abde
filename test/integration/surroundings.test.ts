// What pgsteer does when something around it is missing or full: no replica, no room, no leader, no etcd, no Patroni, no usable
// configuration. Clients get an answer in bounded time that says what is missing, and it comes good by itself.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { Companion } from "../support/companion.ts";
import { type Pgsteer, projectRoot, startPgsteer } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import { errorFields, frontend, outline, RawClient, startup } from "../support/raw-client.ts";
import { connect, type Login, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

let cluster: Cluster;
let pgsteer: Pgsteer;
let companion: Companion;

beforeAll(async () => {
  // Patroni shall bear a moment without etcd: it gives up its leader after retry_timeout.
  cluster = await startCluster({ members: 1, patroni: { ttl: 60, retryTimeout: 25 } });
  pgsteer = await startPgsteer(cluster, {
    ready: "sql",
    configure: ({ pool }) => {
      pool["query_wait_timeout"] = "2s";
    },
  });
  companion = new Companion(pgsteer.login("write"));
});

afterAll(async () => {
  await companion?.stop();
  await cluster?.remove();
});

/** The error with which a login ends. */
async function refusal(login: Login, parameters: Readonly<Record<string, string>> = {}) {
  const client = await RawClient.open(login.port, login.host);
  try {
    client.send(startup({ user: login.user, database: login.database, ...parameters }));
    const seen = await client.authenticate(login.user, login.password);
    const last = seen.at(-1);
    if (last?.type !== "E") throw new Error(`no error: ${outline(seen).join(", ")}`);
    expect(await client.next()).toBe(null);
    const { V, C, M, D, H } = errorFields(last.body);
    return { severity: V, code: C, text: M, detail: D, hint: H };
  } finally {
    client.destroy();
  }
}

describe("a listener", () => {
  test("for reads without a replica asks the leader, or waits, as it is told", async () => {
    const port = await freePort();
    const other = await startPgsteer(cluster, {
      name: "fallback",
      ready: "sql",
      configure: ({ listeners, pool }) => {
        listeners.push({ name: "strict", address: "127.0.0.1", port, route: "read", fallback: "none" });
        pool["query_wait_timeout"] = "1s";
      },
    });
    const { rows } = await queryOnce(other.login("read"), "SELECT pg_is_in_recovery() AS recovery");
    expect(rows).toEqual([{ recovery: false }]);
    const answer = await refusal({ host: "127.0.0.1", port, ...APPLICATION });
    expect(answer).toMatchObject({ severity: "FATAL", code: "57P03" });
    expect(answer.detail).toMatch(/no replica/);
    await other.stop();
  });

  test("takes max_client_conn clients, and no more until one leaves", async () => {
    const other = await startPgsteer(cluster, {
      name: "narrow",
      ready: "sql",
      configure: ({ pool }) => {
        pool["max_client_conn"] = 2;
      },
    });
    // The login that made sure that it serves may just be leaving.
    const first = await waitFor(() => connect(other.login("write")), { timeoutMs: 30_000, what: "the first client" });
    const second = await waitFor(() => connect(other.login("auto")), { timeoutMs: 30_000, what: "the second client" });
    const third = await RawClient.open(other.ports.read);
    third.send(startup({ user: "app", database: "app" }));
    const seen = await third.untilEnd();
    expect(outline(seen)).toEqual(["E FATAL 53300", "EOF"]);
    expect(errorFields(seen[0]?.body ?? Buffer.alloc(0))["M"]).toBe("sorry, too many clients already");
    await first.client.end();
    const next = await waitFor(() => connect(other.login("read")), { timeoutMs: 30_000, what: "there is room again" });
    expect((await second.client.query("SELECT 1 AS n")).rows).toEqual([{ n: 1 }]);
    next.destroy();
    second.destroy();
    await other.stop();
  });
});

describe("a configuration that cannot be used", () => {
  /** Runs pgsteer until it ends by itself. */
  async function run(file: string): Promise<{ code: unknown; output: string }> {
    const main = join(projectRoot, "src", "cli", "main.ts");
    const child = spawn(process.execPath, [main, "run", "-c", file], { stdio: ["ignore", "pipe", "pipe"] });
    const ended = once(child, "exit");
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk));
    const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
    const [code] = await ended;
    clearTimeout(timer);
    return { code, output };
  }

  test("ends the start with the line, the key and the remedy of each mistake", async () => {
    const file = join(cluster.directory, "wrong.yaml");
    const right = readFileSync(pgsteer.configurationFile, "utf8");
    const wrong = right.replace("default_pool_size:", "default_pol_size:").replace("route: auto", "route: automatic");
    writeFileSync(file, wrong);
    const { code, output } = await run(file);
    expect(code).toBe(78);
    const lineOf = (text: string) => wrong.slice(0, wrong.indexOf(text)).split("\n").length;
    expect(output).toContain(`${file}:${lineOf("default_pol_size")}:`);
    expect(output).toContain(`${file}:${lineOf("route: automatic")}:`);
    for (const wanted of ["pool.default_pol_size", "default_pool_size", "listeners[0].route", "auto"]) {
      expect(output).toContain(wanted);
    }
    expect(output.match(/remedy: /g)).toHaveLength(2);
  });

  test("names the file that is not there", async () => {
    const { code, output } = await run(join(cluster.directory, "missing.yaml"));
    expect(code).toBe(78);
    expect(output).toContain("missing.yaml");
    expect(output).not.toContain("    at ");
  });

  test("names the port that is taken", async () => {
    const { code, output } = await run(pgsteer.configurationFile);
    expect(code).toBe(1);
    expect(output).toContain(`127.0.0.1:${pgsteer.ports.auto}`);
  });
});

/** Waits until Patroni has been through its loop as the leader: before, it would not bear to be without etcd. */
async function patroniLeads(): Promise<void> {
  const node1 = cluster.member("node1");
  const loops = () => node1.tail(Number.MAX_SAFE_INTEGER).split("the leader with the lock").length;
  const before = loops();
  await waitFor(() => loops() > before + 1, { timeoutMs: 60_000, what: `node1 leads; its log ends:\n${node1.tail()}` });
}

describe("without its surroundings pgsteer", { timeout: 180_000 }, () => {
  test("goes on while Patroni's REST API is away", async () => {
    await cluster.killPatroni("node1");
    const silent = new Companion(pgsteer.login("write"));
    await silent.goesOn(100);
    await cluster.startMember("node1");
    await silent.goesOn(100);
    await patroniLeads();
    await silent.stop();
    await companion.goesOn();
  });

  test("goes on while etcd is away for a moment", async () => {
    await cluster.stopEtcd();
    await companion.goesOn(50).finally(() => cluster.startEtcd());
    await cluster.etcd.ready();
    await companion.goesOn(50);
    await patroniLeads();
  });

  test("lets clients wait for a leader, and says why when the wait is over", async () => {
    await companion.stop();
    const client = await RawClient.login(pgsteer.login("write"));
    await cluster.stopMember("node1");
    client.send(frontend.query("SELECT 1"));
    const seen = await client.untilEnd();
    expect(outline(seen)).toEqual(["E FATAL 57P03", "EOF"]);
    const { M, D } = errorFields(seen[0]?.body ?? Buffer.alloc(0));
    expect(M).toBe("query_wait_timeout");
    expect(D).toMatch(/leader/);
    const other = await refusal({ ...pgsteer.login("write"), database: "postgres" });
    expect(other).toMatchObject({ severity: "FATAL", code: "57P03", text: "query_wait_timeout" });
    expect(other.detail).toMatch(/leader/);
    await cluster.startMember("node1");
    await waitFor(() => queryOnce(pgsteer.login("write"), "SELECT 1"), { timeoutMs: 60_000, what: "it serves again" });
  });

  test("does not repeat a write that a read listener, without a replica, gave to the leader", async () => {
    const login = cluster.login("node1", APPLICATION);
    await waitFor(() => queryOnce(login, "CREATE TABLE IF NOT EXISTS once (n int)"), {
      timeoutMs: 30_000,
      what: "it writes",
    });
    const procedure = "BEGIN INSERT INTO once VALUES (1); COMMIT; PERFORM pg_sleep(60); END";
    await queryOnce(login, `CREATE PROCEDURE commits() LANGUAGE plpgsql AS '${procedure}'`);
    const client = await RawClient.login(pgsteer.login("read"));
    client.send(frontend.query("CALL commits()"));
    const count = async () => (await queryOnce(login, "SELECT count(*)::int AS n FROM once")).rows[0]?.["n"];
    await waitFor(async () => (await count()) === 1, { timeoutMs: 30_000, what: "the row is committed" });
    await cluster.killPostgres("node1");
    expect(outline(await client.untilEnd())).toEqual(["E FATAL 08007", "EOF"]);
    await cluster.waitHealthy();
    await queryOnce(pgsteer.login("write"), "SELECT 1", [], 30_000);
    expect(await count()).toBe(1);
  });

  test("starts without etcd, answers, and comes good with it", async () => {
    await cluster.stopEtcd();
    const other = await startPgsteer(cluster, {
      name: "early",
      ready: "none",
      configure: ({ pool }) => {
        pool["query_wait_timeout"] = "1s";
      },
    });
    const answer = await waitFor(() => refusal(other.login("write")), { timeoutMs: 30_000, what: "it listens" });
    expect(answer).toMatchObject({ severity: "FATAL", code: "57P03", text: "query_wait_timeout" });
    expect(answer.detail).not.toBe(undefined);
    await cluster.startEtcd();
    await waitFor(() => queryOnce(other.login("write"), "SELECT 1"), { timeoutMs: 60_000, what: "it serves" });
    await other.stop();
  });

  test("starts with a Patroni that nobody hears, and answers", async () => {
    const other = await startPgsteer(cluster, {
      name: "deaf",
      ready: "none",
      configure: ({ clusters, pool }) => {
        const { probe } = clusters["demo"] ?? {};
        clusters["demo"] = { source: "patroni", patroni: { urls: ["http://127.0.0.1:9"] }, probe };
        pool["query_wait_timeout"] = "1s";
      },
    });
    const answer = await waitFor(() => refusal(other.login("write")), { timeoutMs: 30_000, what: "it listens" });
    expect(answer).toMatchObject({ severity: "FATAL", code: "57P03", text: "query_wait_timeout" });
    await other.stop();
  });
});
