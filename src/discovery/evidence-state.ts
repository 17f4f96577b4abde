// What has been seen of one cluster: the pieces of evidence, and the state that evidence.ts builds from them. Immutable values only.

import type { Lsn, Millis } from "../core/units.ts";
import type { ClusterClaim, FailoverClaim } from "./claim.ts";
import { emptyClaim } from "./claim.ts";
import type { ConnectionEvidence, SqlEvidence } from "./feed.ts";
import type { MemberName, SourceHealth } from "./topology.ts";

/** What does not change while a cluster is watched. */
export interface EvidenceRules {
  /** The cluster's name in our configuration. */
  readonly cluster: string;
  readonly kind: SourceHealth["kind"];
  /** A probe's answer counts for so long. */
  readonly freshMs: number;
  /** A switchover that has not happened after so long no longer holds writes back. */
  readonly drainMs: number;
}

/** One answer of a member's own REST API. */
export type RestEvidence =
  | {
      readonly ok: true;
      readonly role: "primary" | "standby_leader" | "replica" | "unknown";
      readonly state: string;
      readonly timeline: number | null;
    }
  | { readonly ok: false; readonly reason: string };

/** One thing that was seen, with the moment at which it was. */
export type Evidence =
  /** A source spoke, or fell silent; `claim` null before its first word. */
  | {
      readonly kind: "claim";
      readonly at: Millis;
      readonly claim: ClusterClaim | null;
      readonly source: SourceHealth;
    }
  /** `round` numbers the rounds in which all members are probed together; null for a probe of its own. */
  | {
      readonly kind: "sql";
      readonly at: Millis;
      readonly startedAt: Millis;
      readonly member: MemberName;
      readonly round: number | null;
      readonly answer: SqlEvidence;
    }
  | { readonly kind: "rest"; readonly at: Millis; readonly member: MemberName; readonly answer: RestEvidence }
  | {
      readonly kind: "connection";
      readonly at: Millis;
      readonly member: MemberName;
      readonly answer: ConnectionEvidence;
    };

/** A good answer of a member's PostgreSQL. */
export interface Probed {
  readonly startedAt: Millis;
  readonly at: Millis;
  readonly inRecovery: boolean;
  readonly timeline: number;
  readonly position: Lsn;
  readonly streaming: boolean | null;
  readonly systemIdentifier: string;
}

/** A position within a round of probes. */
export interface Sample {
  readonly round: number;
  readonly position: Lsn;
}

/** A reason to disbelieve a member until a probe that started later says otherwise. */
export interface Doubt {
  readonly at: Millis;
  readonly reason: string;
  /** Whether it did not serve at all, rather than saying something that contradicts what was believed. */
  readonly away: boolean;
}

/** What has been seen of one member. */
export interface MemberEvidence {
  /** Its last good answer. */
  readonly probe: Probed | null;
  /** Probes that failed since. */
  readonly failures: number;
  readonly doubt: Doubt | null;
  /** Since when its WAL receiver has not streamed; null while it does. */
  readonly unstreamedSince: Millis | null;
  /** A replica's position that waits for the leader's of the same round. */
  readonly pending: Sample | null;
  readonly lagBytes: number | null;
  readonly lagSamples: number;
  readonly rest: { readonly at: Millis; readonly role: MemberRole; readonly state: string } | null;
}

type MemberRole = "primary" | "standby_leader" | "replica" | "unknown";

/** Who was last said to lead, and since when. */
export interface Leadership {
  readonly member: MemberName;
  readonly revision: bigint;
  readonly seenAt: Millis;
  readonly sequence: number;
  /** 0 until it was first served. */
  readonly timeline: number;
}

/** Everything that is known of one cluster. */
export interface EvidenceState {
  readonly rules: EvidenceRules;
  readonly source: SourceHealth;
  /** Whether the source has ever answered. */
  readonly answered: boolean;
  readonly claim: ClusterClaim;
  readonly failover: { readonly claim: FailoverClaim; readonly seenAt: Millis } | null;
  readonly members: ReadonlyMap<MemberName, MemberEvidence>;
  readonly leadership: Leadership | null;
  /** Highest sequence given so far. */
  readonly sequence: number;
  /** Newest timeline on which a leader was ever served. */
  readonly newestTimeline: number;
  /** Null while unknown. */
  readonly systemIdentifier: string | null;
  readonly leaderSample: Sample | null;
}

/** Nothing seen of a member yet. */
export const unseen: MemberEvidence = {
  probe: null,
  failures: 0,
  doubt: null,
  unstreamedSince: null,
  pending: null,
  lagBytes: null,
  lagSamples: 0,
  rest: null,
};

/** Nothing seen of the cluster yet. */
export function initialState(rules: EvidenceRules, now: Millis): EvidenceState {
  return {
    rules,
    source: { kind: rules.kind, connected: false, confirmedAt: now, reason: "not yet asked" },
    answered: false,
    claim: emptyClaim,
    failover: null,
    members: new Map(),
    leadership: null,
    sequence: 0,
    newestTimeline: 0,
    systemIdentifier: null,
    leaderSample: null,
  };
}
