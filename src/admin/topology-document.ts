// The document behind /topology: one schema for the side that writes it and the side that reads it (`pgsteer status`). Names are
// written as in Patroni's REST API and in our configuration file.

import { z } from "zod";
import type { ClusterSnapshot, ListenerSnapshot, MemberSnapshot, Snapshot } from "../metrics/snapshot.ts";

const serverCounts = z.object({ active: z.number(), idle: z.number(), login: z.number(), tested: z.number() });

const memberSchema = z.object({
  name: z.string(),
  host: z.string(),
  port: z.number(),
  api_url: z.string().nullable(),
  role: z.string(),
  state: z.string(),
  timeline: z.number().nullable(),
  position: z.string().nullable(),
  lag_bytes: z.number().nullable(),
  streaming: z.boolean().nullable(),
  noloadbalance: z.boolean(),
  readable: z.boolean(),
  reason: z.string(),
  /** Why it gets writes and reads, or why not: what one would say of it behind its name. */
  why: z.object({ writes: z.string(), reads: z.string() }),
  serves: z.array(z.object({ listener: z.string(), route: z.string(), purpose: z.enum(["write", "read"]) })),
  /** Why it serves nothing; empty when it does. */
  not_serving: z.string(),
  servers: serverCounts,
  waiting_clients: z.number(),
});

const poolSchema = z.object({
  member: z.string(),
  database: z.string(),
  user: z.string(),
  purpose: z.enum(["write", "read"]),
  /** Servers that it may have, the reserve not counted. */
  pool_size: z.number(),
  servers: serverCounts,
  waiting_clients: z.number(),
});

const clusterSchema = z.object({
  name: z.string(),
  writable: z.boolean(),
  paused: z.boolean(),
  leader: z.object({
    state: z.string(),
    member: z.string().nullable(),
    epoch: z.number().nullable(),
    timeline: z.number().nullable(),
    revision: z.string().nullable(),
    reason: z.string(),
  }),
  source: z.object({ kind: z.string(), connected: z.boolean(), age_seconds: z.number(), reason: z.string() }),
  /** What this router does at the request of `pgsteer switchover` or `pgsteer pause`; null without etcd as source. */
  coordination: z
    .object({
      state: z.string(),
      request: z.string().nullable(),
      reason: z.string(),
      open: z.number(),
      sessions: z.number(),
      routers: z.number(),
    })
    .nullable(),
  held_clients: z.number(),
  members: z.array(memberSchema),
  pools: z.array(poolSchema),
});

const listenerSchema = z.object({
  name: z.string(),
  address: z.string(),
  port: z.number(),
  route: z.string(),
  pool_mode: z.string(),
  cluster: z.string(),
  /** Why it cannot serve now what its route promises; null when it can. */
  obstacle: z.string().nullable(),
  clients: z.object({
    login: z.number(),
    idle: z.number(),
    waiting: z.number(),
    settling: z.number(),
    active: z.number(),
    failed: z.number(),
  }),
  /** How many of them keep their server between transactions, by cause. */
  pinned: z.record(z.string(), z.number()),
});

/** What /topology answers. */
export const topologySchema = z.object({
  version: z.string(),
  uptime_seconds: z.number(),
  draining: z.boolean(),
  max_client_conn: z.number(),
  clusters: z.array(clusterSchema),
  listeners: z.array(listenerSchema),
});

export type TopologyDocument = z.infer<typeof topologySchema>;
export type ClusterDocument = z.infer<typeof clusterSchema>;
export type MemberDocument = z.infer<typeof memberSchema>;
export type ListenerDocument = z.infer<typeof listenerSchema>;

/** Writes a snapshot as the document. */
export function topologyDocument(snapshot: Snapshot): TopologyDocument {
  return {
    version: snapshot.build.version,
    uptime_seconds: snapshot.uptimeSeconds,
    draining: snapshot.draining,
    max_client_conn: snapshot.maxClientConn,
    clusters: snapshot.clusters.map(clusterDocument),
    listeners: snapshot.listeners.map(listenerDocument),
  };
}

function clusterDocument(cluster: ClusterSnapshot): ClusterDocument {
  const { name, writable, paused, leader, source, coordination, heldClients, members, pools } = cluster;
  const { ageSeconds, ...health } = source;
  return {
    name,
    writable,
    paused,
    leader,
    source: { ...health, age_seconds: ageSeconds },
    coordination,
    held_clients: heldClients,
    members: members.map(memberDocument),
    pools: pools.map(({ waiting, size, ...pool }) => ({ ...pool, pool_size: size, waiting_clients: waiting })),
  };
}

function memberDocument({ apiUrl, lagBytes, waiting, serves, notServing, ...member }: MemberSnapshot): MemberDocument {
  return {
    ...member,
    api_url: apiUrl,
    lag_bytes: lagBytes,
    serves: [...serves],
    not_serving: notServing,
    waiting_clients: waiting,
  };
}

function listenerDocument(listener: ListenerSnapshot): ListenerDocument {
  const { name, address, port, route, poolMode, cluster, obstacles, clients } = listener;
  const pinned = Object.fromEntries(listener.pinned.map(({ cause, count }) => [cause, count]));
  const { closed: _, ...states } = clients;
  const obstacle = route === "read" ? obstacles.read : obstacles.write;
  return { name, address, port, route, pool_mode: poolMode, cluster, obstacle, clients: states, pinned };
}
