// Where clients come from and where servers are: Unix-domain sockets, IPv6, behind a load balancer that speaks the PROXY protocol.

import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, connect as dial, type ListenOptions, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { socketPath } from "../../src/core/addresses.ts";
import { untilRuns } from "../support/activity.ts";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, type PgsteerConfiguration, projectRoot, startPgsteer } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import { psql, runProgram } from "../support/programs.ts";
import { proxyHeader2 } from "../support/proxy-header.ts";
import { frontend, int32, message, outline, RawClient, startup } from "../support/raw-client.ts";
import { codeOf, type Login, queryOnce } from "../support/sql.ts";
import { sleep, waitFor } from "../support/time.ts";

let cluster: Cluster;
let pgsteer: Pgsteer;
/** Of sockets; short, for their paths have a limit. */
let directory: string;
const relays: Server[] = [];
const relayed = new Set<Socket>();
const opened: RawClient[] = [];
const ports = { local: 0, six: 0, proxy: 0, stranger: 0, behindSocket: 0, behindSix: 0, haproxy1: 0, haproxy2: 0 };

/** Passes whatever connects to `where` on to PostgreSQL, byte for byte. */
async function relay(where: ListenOptions): Promise<void> {
  const { host, port } = cluster.login("node1");
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = dial({ host, port, allowHalfOpen: true });
    for (const each of [near, far]) {
      relayed.add(each);
      each.on("error", () => {});
      each.on("close", () => relayed.delete(each));
    }
    near.pipe(far);
    far.pipe(near);
  });
  relays.push(server);
  await new Promise<void>((resolve) => server.listen(where, resolve));
}

function configure({ clusters, listeners, pool }: PgsteerConfiguration): void {
  const probe = clusters["demo"]?.["probe"];
  const tls = { sslmode: "require" };
  const hosts = [`${directory}:${ports.behindSocket}`];
  clusters["socket"] = { source: "static", static: { hosts }, probe, server_tls: tls };
  clusters["six"] = { source: "static", static: { hosts: [`[::1]:${ports.behindSix}`] }, probe };
  for (const listener of listeners) listener["cluster"] = "demo";
  const door = (name: string, more: Record<string, unknown>): void => {
    listeners.push({ name, route: "write", ...more });
  };
  door("local", { address: directory, port: ports.local, unix_socket_mode: "0740", cluster: "socket" });
  door("six", { address: "::1", port: ports.six, cluster: "six" });
  const proxied = { cluster: "demo", proxy_protocol: "require" };
  door("proxy", { port: ports.proxy, ...proxied, proxy_protocol_from: ["127.0.0.0/8"] });
  door("stranger", { port: ports.stranger, ...proxied, proxy_protocol_from: ["10.0.0.0/8"] });
  Object.assign(pool, { application_name_add_host: true, tcp_keepidle: "45s", tcp_keepintvl: 5, tcp_keepcnt: 3 });
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "pgs-"));
  for (const name of Object.keys(ports) as (keyof typeof ports)[]) ports[name] = await freePort();
  cluster = await startCluster({ members: 1 });
  await relay({ path: socketPath(directory, ports.behindSocket) });
  await relay({ host: "::1", port: ports.behindSix });
  pgsteer = await startPgsteer(cluster, { ready: "sql", configure });
});

afterEach(() => {
  for (const client of opened.splice(0)) client.destroy();
});

afterAll(async () => {
  for (const server of relays) server.close();
  for (const socket of relayed) socket.destroy();
  await cluster?.remove();
  rmSync(directory, { recursive: true, force: true });
});

const login = (port: number, host = "127.0.0.1"): Login => ({ host, port, ...APPLICATION });

async function open(port: number): Promise<RawClient> {
  const client = await RawClient.open(port);
  opened.push(client);
  return client;
}

async function applicationName(where: Login): Promise<unknown> {
  return (await queryOnce(where, "SHOW application_name")).rows[0]?.["application_name"];
}

/** The value of a counter of one listener; 0 while there is none. */
async function counter(name: string, listener: string, more = ""): Promise<number> {
  const text = await (await fetch(`${pgsteer.httpUrl}/metrics`)).text();
  const line = text
    .split("\n")
    .find((each) => each.startsWith(`${name}{`) && each.includes(`listener="${listener}"${more}`));
  return Number(line?.split(" ").at(-1) ?? 0);
}

describe("a Unix-domain socket", () => {
  const path = () => socketPath(directory, ports.local);

  test("takes clients, and leads to servers behind another one, where sslmode means nothing", async () => {
    expect(statSync(path()).mode & 0o777).toBe(0o740);
    const { code, stdout, stderr } = await psql(login(ports.local, directory), ["-c", "SHOW application_name"]);
    expect([code, stdout, stderr]).toEqual([0, "psql - unix\n", ""]);
    expect(await queryOnce({ ...login(ports.local, directory), password: "wrong" }, "SELECT 1").catch(codeOf)).toBe(
      "28P01",
    );
  });

  test("passes a cancel request on, through the server's socket too", async () => {
    const where = login(ports.local, directory);
    const script = "SELECT 'x' FROM pg_sleep(30)";
    let pid = 0;
    const running = psql(where, ["-c", script], {
      started: (started) => {
        pid = started;
      },
    });
    const asleep = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND wait_event = 'PgSleep'";
    await waitFor(async () => (await cluster.sql("node1", asleep)).rows.length > 0, {
      timeoutMs: 30_000,
      what: "it sleeps",
    });
    process.kill(pid, "SIGINT");
    expect((await running).stderr).toContain("canceling statement due to user request");
  });

  test("is shown by status and check, and its member by its path", async () => {
    const main = `${projectRoot}/src/cli/main.ts`;
    const status = await runProgram(process.execPath, [main, "status", "--url", pgsteer.httpUrl]);
    for (const shown of [
      path(),
      socketPath(directory, ports.behindSocket),
      `[::1]:${ports.six}`,
      `[::1]:${ports.behindSix}`,
    ]) {
      expect(status.stdout).toContain(shown);
    }
    const check = await runProgram(process.execPath, [main, "check", "-c", pgsteer.configurationFile]);
    expect(check.stdout).toContain(`listener local: ${path()}, route write`);
    expect(check.stdout).toContain(`listener six: [::1]:${ports.six}, route write`);
  });
});

describe("IPv6", () => {
  test("leads in and out, and is written in brackets", async () => {
    expect(await applicationName(login(ports.six, "::1"))).toMatch(/^pgsteer-test - \[::1\]:\d+$/);
  });
});

describe("connections to clients and servers", () => {
  /** Timers of TCP connections of this machine, `02` being keepalive, by local and remote port. */
  function timer(localPort: number, remotePort: number | null): string[] {
    const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, "0");
    return readFileSync("/proc/net/tcp", "utf8")
      .split("\n")
      .map((line) => line.trim().split(/\s+/))
      .filter(([, near = "", far = "", state]) => {
        const remote = remotePort === null || far.endsWith(`:${hex(remotePort)}`);
        return state === "01" && remote && near.endsWith(`:${hex(localPort)}`);
      })
      .map((fields) => fields[5] ?? "");
  }

  test("are probed by TCP while they are idle, after tcp_keepidle", async () => {
    const client = await RawClient.login(login(pgsteer.ports.write));
    opened.push(client);
    await client.simple("BEGIN");
    const port = Number(await client.value("SELECT inet_client_port()"));
    await sleep(300);
    const { localPort = 0 } = client.socket;
    const timers = [timer(pgsteer.ports.write, localPort), timer(port, cluster.member("node1").port)].flat();
    expect(timers).toHaveLength(2);
    for (const each of timers) {
      const [kind, left = ""] = each.split(":");
      expect(kind).toBe("02");
      // In ticks of 10 ms.
      expect(Number.parseInt(left, 16)).toBeLessThanOrEqual(4500);
    }
    // Longer than the default.
    expect(Number.parseInt(timers[0]?.split(":")[1] ?? "", 16)).toBeGreaterThan(3000);
  });
});

describe("behind a load balancer", () => {
  const from = "192.0.2.7";
  const header1 = Buffer.from(`PROXY TCP4 ${from} 10.0.0.1 4711 5432\r\n`);
  const header2 = proxyHeader2(0x21, 0x11, Buffer.from([192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0x15, 0x38]));
  const hello = startup({ user: APPLICATION.user, database: APPLICATION.database });

  test.each([
    ["version 1", header1],
    ["version 2", header2],
    [
      "version 2 with extensions",
      Buffer.concat([header2.subarray(0, 15), Buffer.of(16), header2.subarray(16), Buffer.of(5, 0, 1, 7)]),
    ],
  ])("the client's own address is known (%s), however the header is cut", async (_name, header) => {
    for (const cut of [1, 6, 13, header.length, header.length + 3]) {
      const client = await open(ports.proxy);
      const bytes = Buffer.concat([header, hello]);
      client.send(bytes.subarray(0, cut));
      await sleep(5);
      client.send(bytes.subarray(cut));
      expect((await client.authenticate(APPLICATION.user, APPLICATION.password)).at(-1)?.type).toBe("Z");
      expect(await client.value("SHOW application_name")).toBe(`app - ${from}:4711`);
      client.destroy();
    }
  });

  test("a cancel request comes behind a header too, and the balancer's own connections are served", async () => {
    const client = await open(ports.proxy);
    client.send(proxyHeader2(0x20, 0), hello);
    const seen = await client.authenticate(APPLICATION.user, APPLICATION.password);
    expect(await client.value("SHOW application_name")).toBe(`app - 127.0.0.1:${client.socket.localPort}`);
    const running = client.simple("SELECT pg_sleep(30)");
    await untilRuns(cluster, "pg_sleep(30)");
    const request = await open(ports.proxy);
    const key = seen.find((each) => each?.type === "K")?.body ?? Buffer.alloc(0);
    request.send(header1, message("", int32(80_877_102), key));
    expect(await request.untilEnd()).toEqual([null]);
    expect(await running).toEqual(["T", "E ERROR 57014", "Z I"]);
  });

  test("whoever brings no header, or comes from elsewhere, is closed without a word, counted, and logged now and then", async () => {
    const errors = 'code="proxy_header_invalid"';
    const count = async () =>
      (await counter("pgsteer_errors_total", "proxy", `,${errors}`)) +
      (await counter("pgsteer_errors_total", "stranger", `,${errors}`));
    const before = await count();
    const cases = [
      [ports.proxy, hello],
      [ports.proxy, Buffer.from("PROXY TCP4 nonsense\r\n")],
      [ports.proxy, Buffer.from("GET / HTTP/1.1\r\n\r\n")],
      [ports.stranger, header1],
    ] as const;
    for (const [port, bytes] of cases) {
      const client = await open(port);
      client.send(bytes);
      expect(outline(await client.untilEnd())).toEqual(["EOF"]);
    }
    expect(await count()).toBe(before + cases.length);
    // Somebody who only looks whether anybody listens is no trouble.
    const looker = await open(ports.proxy);
    looker.socket.end();
    expect(outline(await looker.untilEnd())).toEqual(["EOF"]);
    expect(await count()).toBe(before + cases.length);
    const lines = readFileSync(pgsteer.log, "utf8").split("\n");
    expect(lines.filter((line) => line.includes("connections without PROXY header closed"))).toHaveLength(1);
    expect(lines.filter((line) => line.includes("login failed") && line.includes("PROXY"))).toEqual([]);
  });

  test("HAProxy itself, with send-proxy and send-proxy-v2, tells where its clients are", async () => {
    const file = join(cluster.directory, "haproxy.cfg");
    const service = (name: string, port: number, how: string) =>
      `listen ${name}\n  bind 127.0.0.1:${port}\n  server pgsteer 127.0.0.1:${ports.proxy} ${how}\n`;
    const defaults = "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n";
    const checked = "send-proxy-v2 check check-send-proxy inter 100 fall 1 rise 1";
    writeFileSync(
      file,
      defaults + service("one", ports.haproxy1, "send-proxy") + service("two", ports.haproxy2, checked),
    );
    const haproxy = await cluster.processes.start("/usr/sbin/haproxy", ["-db", "-f", file], { name: "haproxy" });
    const failed = await counter("pgsteer_client_login_failures_total", "proxy");
    try {
      for (const port of [ports.haproxy1, ports.haproxy2]) {
        const client = await waitFor(() => RawClient.login(login(port)), { timeoutMs: 30_000, what: haproxy.tail() });
        opened.push(client);
        expect(await client.value("SHOW application_name")).toBe(`app - 127.0.0.1:${client.socket.localPort}`);
        client.send(frontend.terminate());
        expect(await client.untilEnd()).toEqual([null]);
      }
      await sleep(300);
      expect(await counter("pgsteer_client_login_failures_total", "proxy")).toBe(failed);
    } finally {
      await haproxy.stop();
    }
  });
});
