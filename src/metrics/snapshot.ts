// Everything that pgsteer knows of itself at one moment, as plain values: what /metrics, /topology and the console show. Times are
// ages in seconds, positions and revisions are text, so that it can be written as JSON as it is.

import type { AuthQueryCounters } from "../auth/auth-query.ts";
import type { Clock } from "../core/clock.ts";
import { type ErrorCode, errorTable } from "../core/errors.ts";
import type { PoolMode } from "../core/pool-mode.ts";
import { formatLsn, type Millis } from "../core/units.ts";
import type { LeaderState, Member, SourceHealth, Topology } from "../discovery/topology.ts";
import type { Standing } from "../proxy/coordinator.ts";
import type { ActiveListener, DataPlane } from "../proxy/data-plane.ts";
import type { Steering } from "../proxy/steering.ts";
import type { Traffic } from "../proxy/traffic.ts";
import type { Incidents, IncidentTotals } from "./incidents.ts";
import { type Obstacles, obstaclesOf, type Service, servicesOf, whyServesNothing } from "./readiness.ts";

/** What is running. */
export interface Build {
  readonly version: string;
  /** Version of Node.js. */
  readonly node: string;
}

export interface LeaderSnapshot {
  readonly state: LeaderState["kind"];
  /** Null when there is none. */
  readonly member: string | null;
  /** Counts the leaderships that this process has seen; null without a leader. */
  readonly epoch: number | null;
  readonly timeline: number | null;
  readonly revision: string | null;
  /** Why writes are not served; empty when they are. */
  readonly reason: string;
}

/** Server connections by state. */
export interface ServerCounts {
  readonly login: number;
  readonly idle: number;
  readonly active: number;
  readonly tested: number;
}

export interface MemberSnapshot {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly apiUrl: string | null;
  readonly role: Member["role"];
  readonly state: string;
  readonly timeline: number | null;
  /** `16/B374D848`. */
  readonly position: string | null;
  readonly lagBytes: number | null;
  readonly streaming: boolean | null;
  readonly noloadbalance: boolean;
  readonly readable: boolean;
  readonly reason: string;
  /** Why it gets writes and reads, or why not, as far as the member itself is concerned. */
  readonly why: Member["why"];
  /** Which listeners send it what now. */
  readonly serves: readonly Service[];
  /** Why it serves nothing; empty when it does, or when nothing is known to be wrong. */
  readonly notServing: string;
  readonly servers: ServerCounts;
  /** Clients in the queues of its pools. */
  readonly waiting: number;
}

export interface SourceSnapshot {
  readonly kind: SourceHealth["kind"];
  readonly connected: boolean;
  /** Since it last proved to be alive. */
  readonly ageSeconds: number;
  readonly reason: string;
}

/** Server logins since the start, by member and purpose. */
export interface ServerTotals {
  readonly member: string;
  readonly purpose: "write" | "read";
  readonly logins: number;
  readonly loginFailures: number;
  readonly closed: number;
}

export interface ClusterSnapshot {
  readonly name: string;
  readonly leader: LeaderSnapshot;
  readonly writable: boolean;
  readonly paused: boolean;
  readonly source: SourceSnapshot;
  /** What this router does at a command's request to all; null where routers do not know of each other. */
  readonly coordination: Standing | null;
  readonly members: readonly MemberSnapshot[];
  /** Clients for whom no member can be named now. */
  readonly heldClients: number;
  /** What auth_query has come to since the start. */
  readonly authQueries: Readonly<AuthQueryCounters>;
  /** What changes of leader have cost. */
  readonly incidents: IncidentTotals;
  readonly pools: readonly PoolSnapshot[];
  readonly serverTotals: readonly ServerTotals[];
}

export interface PoolSnapshot {
  readonly member: string;
  readonly database: string;
  readonly user: string;
  readonly purpose: "write" | "read";
  /** Servers that it may have, the reserve not counted. */
  readonly size: number;
  readonly servers: ServerCounts;
  readonly waiting: number;
}

const clientStates = ["login", "idle", "waiting", "settling", "active", "failed", "closed"] as const;
export type ClientCounts = Readonly<Record<(typeof clientStates)[number], number>>;

/** Session state that cannot follow a client, by kind. */
export interface CauseCount {
  readonly cause: string;
  readonly count: number;
}

/** What happened on a listener since it was opened. */
export interface TrafficSnapshot {
  readonly accepted: number;
  readonly logins: number;
  readonly loginFailures: number;
  readonly transactions: number;
  readonly waits: number;
  readonly waitedSeconds: number;
  readonly reruns: number;
  readonly failedTransactions: number;
  readonly cancels: number;
  readonly cancelsLimited: number;
  readonly errors: readonly { readonly code: ErrorCode; readonly sqlstate: string; readonly count: number }[];
  readonly pins: readonly CauseCount[];
  readonly stateRefused: readonly CauseCount[];
  readonly stateIgnored: readonly CauseCount[];
}

export interface ListenerSnapshot {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly route: "auto" | "write" | "read";
  readonly poolMode: PoolMode;
  readonly cluster: string;
  readonly obstacles: Obstacles;
  readonly clients: ClientCounts;
  /** Clients that keep their server now, by cause; one can have several. */
  readonly pinned: readonly CauseCount[];
  readonly traffic: TrafficSnapshot;
}

export interface Snapshot {
  readonly build: Build;
  readonly uptimeSeconds: number;
  readonly draining: boolean;
  readonly maxClientConn: number;
  readonly clusters: readonly ClusterSnapshot[];
  readonly listeners: readonly ListenerSnapshot[];
}

/** What a snapshot is taken of. */
interface Observed {
  readonly dataPlane: DataPlane;
  readonly incidents: Incidents;
  readonly coordinators: ReadonlyMap<string, { readonly standing: Standing }>;
}

/** Looks at everything once. `startedAt` is on the monotonic clock. */
export function takeSnapshot(clock: Clock, observed: Observed, build: Build, startedAt: Millis): Snapshot {
  const { dataPlane, incidents, coordinators } = observed;
  const now = clock.now();
  const clusterOf = (steering: Steering): ClusterSnapshot => {
    const { cluster } = steering;
    const coordination = coordinators.get(cluster)?.standing ?? null;
    const seen = {
      incidents: incidents.totals(cluster),
      coordination,
      authQueries: dataPlane.identification.counters(cluster),
    };
    return clusterSnapshot(steering, seen, listeners, now);
  };
  const listeners = [...dataPlane.listeners];
  return {
    build,
    uptimeSeconds: (now - startedAt) / 1000,
    draining: dataPlane.draining,
    maxClientConn: dataPlane.maxClientConn,
    clusters: [...dataPlane.steerings.values()].map(clusterOf),
    listeners: listenerSnapshots(dataPlane, listeners),
  };
}

function clusterSnapshot(
  steering: Steering,
  seen: Pick<ClusterSnapshot, "incidents" | "coordination" | "authQueries">,
  listeners: readonly ActiveListener[],
  now: Millis,
): ClusterSnapshot {
  const { topology } = steering;
  const own = listeners.filter(({ options }) => options.cluster === steering.cluster);
  const pools = [...steering.pools()].map(({ identity, options, counts: { waiting, ...servers } }) => ({
    member: identity.endpoint.member,
    database: identity.database,
    user: identity.user,
    purpose: identity.purpose,
    size: options.poolSize,
    servers,
    waiting,
  }));
  const { kind, connected, confirmedAt, reason } = topology.source;
  return {
    name: steering.cluster,
    leader: leaderSnapshot(topology.leader),
    writable: topology.leader.kind === "writable",
    paused: topology.paused,
    ...seen,
    source: { kind, connected, ageSeconds: Math.max(0, now - confirmedAt) / 1000, reason },
    members: memberSnapshots(topology, pools, own),
    heldClients: steering.heldCount,
    pools,
    serverTotals: steering.serverTotals().map(({ member, purpose, counters }) => ({
      member,
      purpose,
      logins: counters.logins,
      loginFailures: counters.loginFailures,
      closed: counters.serversClosed,
    })),
  };
}

function leaderSnapshot(leader: LeaderState): LeaderSnapshot {
  if (leader.kind === "none") {
    return { state: "none", member: null, epoch: null, timeline: null, revision: null, reason: leader.reason };
  }
  const { sequence, timeline, revision } = leader.epoch;
  const standby = leader.kind === "standby" ? "the cluster replicates from another one" : "";
  return {
    state: leader.kind,
    member: leader.member,
    epoch: sequence,
    timeline: timeline === 0 ? null : timeline,
    revision: String(revision),
    reason: "reason" in leader ? leader.reason : standby,
  };
}

function memberSnapshots(
  topology: Topology,
  pools: readonly PoolSnapshot[],
  listeners: readonly ActiveListener[],
): readonly MemberSnapshot[] {
  const services = servicesOf(topology, listeners);
  return [...topology.members.values()].map((member) => {
    const own = pools.filter((pool) => pool.member === member.name);
    const sum = (count: (pool: PoolSnapshot) => number) => own.reduce((total, pool) => total + count(pool), 0);
    const { name, host, port, apiUrl, role, state, timeline, lagBytes, streaming, readable, reason } = member;
    return {
      name,
      host,
      port,
      apiUrl,
      role,
      state,
      timeline,
      position: member.position === null ? null : formatLsn(member.position),
      lagBytes,
      streaming,
      noloadbalance: member.tags.noloadbalance,
      readable,
      reason,
      why: member.why,
      serves: services.get(name) ?? [],
      notServing: services.has(name) ? "" : whyServesNothing(topology, member, listeners),
      servers: {
        login: sum(({ servers }) => servers.login),
        idle: sum(({ servers }) => servers.idle),
        active: sum(({ servers }) => servers.active),
        tested: sum(({ servers }) => servers.tested),
      },
      waiting: sum(({ waiting }) => waiting),
    };
  });
}

function listenerSnapshots(dataPlane: DataPlane, listeners: readonly ActiveListener[]): readonly ListenerSnapshot[] {
  const counts = new Map<string, Record<(typeof clientStates)[number], number>>();
  const countsOf = (listener: string) => {
    const known = counts.get(listener) ?? noClients();
    counts.set(listener, known);
    return known;
  };
  const pinned = new Map<string, Map<string, number>>();
  for (const { identity, state, session } of dataPlane.clients) {
    countsOf(identity.listener)[state] += 1;
    const causes = pinned.get(identity.listener) ?? new Map<string, number>();
    for (const cause of session.pins) pinned.set(identity.listener, causes.set(cause, (causes.get(cause) ?? 0) + 1));
  }
  for (const { listener } of dataPlane.receptions) countsOf(listener).login += 1;
  const shown: ListenerSnapshot[] = [];
  for (const active of listeners) {
    const { name, address, route, poolMode, cluster } = active.options;
    const topology = dataPlane.steerings.get(cluster)?.topology;
    if (topology === undefined) continue;
    shown.push({
      name,
      address,
      port: active.listener.port,
      route,
      poolMode,
      cluster,
      obstacles: obstaclesOf(topology, active),
      clients: countsOf(name),
      pinned: causeCounts(pinned.get(name) ?? new Map()),
      traffic: trafficSnapshot(active.traffic),
    });
  }
  return shown;
}

const noClients = () => ({ login: 0, idle: 0, waiting: 0, settling: 0, active: 0, failed: 0, closed: 0 });

const causeCounts = (counts: ReadonlyMap<string, number>): readonly CauseCount[] =>
  [...counts].map(([cause, count]) => ({ cause, count }));

function trafficSnapshot(traffic: Traffic): TrafficSnapshot {
  return {
    accepted: traffic.clientsAccepted,
    logins: traffic.logins,
    loginFailures: traffic.loginFailures,
    transactions: traffic.transactions,
    waits: traffic.waits,
    waitedSeconds: traffic.waitedMs / 1000,
    reruns: traffic.reruns,
    failedTransactions: traffic.failedTransactions,
    cancels: traffic.cancels,
    cancelsLimited: traffic.cancelsLimited,
    errors: [...traffic.errors].map(([code, count]) => ({ code, sqlstate: errorTable[code].sqlstate, count })),
    pins: causeCounts(traffic.sessionState.pinned),
    stateRefused: causeCounts(traffic.sessionState.refused),
    stateIgnored: causeCounts(traffic.sessionState.ignored),
  };
}
