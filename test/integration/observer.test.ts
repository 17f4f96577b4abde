import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { systemClock } from "../../src/core/clock.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { type ClusterObserver, type DiscoveryOptions, observeCluster } from "../../src/discovery/observer.ts";
import type { LeaderState, Topology } from "../../src/discovery/topology.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { SUPERUSER } from "../support/patroni.ts";
import { PgProber } from "../support/pg-prober.ts";
import { waitFor } from "../support/time.ts";

const SOON = 60_000;

/** What a member's Patroni says of itself. */
async function patroniRole(apiUrl: string): Promise<string> {
  const answer: unknown = await (await fetch(`${apiUrl}/patroni`, { signal: AbortSignal.timeout(5000) })).json();
  return z.object({ role: z.string() }).parse(answer).role;
}

describe("a cluster observer on a real cluster", () => {
  let cluster: Cluster;
  const cleanups: (() => unknown)[] = [];

  beforeAll(async () => {
    cluster = await startCluster();
  });

  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
    await cluster.waitHealthy();
  });

  afterAll(async () => {
    await cluster?.remove();
  });

  interface Observed {
    readonly observer: ClusterObserver;
    readonly prober: PgProber;
    /** Each leader state that subscribers were told of, as `kind member`. */
    readonly told: string[];
    until(what: string, condition: (topology: Topology) => boolean): Promise<boolean>;
  }

  const brief = (leader: LeaderState): string =>
    leader.kind === "none" ? "none" : `${leader.kind} ${leader.member} ${leader.epoch.sequence}`;

  function observe(source: DiscoveryOptions["source"]): Observed {
    const prober = new PgProber({ ...SUPERUSER, database: "postgres" });
    const observer = observeCluster(systemClock, silentLogger, prober, {
      cluster: "demo",
      source,
      probeIntervalMs: 200,
    });
    cleanups.push(async () => {
      await observer.close();
      prober.close();
    });
    const told: string[] = [];
    observer.subscribe(({ leader }) => {
      if (told.at(-1) !== brief(leader)) told.push(brief(leader));
    });
    observer.start();
    const until = (what: string, condition: (topology: Topology) => boolean): Promise<boolean> =>
      waitFor(() => condition(observer.current()), {
        timeoutMs: SOON,
        intervalMs: 5,
        what: `${what}; it was told: ${told.join(", ")}`,
      });
    return { observer, prober, told, until };
  }

  const etcdSource = () =>
    ({ kind: "etcd", endpoints: cluster.etcdEndpoints, scope: cluster.scope, credentials: null, tls: null }) as const;
  const sources: Readonly<Record<string, () => DiscoveryOptions["source"]>> = {
    etcd: etcdSource,
    patroni: () => ({ kind: "patroni", urls: cluster.members.map(({ apiUrl }) => apiUrl) }),
    static: () => ({ kind: "static", hosts: cluster.members.map(({ host, port }) => ({ host, port })) }),
  };

  /** The name by which a source knows a member. */
  const known = (kind: string, name: string): string =>
    kind === "static" ? `127.0.0.1:${cluster.member(name).port}` : name;

  for (const [kind, source] of Object.entries(sources)) {
    test(`finds leader, replicas and lag from ${kind}`, async () => {
      const leader = known(kind, await cluster.requireLeader());
      const seen = observe(source());
      await seen.until("all is well", ({ leader: { kind: state }, members }) => {
        const all = [...members.values()];
        const replicas = all.filter(({ role }) => role === "replica");
        const measured = replicas.every(
          ({ readable, lagBytes, lagSamples }) => readable && lagBytes !== null && lagSamples > 2,
        );
        return state === "writable" && all.length === 3 && replicas.length === 2 && measured;
      });
      expect(brief(seen.observer.current().leader)).toBe(`writable ${leader} 1`);
      expect(seen.observer.current().members.get(leader)).toMatchObject({ role: "leader", readable: true });
    });

    test(`follows a switchover from ${kind}`, { timeout: 120_000 }, async () => {
      const from = await cluster.requireLeader();
      const [to = ""] = await cluster.replicas();
      const seen = observe(source());
      await seen.until("the leader is known", ({ leader }) => leader.kind === "writable");
      seen.observer.setUrgent(true);
      await cluster.switchover(to);
      await seen.until("the candidate is served", ({ leader }) =>
        brief(leader).startsWith(`writable ${known(kind, to)} `),
      );
      const { leader } = seen.observer.current();
      expect(leader).toMatchObject({ epoch: { sequence: 2 } });
      const served = seen.told.filter((line) => line.startsWith("writable"));
      expect(served.at(-1)).toBe(`writable ${known(kind, to)} 2`);
      expect(served.some((line) => line.startsWith(`writable ${known(kind, from)} 2`))).toBe(false);
      await seen.until(
        "the old leader is a replica",
        ({ members }) => members.get(known(kind, from))?.readable === true,
      );
    });
  }

  test("drains before it holds: the order of signals in a switchover by etcd", { timeout: 120_000 }, async () => {
    const from = await cluster.requireLeader();
    const [to = ""] = await cluster.replicas();
    const seen = observe(etcdSource());
    await seen.until("the leader is known", ({ leader }) => leader.kind === "writable");
    await cluster.switchover(to);
    await seen.until("the candidate is served", ({ leader }) => brief(leader) === `writable ${to} 2`);
    const order = seen.told.filter((line, i) => seen.told.indexOf(line) === i);
    expect(order[0]).toMatch(/^(elected|none)/);
    expect(order).toContain(`draining ${from} 1`);
    expect(order.indexOf(`draining ${from} 1`)).toBeLessThan(order.indexOf(`elected ${to} 2`));
    expect(order.indexOf(`elected ${to} 2`)).toBeLessThan(order.indexOf(`writable ${to} 2`));
  });

  test("holds while the leader's PostgreSQL restarts in place, and resumes by itself", {
    timeout: 120_000,
  }, async () => {
    const leader = await cluster.requireLeader();
    const seen = observe(etcdSource());
    await seen.until("the leader is known", ({ leader: { kind } }) => kind === "writable");
    await cluster.killPostgres(leader);
    seen.observer.report(leader, { kind: "failed", reason: "terminated" });
    expect(brief(seen.observer.current().leader)).toBe(`elected ${leader} 1`);
    await seen.until("it is served again", ({ leader: state }) => brief(state).startsWith(`writable ${leader} `));
  });

  test("keeps the leader while etcd is frozen and PostgreSQL confirms it", { timeout: 120_000 }, async () => {
    const leader = await cluster.requireLeader();
    const seen = observe(etcdSource());
    await seen.until("the leader is known", ({ leader: { kind } }) => kind === "writable");
    cluster.freezeEtcd();
    await seen.until("etcd is lost", ({ source }) => !source.connected);
    expect(brief(seen.observer.current().leader)).toBe(`writable ${leader} 1`);
    cluster.thawEtcd();
    await seen.until("etcd is back", ({ source }) => source.connected);
  });

  test("removes a member whose keys are gone, and forgets it", async () => {
    const [replica = ""] = await cluster.replicas();
    const seen = observe(etcdSource());
    await seen.until("three members", ({ members }) => members.size === 3);
    await cluster.stopMember(replica);
    // Its key stands until its lease ends, twenty seconds later.
    await seen.until("two members", ({ members }) => members.size === 2);
    await cluster.startMember(replica);
    await seen.until("three members again", ({ members }) => members.get(replica)?.readable === true);
  }, 180_000);

  test("never serves a deposed leader whose PostgreSQL still takes writes", { timeout: 240_000 }, async () => {
    const deposed = await cluster.requireLeader();
    const seen = observe(etcdSource());
    await seen.until("the leader is known", ({ leader: { kind } }) => kind === "writable");
    cluster.freezePatroni(deposed);
    try {
      const other = ({ leader }: Topology) => leader.kind === "writable" && leader.member !== deposed;
      await seen.until("another leader is served", other);
      // Two members take writes now: exactly what must not matter.
      const { rows } = await cluster.sql(deposed, "SELECT pg_is_in_recovery() AS recovery");
      expect(rows).toEqual([{ recovery: false }]);
      // Its member key ends with its lease; were it still there, it would not be readable.
      expect(seen.observer.current().members.get(deposed)?.readable ?? false).toBe(false);
    } finally {
      cluster.thawPatroni(deposed);
    }
    // Up to 3.0.2 a thawed Patroni may put its key back over its successor's, which then can never follow it: no health to wait for.
    await cluster.waitFor(
      async () =>
        (await cluster.leader()) === deposed || (await patroniRole(cluster.member(deposed).apiUrl)) === "replica",
      30_000,
      "the thawed member leads again, or has become a replica",
    );
    const successor = seen.told.findIndex((line) => line.startsWith("writable") && !line.includes(deposed));
    const later = seen.told.slice(successor).filter((line) => line.startsWith(`writable ${deposed}`));
    // A legitimate return would have been a leadership of its own on a newer timeline.
    expect(later.filter((line) => line === `writable ${deposed} 1`)).toEqual([]);
    // A leader on an older timeline is never served.
    const leader = await cluster.requireLeader();
    await seen.until("the cluster's leader is served, or refused for its timeline", (now) =>
      now.leader.kind === "elected"
        ? now.leader.member === leader && now.leader.reason.includes("has been written already")
        : brief(now.leader).startsWith(`writable ${leader} `),
    );
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
    // Whatever Patroni has made of it is for no other test.
    await cluster.remove();
    cluster = await startCluster();
  });
});
