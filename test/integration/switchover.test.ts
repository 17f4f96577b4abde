// `pgsteer switchover`, `pause` and `resume` on a real cluster behind two routers, with clients whose transactions take seconds: none
// of them sees an error, whether the switchover happens or is called off.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { topologySchema } from "../../src/admin/topology-document.ts";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { runCommand, startCommand } from "../support/command.ts";
import { Link } from "../support/link.ts";
import { createLongTable, LongTransactions } from "../support/long-transactions.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { connect, query, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

const SECONDS = 2;
const CLIENTS = 50;
const announcement = z.object({ state: z.string(), request: z.string().nullable(), http: z.string() });

describe("two routers and clients with long transactions", () => {
  let cluster: Cluster;
  let routers: Pgsteer[];
  let file: string;
  /** Between etcd and the two routers, and their commands. */
  let link: Link;

  beforeAll(async () => {
    cluster = await startCluster({ members: 2 });
    const [endpoint] = cluster.etcdEndpoints;
    link = await Link.to(endpoint ?? "");
    const start = (name: string) =>
      startPgsteer(cluster, {
        name,
        configure: ({ clusters, pool }) => {
          pool["default_pool_size"] = 40;
          clusters["demo"] = { ...clusters["demo"], etcd: { endpoints: [link.url] } };
        },
      });
    routers = await Promise.all([start("one"), start("two")]);
    file = routers[0]?.configurationFile ?? "";
    await createLongTable(cluster.login(await cluster.requireLeader(), APPLICATION));
    await announced(2);
  });

  afterAll(async () => {
    link?.close();
    await cluster?.remove();
  });

  const keys = () => cluster.etcd.list(`/pgsteer${cluster.prefix}`);

  async function states(): Promise<string[]> {
    const routers = [...(await keys())].filter(([key]) => key.includes("/routers/"));
    return routers.map(([, { value }]) => announcement.parse(JSON.parse(value)).state);
  }

  async function announced(count: number, state = "serving"): Promise<void> {
    const what = `${count} routers are ${state}`;
    const there = async () => {
      const all = await states();
      return all.length === count && all.every((each) => each === state);
    };
    await waitFor(there, { timeoutMs: 20_000, what });
  }

  const writers = () => routers.map((router) => router.login("write"));

  /** Starts the clients and waits until each is at work. */
  async function clients(base: number, count: number, seconds: number): Promise<LongTransactions> {
    const load = new LongTransactions(seconds, base);
    load.start(count, writers());
    await waitFor(() => load.open === count || load.errors.length > 0, { timeoutMs: 20_000, what: "all are at work" });
    return load;
  }

  /** Each client finishes one more transaction, and nothing went wrong. */
  async function goesOn(load: LongTransactions): Promise<void> {
    const before = [...load.acknowledged];
    const onward = () => load.acknowledged.every((count, index) => count > (before[index] ?? 0));
    await waitFor(() => onward() || load.errors.length > 0, { timeoutMs: 20_000, what: "each client goes on" });
    expect(load.errors).toEqual([]);
  }

  /** All stop: every row is there, once. */
  async function complete(load: LongTransactions): Promise<void> {
    await load.stop();
    expect(load.errors).toEqual([]);
    const leader = cluster.login(await cluster.requireLeader(), APPLICATION);
    expect(await load.compare(leader)).toEqual({ missing: 0, doubled: 0 });
  }

  /** A transaction that does not end before it is told to. */
  async function openTransaction(): Promise<() => Promise<void>> {
    const [router] = routers;
    if (router === undefined) throw new Error("no router");
    const slow = await connect(router.login("write"));
    await query(slow, "BEGIN");
    await query(slow, "INSERT INTO long_writes VALUES (999, 0)");
    return async () => {
      await query(slow, "COMMIT");
      slow.destroy();
    };
  }

  test("see no error in a planned switchover", { timeout: 60_000 }, async () => {
    const before = await cluster.requireLeader();
    const load = await clients(0, CLIENTS, SECONDS);
    // Keeps its server between transactions: it is not waited for, and the demotion ends it.
    const [router] = writers();
    if (router === undefined) throw new Error("no router");
    const pinned = await connect(router);
    await query(pinned, "LISTEN nothing");
    const { code, output } = await runCommand(cluster, "switchover", "-c", file);
    expect(output).toMatch(/1 client in session mode, pinned or replicating will be disconnected/);
    await waitFor(() => !pinned.open(), { timeoutMs: 5000, what: "the pinned client is disconnected" });
    expect(output).toMatch(/leader node\d; 2 routers: /);
    expect(output).toMatch(/drained 2 of 2/);
    expect(output).toMatch(/asking Patroni for a switchover from node\d/);
    expect(output).toMatch(/new leader node\d: 2 routers resumed/);
    expect(output).toMatch(/gap: \d+\.\d+ s/);
    expect(code).toBe(0);
    expect(await cluster.requireLeader()).not.toBe(before);
    await goesOn(load);
    await complete(load);
    await announced(2);
    await cluster.waitHealthy();
  });

  describe("while short transactions go on", () => {
    let load: LongTransactions;
    let leader: string;

    beforeAll(async () => {
      leader = await cluster.requireLeader();
      load = await clients(100, 10, 0.5);
    });

    afterAll(async () => {
      await load?.stop();
    });

    test("is called off when Patroni refuses, whose words are shown", { timeout: 60_000 }, async () => {
      const { code, output } = await runCommand(cluster, "switchover", "-c", file, "--candidate", "nobody");
      expect(output).toMatch(/called off: Patroni refuses: .*candidate.*clients go on/);
      expect(code).toBe(75);
      await goesOn(load);
    });

    test("is called off when a transaction is longer than the deadline", { timeout: 60_000 }, async () => {
      const commit = await openTransaction();
      const { code, output } = await runCommand(cluster, "switchover", "-c", file, "--deadline", "1s");
      expect(output).toMatch(/cannot drain in time: 1 transaction is open: app in database app from 127\./);
      expect(code).toBe(75);
      await commit();
      await goesOn(load);
    });

    test("is called off when its command is killed", { timeout: 60_000 }, async () => {
      const commit = await openTransaction();
      const killed = await startCommand(cluster, "switchover", "-c", file);
      await killed.prints(/drained 1 of 2/);
      const second = await runCommand(cluster, "switchover", "-c", file);
      expect(second.output).toMatch(/called off: a switchover by .+ since .+ is under way; nothing has changed/);
      expect(second.code).toBe(75);
      await killed.process.kill();
      await announced(2);
      await commit();
      await goesOn(load);
      expect(await cluster.requireLeader()).toBe(leader);
    });

    test("is called off when etcd is lost: routers go on at the deadline", { timeout: 90_000 }, async () => {
      const commit = await openTransaction();
      const command = await startCommand(cluster, "switchover", "-c", file, "--deadline", "3s");
      await command.prints(/drained 1 of 2/);
      link.cut();
      // The router that has drained holds meanwhile, and goes on before etcd is back.
      await goesOn(load);
      const { code, output } = await command.ended();
      link.mend();
      expect(output).toMatch(/called off: /);
      expect(code).toBe(75);
      await commit();
      await announced(2);
      await goesOn(load);
      expect(await cluster.requireLeader()).toBe(leader);
    });

    test("is called off when its command is interrupted", { timeout: 60_000 }, async () => {
      const commit = await openTransaction();
      const interrupted = await startCommand(cluster, "switchover", "-c", file);
      await interrupted.prints(/drained 1 of 2/);
      interrupted.process.signal("SIGINT");
      const { code, output } = await interrupted.ended();
      expect([code, output]).toEqual([75, expect.stringContaining("interrupted by SIGINT")]);
      await announced(2);
      await commit();
      await goesOn(load);
    });

    test("all wait in a pause, also at a router that starts meanwhile, and go on after", {
      timeout: 90_000,
    }, async () => {
      const { code, output } = await runCommand(cluster, "pause", "-c", file, "--wait");
      expect(output).toMatch(/drained: no transaction is open/);
      expect(code).toBe(0);
      expect(await states()).toEqual(["paused", "paused"]);
      const before = load.total;
      const third = await startPgsteer(cluster, { name: "three", ready: "none" });
      await announced(3, "paused");
      const held = queryOnce(third.login("write"), "SELECT 1 AS one", [], 60_000);
      const url = routers[0]?.httpUrl ?? "";
      for (const route of ["write", "read"]) {
        const ready = await fetch(`${url}/readyz?route=${route}`);
        expect([ready.status, await ready.text()]).toEqual([503, expect.stringContaining("paused by pgsteer pause")]);
      }
      const { clusters } = topologySchema.parse(await (await fetch(`${url}/topology`)).json());
      expect(clusters[0]?.coordination).toMatchObject({ state: "paused", open: 0, routers: 3 });
      expect(await (await fetch(`${url}/metrics`)).text()).toMatch(/pgsteer_coordination\{.*state="paused".*\} 1/);
      const status = (await runCommand(cluster, "status", "-c", file)).output;
      expect(status).toMatch(/this one is PAUSED: all transactions are paused/);
      expect(await runCommand(cluster, "switchover", "-c", file)).toMatchObject({ code: 75 });
      expect(load.total).toBe(before);
      expect(await runCommand(cluster, "resume", "-c", file)).toMatchObject({
        code: 0,
        output: expect.stringContaining("3 of 3 routers resumed"),
      });
      expect((await held).rows).toEqual([{ one: 1 }]);
      await third.stop();
      await announced(2);
      await goesOn(load);
      await complete(load);
    });
  });
});
