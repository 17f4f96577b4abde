// What a source claims about a cluster: the same shape from etcd's keys and from Patroni's REST answers, so that the rules in
// evidence.ts need not know where a claim came from. A claim is not yet belief.

import type { Lsn, Millis } from "../core/units.ts";
import type { MemberName, MemberTags } from "./topology.ts";

/** What a source says of one member. */
export interface MemberClaim {
  readonly name: MemberName;
  readonly host: string;
  readonly port: number;
  /** Base of its REST API; null where the source knows none. */
  readonly apiUrl: string | null;
  /** Patroni's own word, with `master` (up to 3.x) spelled `primary`. */
  readonly role: "primary" | "standby_leader" | "replica" | "unknown";
  /** Patroni's state; empty while unknown. */
  readonly state: string;
  readonly timeline: number | null;
  readonly position: Lsn | null;
  readonly tags: MemberTags;
}

/** Who holds the leader key. */
export interface LeaderClaim {
  readonly member: MemberName;
  /** Revision that created the key; 0n where the source has none. */
  readonly revision: bigint;
}

/** A switchover or failover that was asked for and not yet called off. */
export interface FailoverClaim {
  /** Tells one request from the next. */
  readonly id: string;
  /** The leader that is to step down; null in a manual failover. */
  readonly leader: MemberName | null;
  readonly candidate: MemberName | null;
  /** When it is due, on the monotonic clock; null for at once. */
  readonly dueAt: Millis | null;
}

/** Everything that one state of a source says. */
export interface ClusterClaim {
  readonly leader: LeaderClaim | null;
  readonly members: ReadonlyMap<MemberName, MemberClaim>;
  readonly failover: FailoverClaim | null;
  readonly paused: boolean;
  /** Whether the configuration makes this a standby cluster; null while unknown. */
  readonly standbyCluster: boolean | null;
  /** PostgreSQL's system identifier; null while unknown. */
  readonly systemIdentifier: string | null;
  /** Changes when the cluster is bootstrapped anew: timelines start over. Empty while unknown. */
  readonly incarnation: string;
  /** The newest timeline that is known to have ended: a leader writes on a later one. 0 while unknown. */
  readonly endedTimeline: number;
  /** What could not be understood, in sentences. */
  readonly problems: readonly string[];
}

/** A source that answers but says nothing, such as an empty prefix. */
export const emptyClaim: ClusterClaim = {
  leader: null,
  members: new Map(),
  failover: null,
  paused: false,
  standbyCluster: null,
  systemIdentifier: null,
  incarnation: "",
  endedTimeline: 0,
  problems: [],
};
