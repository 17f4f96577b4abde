// What routers and commands do in etcd, on a real one: announcements that live as long as their router, requests of which there is one.

import { execFile } from "node:child_process";
import { rmSync } from "node:fs";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import { type Logger, silentLogger } from "../../src/core/logger.ts";
import { millis } from "../../src/core/units.ts";
import { Announcement, openEtcd } from "../../src/discovery/announcement.ts";
import { CommandSession } from "../../src/discovery/command-session.ts";
import { type CoordinationRequest, REQUEST_KEY, routerKey } from "../../src/discovery/coordination-keys.ts";
import type { TopologyFeed } from "../../src/discovery/feed.ts";
import type { Topology } from "../../src/discovery/topology.ts";
import { Coordinator } from "../../src/proxy/coordinator.ts";
import { Etcd } from "../support/etcd.ts";
import { ProcessGroup, temporaryServerDirectory } from "../support/processes.ts";
import { waitFor } from "../support/time.ts";

const run = promisify(execFile);
const PATRONI = "/service/main/";
const PREFIX = "/pgsteer/service/main/";
const KEY = routerKey("r1");
const pause: CoordinationRequest = { kind: "pause", id: "p1", by: "root@db1", since: "2026-11-20T20:00:00Z" };
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function startEtcd(): Promise<Etcd> {
  const directory = temporaryServerDirectory("etcd");
  const group = new ProcessGroup(directory);
  cleanups.push(async () => {
    await group.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return Etcd.start(group, 1);
}

const access = (etcd: Etcd) => ({ endpoints: etcd.endpoints, credentials: null, tls: null });
const textOf = async (etcd: Etcd, key: string) => (await etcd.get(`${PREFIX}${key}`))?.value ?? null;

async function stands(etcd: Etcd, key: string, value: string | null): Promise<void> {
  const what = `${key} is ${value}`;
  await waitFor(async () => (await textOf(etcd, key)) === value, { timeoutMs: 20_000, what });
}

function announce(etcd: Etcd, value: string, options: { logger?: Logger; ttlSeconds?: number } = {}): Announcement {
  const { logger = silentLogger, ttlSeconds = 2 } = options;
  const what = { etcd: access(etcd), prefix: PREFIX, key: KEY, ttlSeconds };
  const announcement = new Announcement(systemClock, logger, what, value);
  cleanups.push(() => announcement.close());
  announcement.start();
  return announcement;
}

/** etcd with users; the one returned may read Patroni's keys, and no more. */
async function allowReadingOnly(etcd: Etcd): Promise<{ user: string; password: string }> {
  const ctl = (...words: string[]) => run("etcdctl", ["--endpoints", etcd.endpoints[0] ?? "", ...words]);
  await ctl("role", "add", "reader");
  await ctl("role", "grant-permission", "reader", "--prefix=true", "read", PATRONI);
  for (const [user, role] of [
    ["root", "root"],
    ["pgsteer", "reader"],
  ] as const) {
    await ctl("user", "add", `${user}:secret`);
    await ctl("user", "grant-role", user, role);
  }
  await ctl("auth", "enable");
  return { user: "pgsteer", password: "secret" };
}

describe("an announcement", () => {
  test("says what it is told, outlives its lease's time, and is taken back", { timeout: 60_000 }, async () => {
    const etcd = await startEtcd();
    const announcement = announce(etcd, "one");
    await stands(etcd, KEY, "one");
    announcement.say("two");
    await stands(etcd, KEY, "two");
    const ended: string[] = [];
    const stop = await etcd.watch(PREFIX, ({ value }) => ended.push(value ?? "deleted"));
    const started = performance.now();
    await waitFor(() => performance.now() - started > 4_000, { timeoutMs: 10_000, what: "two leases have passed" });
    expect(ended).toEqual([]);
    stop();
    await announcement.close();
    expect(await textOf(etcd, KEY)).toBe(null);
  });

  test("is made again after etcd was away, with what is true then", { timeout: 60_000 }, async () => {
    const etcd = await startEtcd();
    const announcement = announce(etcd, "one");
    await stands(etcd, KEY, "one");
    await etcd.stop();
    announcement.say("two");
    await etcd.launch();
    await stands(etcd, KEY, "two");
  });

  test("that etcd does not allow is complained of once", { timeout: 60_000 }, async () => {
    const etcd = await startEtcd();
    const ctl = (...words: string[]) => run("etcdctl", ["--endpoints", etcd.endpoints[0] ?? "", ...words]);
    await ctl("user", "add", "root:secret");
    await ctl("user", "grant-role", "root", "root");
    await ctl("auth", "enable");
    const warnings: string[] = [];
    let attempts = 0;
    const logger: Logger = {
      ...silentLogger,
      warn: (_fields, message) => warnings.push(message),
      debug: () => {
        attempts += 1;
      },
    };
    announce(etcd, "one", { logger });
    await waitFor(() => attempts >= 2, { timeoutMs: 20_000, what: "it is tried again" });
    expect(warnings).toEqual([expect.stringContaining("cannot announce itself in etcd")]);
  });
});

describe("an announcement that etcd has refused", () => {
  test("is not tried at once because it would say something else", { timeout: 60_000 }, async () => {
    const etcd = await startEtcd();
    const credentials = await allowReadingOnly(etcd);
    const reasons: string[] = [];
    const note: Logger["debug"] = (fields) => reasons.push(JSON.stringify(fields));
    const what = { etcd: { ...access(etcd), credentials }, prefix: PREFIX, key: KEY, ttlSeconds: 2 };
    const announcement = new Announcement(systemClock, { ...silentLogger, debug: note, warn: note }, what, "one");
    cleanups.push(() => announcement.close());
    announcement.start();
    const refused = () => reasons.some((reason) => reason.includes("permission denied"));
    await waitFor(refused, { timeoutMs: 30_000, what: "it is refused" });
    const attempts = reasons.length;
    announcement.say("two");
    const started = performance.now();
    await waitFor(() => performance.now() - started > 2_000, { timeoutMs: 5_000, what: "two seconds have passed" });
    expect(reasons.slice(attempts)).toEqual([]);
  });
});

describe("a router that etcd does not allow below our prefix", () => {
  test("serves at once, and asks seldom", { timeout: 60_000 }, async () => {
    const etcd = await startEtcd();
    const credentials = await allowReadingOnly(etcd);
    const lines: string[] = [];
    const note: Logger["debug"] = (fields, message) => lines.push(`${message} ${JSON.stringify(fields)}`);
    const logger: Logger = { ...silentLogger, debug: note, warn: note };
    const leader = { kind: "writable", member: "a", epoch: { timeline: 1, revision: 1n, sequence: 1 } } as const;
    const source = { kind: "etcd", connected: true, confirmedAt: systemClock.now(), reason: "" } as const;
    const topology: Topology = { cluster: "main", leader, members: new Map(), source, paused: false };
    const feed: TopologyFeed = {
      current: () => topology,
      subscribe: () => () => {},
      setUrgent: () => {},
      report: () => {},
    };
    const router = { id: "r1", version: "0", host: "h", http: null };
    const options = { etcd: { ...access(etcd), credentials }, patroniPrefix: PATRONI, router };
    // Before the time is over that a router waits for etcd's answer.
    const clock: Clock = { ...systemClock, now: () => millis(0) };
    const coordinator = new Coordinator(clock, logger, feed, options);
    cleanups.push(() => coordinator.close());
    coordinator.start({ steering: { pools: () => [], heldCount: 0 }, clients: () => [] });
    expect(coordinator.current().leader.kind).toBe("draining");
    const serves = () => coordinator.standing.state === "serving" && coordinator.current().leader.kind === "writable";
    await waitFor(serves, { timeoutMs: 30_000, what: "it serves" });
    const refused = () => lines.some((line) => /cannot announce itself in etcd.*permission denied/.test(line));
    await waitFor(refused, { timeoutMs: 30_000, what: "it says that it was refused" });
    const said = lines.length;
    const started = performance.now();
    await waitFor(() => performance.now() - started > 2_000, { timeoutMs: 5_000, what: "two seconds have passed" });
    expect(lines.slice(said)).toEqual([]);
  });
});

describe("a request", () => {
  async function session(etcd: Etcd): Promise<CommandSession> {
    const opened = new CommandSession(systemClock, { etcd: access(etcd), patroniPrefix: PATRONI });
    cleanups.push(() => opened.close());
    expect(await opened.open()).toBe(null);
    return opened;
  }

  test("is the only one, until it is withdrawn", { timeout: 60_000 }, async () => {
    const etcd = await startEtcd();
    const [first, second] = [await session(etcd), await session(etcd)];
    expect(await first.place(pause, true)).toBe(true);
    expect(await second.place({ ...pause, id: "p2" }, true)).toBe(false);
    expect((await second.confirm()).coordination.request).toEqual(pause);
    expect([(await first.confirm()).stands, (await second.confirm()).stands]).toEqual([true, false]);
    expect(await second.remove(1n)).toBe(false);
    expect(await first.withdraw()).toBe(null);
    await second.until(() => second.coordination.request === null, 10_000);
    expect(await second.place({ ...pause, id: "p2" }, false)).toBe(true);
  });

  test("without a lease outlives its command", { timeout: 60_000 }, async () => {
    const etcd = await startEtcd();
    const lasting = await session(etcd);
    await lasting.place(pause, false);
    lasting.close();
    const connection = openEtcd(systemClock, access(etcd), PREFIX, etcd.endpoints[0] ?? "");
    cleanups.push(() => connection.close());
    const { keys } = await connection.read();
    expect(JSON.parse(keys.get(REQUEST_KEY)?.value ?? "")).toEqual(pause);
    // A lease that it does have is renewed, and known to have ended.
    const lease = await connection.grant(60);
    expect(await connection.renew(lease)).toBe(true);
    await connection.revoke(lease);
    expect(await connection.renew(lease)).toBe(false);
  });

  test("whose lease cannot be renewed is no longer relied on", { timeout: 60_000 }, async () => {
    const etcd = await startEtcd();
    const lost = await session(etcd);
    await lost.place(pause, true);
    await etcd.stop();
    expect(await lost.until(() => lost.lost !== null, 30_000)).toBe(true);
    expect(await lost.withdraw()).not.toBe(null);
  });
});
