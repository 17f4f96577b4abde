// What pgsteer believes about one cluster at one moment: an immutable snapshot that routing, pools, metrics and people read.
// Words are Patroni's (https://patroni.readthedocs.io/en/latest/dcs_layout.html); the rules that produce a snapshot are in
// evidence.ts.

import type { Lsn, Millis } from "../core/units.ts";

/** A member's name in its cluster, as in Patroni's configuration. */
export type MemberName = string;

/** Orders leaderships: a newer one makes every write connection of an older one unusable. */
export interface Epoch {
  /** PostgreSQL timeline of the leadership; 0 while unknown. */
  readonly timeline: number;
  /** Revision that wrote the leader key; 0n where the source has none (Patroni REST, static). */
  readonly revision: bigint;
  /** Counts the leaderships that this process has seen, from 1: the same order in one small number, for hot paths. */
  readonly sequence: number;
}

/** Whether writes can be served, by whom, and if not, why not. `reason` is a sentence for a person. */
export type LeaderState =
  /** Nobody holds the leader key, or the evidence contradicts itself. */
  | { readonly kind: "none"; readonly reason: string }
  /** Holds the key; not yet known to accept writes (promotion, restart in place). Writes wait. */
  | { readonly kind: "elected"; readonly member: MemberName; readonly epoch: Epoch; readonly reason: string }
  /** A connection to it has said that it is not in recovery. Writes go there. */
  | { readonly kind: "writable"; readonly member: MemberName; readonly epoch: Epoch }
  /** Still writable, but a switchover was announced: open transactions go on, new ones wait. */
  | { readonly kind: "draining"; readonly member: MemberName; readonly epoch: Epoch; readonly reason: string }
  /** The leader of a standby cluster: by design never writable here. */
  | { readonly kind: "standby"; readonly member: MemberName; readonly epoch: Epoch };

export interface MemberTags {
  readonly noloadbalance: boolean;
  readonly nofailover: boolean;
  /** Takes WAL from the archive alone (Patroni 4.x), and so never streams. */
  readonly nostream?: boolean;
}

export interface Member {
  readonly name: MemberName;
  readonly host: string;
  readonly port: number;
  /** Base of its Patroni REST API, such as `http://10.0.0.1:8008`; null where there is none (static source). */
  readonly apiUrl: string | null;
  /** `leader` exactly for the member that LeaderState names; otherwise what the evidence says of it. */
  readonly role: "leader" | "standby_leader" | "replica" | "unknown";
  /** Patroni's state (`running`, `streaming`, `starting`, `stopped`, …), or `unreachable` when our own probes say so. */
  readonly state: string;
  /** Null while unknown. */
  readonly timeline: number | null;
  /** Last known position: replayed on a replica, written on a leader. */
  readonly position: Lsn | null;
  /** Bytes of WAL that it has still to replay to stand where the leader stood at the same probe; null while unknown. */
  readonly lagBytes: number | null;
  /** Number of lag samples taken so far: tells a new sample from an old one that is shown again. */
  readonly lagSamples: number;
  /** Whether it has a running WAL receiver; null while unknown (a leader, or not yet probed). */
  readonly streaming: boolean | null;
  readonly tags: MemberTags;
  /** Whether reads may go there as far as the member itself is concerned (lag limits are each listener's own). */
  readonly readable: boolean;
  /** Why it is not readable, or the last thing that its probes said; empty when there is nothing to say. */
  readonly reason: string;
  readonly why: Why;
}

/** Why a member gets writes and reads, or why not: what one would say of it behind its name. Never empty. */
export interface Why {
  readonly writes: string;
  /** As far as the member itself is concerned, as `readable`. */
  readonly reads: string;
}

/** How well the sources of a snapshot are doing. */
export interface SourceHealth {
  /** `etcd`, `patroni` or `static`. */
  readonly kind: "etcd" | "patroni" | "static";
  /** Whether the source answers now. Losing it is not losing the leader: see evidence.ts. */
  readonly connected: boolean;
  /** When the source last proved to be alive, on the monotonic clock. */
  readonly confirmedAt: Millis;
  /** What is wrong with it; empty when nothing is. */
  readonly reason: string;
}

export interface Topology {
  /** The cluster's name in our configuration. */
  readonly cluster: string;
  readonly leader: LeaderState;
  /** By name, in the order of their names. */
  readonly members: ReadonlyMap<MemberName, Member>;
  readonly source: SourceHealth;
  /** Whether Patroni's automatic failover is paused. */
  readonly paused: boolean;
}

/** The member that LeaderState names, if any. */
export function leaderMember(topology: Topology): Member | null {
  const { leader } = topology;
  return leader.kind === "none" ? null : (topology.members.get(leader.member) ?? null);
}
