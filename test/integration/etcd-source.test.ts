import { execFile } from "node:child_process";
import { rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { EtcdConnection } from "../../src/discovery/etcd-connection.ts";
import { EtcdSource, type EtcdSourceOptions, type KeyState } from "../../src/discovery/etcd-source.ts";
import { makeCertificates } from "../support/certificates.ts";
import { Etcd } from "../support/etcd.ts";
import { freePort } from "../support/ports.ts";
import { ProcessGroup, temporaryServerDirectory } from "../support/processes.ts";
import { waitFor } from "../support/time.ts";

const run = promisify(execFile);
const PREFIX = "/service/main/";
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function newGroup(): { readonly directory: string; readonly group: ProcessGroup } {
  const directory = temporaryServerDirectory("etcd");
  const group = new ProcessGroup(directory);
  cleanups.push(async () => {
    await group.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return { directory, group };
}

const startEtcd = (count = 1): Promise<Etcd> => Etcd.start(newGroup().group, count);

async function etcdctl(etcd: Etcd, ...words: readonly string[]): Promise<string> {
  const options = { env: { ...process.env, ETCDCTL_API: "3" } };
  return (await run("etcdctl", ["--endpoints", etcd.endpoints[0] ?? "", ...words], options)).stdout;
}

/** Turns authentication on: root may do everything, pgsteer may read the scope. */
async function demandLogin(etcd: Etcd): Promise<void> {
  await etcdctl(etcd, "role", "add", "reader");
  await etcdctl(etcd, "role", "grant-permission", "reader", "--prefix=true", "read", PREFIX);
  for (const [user, password, role] of [
    ["root", "secret", "root"],
    ["pgsteer", "pw", "reader"],
  ] as const) {
    await etcdctl(etcd, "user", "add", `${user}:${password}`);
    await etcdctl(etcd, "user", "grant-role", user, role);
  }
  await etcdctl(etcd, "auth", "enable");
}

const asRoot = (etcd: Etcd, ...words: readonly string[]): Promise<string> =>
  etcdctl(etcd, "--user", "root:secret", ...words);

interface Observed {
  readonly states: KeyState[];
  latest(): KeyState;
}

function follow(endpoints: readonly string[], options: Partial<EtcdSourceOptions> = {}): Observed {
  const states: KeyState[] = [];
  const source = new EtcdSource(
    systemClock,
    silentLogger,
    { endpoints, prefix: PREFIX, credentials: null, tls: null, ...options },
    (state) => states.push(state),
  );
  cleanups.push(() => source.close());
  source.start();
  const latest = (): KeyState => {
    const state = states.at(-1);
    if (state === undefined) throw new Error("no state yet");
    return state;
  };
  return { states, latest };
}

const SOON = 60_000;

async function until(seen: Observed, what: string, condition: (state: KeyState) => boolean): Promise<void> {
  try {
    await waitFor(() => condition(seen.latest()), { timeoutMs: SOON, intervalMs: 10, what });
  } catch (cause) {
    throw new Error(`${what}: the last state says "${seen.latest().reason}"`, { cause });
  }
}
const connects = (seen: Observed) => until(seen, "the source connects", ({ connected }) => connected);
const disconnects = (seen: Observed) => until(seen, "the source notices the loss", ({ connected }) => !connected);
const shows = (seen: Observed, key: string, value: string | undefined) =>
  until(seen, `${key} becomes ${value}`, ({ connected, keys }) => connected && keys.get(key)?.value === value);

/** Writes until an endpoint takes it: right after a fault the first attempts may fail. */
const put = (etcd: Etcd, key: string, value: string) =>
  waitFor(() => etcd.put(PREFIX + key, value).then(() => true), { timeoutMs: SOON, what: "etcd takes a write" });

/** Writes `leader` as fast as etcd takes it, until stopped. */
function writeWithoutPause(etcd: Etcd): () => Promise<number> {
  let running = true;
  let acknowledged = 0;
  const done = (async () => {
    for (let n = 1; running; n += 1) {
      await etcd.put(`${PREFIX}leader`, `v${n}`).then(
        () => {
          acknowledged += 1;
        },
        () => new Promise((resolve) => setTimeout(resolve, 20)),
      );
    }
  })();
  return async () => {
    running = false;
    await done;
    return acknowledged;
  };
}

/** Forwards to a local port; each link can be made to swallow everything from then on, without closing. */
async function startProxy(port: number): Promise<{ readonly port: number; readonly links: (() => void)[] }> {
  const links: (() => void)[] = [];
  const sockets: Socket[] = [];
  const server = createServer((down) => {
    const up = connect(port, "127.0.0.1");
    let dead = false;
    links.push(() => {
      dead = true;
    });
    sockets.push(down, up);
    for (const [from, to] of [
      [down, up],
      [up, down],
    ] as const) {
      from.on("data", (chunk) => dead || to.write(chunk));
      from.on("error", () => {});
      from.on("close", () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  return { port: address.port, links };
}

describe("etcd source", () => {
  test("shows what is there and every change after it", async () => {
    const etcd = await startEtcd();
    await put(etcd, "leader", "node1");
    await etcd.put("/service/main2/leader", "of another scope");
    const seen = follow(etcd.endpoints);
    await connects(seen);
    expect([...seen.latest().keys.keys()]).toEqual(["leader"]);
    await put(etcd, "members/node1", "{}");
    await shows(seen, "members/node1", "{}");
    await etcd.delete(`${PREFIX}leader`);
    await shows(seen, "leader", undefined);
    await put(etcd, "leader", "node2");
    await shows(seen, "leader", "node2");
    const entry = seen.latest().keys.get("leader");
    expect(entry?.createRevision).toBe(entry?.modRevision);
    expect(seen.states.some(({ revision }, i) => revision < (seen.states[i - 1]?.revision ?? 0n))).toBe(false);
  });

  test("waits for an etcd that comes up later", async () => {
    const etcd = await startEtcd();
    await etcd.kill();
    const seen = follow(etcd.endpoints);
    await until(seen, "it has tried", ({ reason }) => reason.includes("ECONNREFUSED"));
    expect(seen.latest().revision).toBe(0n);
    await etcd.launch();
    await put(etcd, "leader", "node1");
    await shows(seen, "leader", "node1");
  });

  test("survives kill -9 and a restart, and misses nothing that was written meanwhile", async () => {
    const etcd = await startEtcd();
    await put(etcd, "leader", "node1");
    const seen = follow(etcd.endpoints);
    await connects(seen);
    await etcd.kill();
    await disconnects(seen);
    expect(seen.latest().keys.get("leader")?.value).toBe("node1");
    await etcd.launch();
    await put(etcd, "leader", "node2");
    await shows(seen, "leader", "node2");
  });

  test("reads anew when its revisions were compacted away while it was disconnected", async () => {
    const etcd = await startEtcd(3);
    await put(etcd, "leader", "v0");
    const only = etcd.endpoints[2] ?? "";
    const seen = follow([only]);
    await connects(seen);
    etcd.freeze(2);
    await disconnects(seen);
    for (let n = 1; n <= 20; n += 1) await put(etcd, "leader", `v${n}`);
    const { header } = JSON.parse(await etcdctl(etcd, "get", `${PREFIX}leader`, "-w", "json"));
    await etcdctl(etcd, "compact", String(header.revision));
    etcd.thaw(2);
    await shows(seen, "leader", "v20");
    await put(etcd, "leader", "v21");
    await shows(seen, "leader", "v21");
  });

  test("notices a frozen etcd and comes back when it thaws", async () => {
    const etcd = await startEtcd();
    await put(etcd, "leader", "node1");
    const seen = follow(etcd.endpoints);
    await connects(seen);
    etcd.freeze();
    await disconnects(seen);
    etcd.thaw();
    await put(etcd, "leader", "node2");
    await shows(seen, "leader", "node2");
  });

  test("goes on with the other endpoints when one is dead and when one is frozen", async () => {
    const etcd = await startEtcd(3);
    await put(etcd, "leader", "node1");
    await etcd.kill(0);
    const seen = follow(etcd.endpoints);
    await connects(seen);
    await put(etcd, "leader", "node2");
    await shows(seen, "leader", "node2");
    await etcd.launch(0);
    // The first endpoint was dead, so the source is on the second now: freeze exactly that one.
    etcd.freeze(1);
    await put(etcd, "leader", "node3");
    await shows(seen, "leader", "node3");
    etcd.thaw(1);
  });

  test("says that it is disconnected when the quorum is lost, and converges when it returns", async () => {
    const etcd = await startEtcd(3);
    await put(etcd, "leader", "node1");
    const seen = follow(etcd.endpoints);
    await connects(seen);
    for (const node of [1, 2]) etcd.freeze(node);
    await disconnects(seen);
    for (const node of [1, 2]) etcd.thaw(node);
    await put(etcd, "leader", "node2");
    await shows(seen, "leader", "node2");
  });

  test("logs in again when a restart has made its token invalid", async () => {
    const etcd = await startEtcd();
    await put(etcd, "leader", "node1");
    await demandLogin(etcd);
    const seen = follow(etcd.endpoints, { credentials: { user: "pgsteer", password: "pw" } });
    await shows(seen, "leader", "node1");
    await etcd.kill();
    await disconnects(seen);
    await etcd.launch();
    for (const value of ["node2", "node3"]) {
      await waitFor(() => asRoot(etcd, "put", `${PREFIX}leader`, value), { timeoutMs: SOON, what: "etcd serves" });
      await shows(seen, "leader", value);
    }
  });

  test("keeps a watch on which nothing happens: etcd cuts off who pings more often than every five seconds", async () => {
    const seen = follow((await startEtcd()).endpoints);
    await connects(seen);
    const before = seen.states.length;
    await new Promise((resolve) => setTimeout(resolve, 14_000));
    expect(seen.states.slice(before).filter(({ connected }) => !connected)).toEqual([]);
  });

  test("says why when its password is wrong, without the password", async () => {
    const etcd = await startEtcd();
    await demandLogin(etcd);
    const seen = follow(etcd.endpoints, { credentials: { user: "root", password: "wrong-one" } });
    await until(seen, "it was refused", ({ reason }) => reason.includes("authentication failed"));
    expect(seen.latest().reason).not.toContain("wrong-one");
  });

  test("does not stay cancelled when its right to read is taken away and given back", async () => {
    const etcd = await startEtcd();
    await put(etcd, "leader", "node1");
    await demandLogin(etcd);
    const seen = follow(etcd.endpoints, { credentials: { user: "pgsteer", password: "pw" } });
    await shows(seen, "leader", "node1");
    await asRoot(etcd, "user", "revoke-role", "pgsteer", "reader");
    await disconnects(seen);
    await asRoot(etcd, "user", "grant-role", "pgsteer", "reader");
    await asRoot(etcd, "put", `${PREFIX}leader`, "node2");
    await shows(seen, "leader", "node2");
  });

  test("loses nothing between read and watch while a writer never pauses and faults happen", async () => {
    const etcd = await startEtcd();
    const stop = writeWithoutPause(etcd);
    cleanups.push(stop);
    const seen = follow(etcd.endpoints);
    await connects(seen);
    for (const fault of ["kill", "freeze", "kill", "freeze"] as const) {
      if (fault === "kill") await etcd.kill();
      else etcd.freeze();
      await disconnects(seen);
      if (fault === "kill") await etcd.launch();
      else etcd.thaw();
      await etcd.ready();
      await connects(seen);
    }
    expect(await stop()).toBeGreaterThan(0);
    // A write that was not acknowledged may have happened too: what etcd says is the truth.
    await shows(seen, "leader", (await etcd.get(`${PREFIX}leader`))?.value);
    const versions = seen.states.map(({ keys }) => Number(keys.get("leader")?.value.slice(1) ?? 0));
    expect(versions.some((version, i) => version < (versions[i - 1] ?? 0))).toBe(false);
  });

  test("shows what a watch that has died silently did not bring, and makes a new one", async () => {
    const etcd = await startEtcd();
    await put(etcd, "leader", "node1");
    const proxy = await startProxy(Number(new URL(etcd.endpoints[0] ?? "").port));
    const seen = follow([`http://127.0.0.1:${proxy.port}`], { keepaliveTimeMs: 600_000 });
    await connects(seen);
    expect(proxy.links.length).toBe(2);
    // Reads and the watch have a connection each, the watch's being the later one.
    proxy.links[1]?.();
    await put(etcd, "leader", "node2");
    await shows(seen, "leader", "node2");
    await disconnects(seen);
    expect(seen.latest().reason).toContain("silent");
    await connects(seen);
    await put(etcd, "leader", "node3");
    await shows(seen, "leader", "node3");
  });

  test("ends a watch from a compacted revision, saying so", async () => {
    const etcd = await startEtcd();
    for (let n = 0; n < 5; n += 1) await put(etcd, "leader", `v${n}`);
    await etcdctl(etcd, "compact", "4");
    const connection = new EtcdConnection(systemClock, {
      endpoint: etcd.endpoints[0] ?? "",
      prefix: PREFIX,
      credentials: null,
      tls: null,
      callTimeoutMs: 2000,
      keepaliveTimeMs: 3000,
      keepaliveTimeoutMs: 2000,
    });
    cleanups.push(() => connection.close());
    const reason = await new Promise<string>((resolve, reject) => {
      const ignore = (): void => {};
      const sink = { onCreated: ignore, onChanges: ignore, onProgress: ignore, onEnd: resolve };
      connection.watch(2n, sink).catch(reject);
    });
    expect(reason).toContain("compacted at 4");
  });

  test("speaks TLS with a client certificate, and refuses a server that it cannot verify", async () => {
    const { directory, group } = newGroup();
    const { client: pems } = await makeCertificates(directory);
    const url = `https://127.0.0.1:${await freePort()}`;
    const peer = `http://127.0.0.1:${await freePort()}`;
    const path = (name: string): string => join(directory, name);
    const elsewhere = url.replace("127.0.0.1", "127.0.0.2");
    const listen = `${url},${elsewhere}`;
    const words = ["--data-dir", path("data"), "--listen-client-urls", listen, "--advertise-client-urls", url];
    words.push(
      "--listen-peer-urls",
      peer,
      "--initial-advertise-peer-urls",
      peer,
      "--initial-cluster",
      `default=${peer}`,
    );
    words.push("--cert-file", path("server.crt"), "--key-file", path("server.key"));
    words.push("--trusted-ca-file", path("ca.crt"), "--client-cert-auth");
    await group.start("etcd", words, { name: "etcd" });
    const seen = follow([url], { tls: pems });
    await connects(seen);
    const secure = [
      "--endpoints",
      url,
      "--cacert",
      path("ca.crt"),
      "--cert",
      path("client.crt"),
      "--key",
      path("client.key"),
    ];
    await run("etcdctl", [...secure, "put", `${PREFIX}leader`, "node1"], { env: { ...process.env, ETCDCTL_API: "3" } });
    await shows(seen, "leader", "node1");

    const distrusts = follow([url], { tls: { ...pems, ca: null } });
    await until(distrusts, "it was refused", ({ reason }) => reason.includes("certificate"));
    // The certificate is for 127.0.0.1 alone.
    const misled = follow([elsewhere], { tls: pems });
    await until(misled, "it was refused", ({ reason }) => reason.includes("does not match certificate"));
    const anonymous = follow([url], { tls: { ca: pems.ca, cert: null, key: null } });
    await until(anonymous, "it has tried", ({ reason }) => reason.includes(url));
    expect(anonymous.states.some(({ connected }) => connected)).toBe(false);
  });
});
