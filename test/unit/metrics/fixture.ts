// Topologies and snapshots as plain values.

import { lsn, millis } from "../../../src/core/units.ts";
import type { LeaderState, Member, Topology } from "../../../src/discovery/topology.ts";
import { obstaclesOf, servicesOf, whyServesNothing } from "../../../src/metrics/readiness.ts";
import type { ClusterSnapshot, ListenerSnapshot, Snapshot } from "../../../src/metrics/snapshot.ts";
import { Balance } from "../../../src/routing/balance.ts";

const epoch = { timeline: 2, revision: 9n, sequence: 3 };

export const writable: LeaderState = { kind: "writable", member: "a", epoch };
export const elected: LeaderState = { kind: "elected", member: "a", epoch, reason: "a is still in recovery" };
export const none: LeaderState = { kind: "none", reason: "nobody holds the leader key" };
export const standby: LeaderState = { kind: "standby", member: "a", epoch };

export function member(name: string, changes: Partial<Member> = {}): Member {
  return {
    name,
    host: "10.0.0.1",
    port: 5432,
    apiUrl: "http://10.0.0.1:8008",
    role: "replica",
    state: "running",
    timeline: 2,
    position: lsn(0x16_b374_d848n),
    lagBytes: 0,
    lagSamples: 1,
    streaming: true,
    tags: { noloadbalance: false, nofailover: false },
    readable: true,
    reason: "",
    why: { writes: "a holds the leader key", reads: "is in recovery and streams" },
    ...changes,
  };
}

/** Leader `a` and replicas `b` and `c`. */
export function topology(leader: LeaderState = writable, changes: readonly Member[] = []): Topology {
  const members = [member("a", { role: "leader", lagBytes: null, streaming: null }), member("b"), member("c")];
  const byName = new Map(members.map((each) => [each.name, each]));
  for (const changed of changes) byName.set(changed.name, changed);
  const source = { kind: "etcd", connected: true, confirmedAt: millis(0), reason: "" } as const;
  return { cluster: "main", leader, members: byName, source, paused: false };
}

export type Route = "auto" | "write" | "read";

/** What readiness looks at of a listener. */
export function listener(route: Route, fallback: "primary" | "none" = "none") {
  const reads = { lagBytesMax: 1000, fallback };
  const options = { name: `${route}1`, address: "127.0.0.1", port: 5000, route, cluster: "main", reads };
  const door = { unixSocketMode: 0o777, proxyProtocol: null, replication: true };
  return {
    options: { ...options, ...door, poolMode: "transaction" as const, onSessionState: "pin" as const },
    balance: new Balance(reads),
  };
}

/** A listener of a snapshot with these obstacles, on which something of everything happened. */
export function listenerSnapshot(route: Route, changes: Partial<ListenerSnapshot> = {}): ListenerSnapshot {
  return {
    name: `${route}1`,
    address: "127.0.0.1",
    port: 5000,
    route,
    poolMode: "transaction",
    cluster: "main",
    obstacles: { write: null, read: null },
    clients: { login: 1, idle: 2, waiting: 3, settling: 7, active: 4, failed: 5, closed: 6 },
    pinned: [{ cause: "listen", count: 2 }],
    traffic: {
      accepted: 20,
      logins: 19,
      loginFailures: 1,
      transactions: 100,
      waits: 7,
      waitedSeconds: 1.5,
      reruns: 2,
      failedTransactions: 3,
      cancels: 4,
      cancelsLimited: 1,
      errors: [{ code: "password_failed", sqlstate: "28P01", count: 1 }],
      pins: [{ cause: "listen", count: 8 }],
      stateRefused: [{ cause: "load", count: 2 }],
      stateIgnored: [{ cause: "advisory_lock", count: 3 }],
    },
    ...changes,
  };
}

/** A cluster of a snapshot: the topology `now` with two pools on its leader. */
export function clusterSnapshot(now: Topology = topology(), changes: Partial<ClusterSnapshot> = {}): ClusterSnapshot {
  const servers = { login: 0, idle: 1, active: 2, tested: 0 };
  const pool = { member: "a", user: "app", purpose: "write", size: 20, servers, waiting: 1 } as const;
  const listeners = [listener("write"), listener("read"), listener("auto")];
  const services = servicesOf(now, listeners);
  const { leader } = now;
  return {
    name: "main",
    leader:
      leader.kind === "none"
        ? { state: "none", member: null, epoch: null, timeline: null, revision: null, reason: leader.reason }
        : {
            state: leader.kind,
            member: leader.member,
            epoch: 3,
            timeline: 2,
            revision: "9",
            reason: "reason" in leader ? leader.reason : "",
          },
    writable: leader.kind === "writable",
    paused: false,
    source: { kind: "etcd", connected: true, ageSeconds: 0.25, reason: "" },
    members: [...now.members.values()].map((each) => {
      const { tags, position: _position, lagSamples: _samples, ...rest } = each;
      const serves = services.get(rest.name) ?? [];
      const notServing = serves.length > 0 ? "" : whyServesNothing(now, each, listeners);
      const noloadbalance = tags.noloadbalance;
      return { ...rest, position: "16/B374D848", noloadbalance, serves, notServing, servers, waiting: 0 };
    }),
    coordination: null,
    heldClients: 2,
    authQueries: { answered: 6, nobody: 2, silent: 1, recent: 4, stale: 3 },
    incidents: {
      kinds: new Map([["switchover", 2]]),
      going: false,
      held: 5,
      served: 4,
      reruns: 1,
      errors: new Map([["leader_changed", 3]]),
      longestWaitMs: 1500,
    },
    pools: [
      { ...pool, database: "one" },
      { ...pool, database: "two" },
    ],
    serverTotals: [{ member: "a", purpose: "write", logins: 9, loginFailures: 1, closed: 5 }],
    ...changes,
  };
}

/** A snapshot of everything, with the obstacles that the topology makes. */
export function snapshot(now: Topology = topology(), changes: Partial<Snapshot> = {}): Snapshot {
  const routes = ["write", "read", "auto"] as const;
  return {
    build: { version: "1.2.3", node: "26.0.0" },
    uptimeSeconds: 61,
    draining: false,
    maxClientConn: 100,
    clusters: [clusterSnapshot(now)],
    listeners: routes.map((route) => listenerSnapshot(route, { obstacles: obstaclesOf(now, listener(route)) })),
    ...changes,
  };
}
