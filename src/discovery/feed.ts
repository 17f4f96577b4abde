// What discovery offers to the data plane, and what it asks of it: two small interfaces, so that neither side knows the other.

import type { Lsn } from "../core/units.ts";
import type { MemberName, Topology } from "./topology.ts";

/** What a connection of the data plane learnt about a member, in passing. */
export type ConnectionEvidence =
  /** Logged in; in recovery or not, as its ParameterStatus `in_hot_standby` said (null before PostgreSQL 14). */
  | { readonly kind: "login"; readonly inRecovery: boolean | null }
  /** Refused, reset, timed out, 57P03, 57P01: it does not serve now. `reason` is for people. */
  | { readonly kind: "failed"; readonly reason: string };

/** A cluster's topology over time. */
export interface TopologyFeed {
  current(): Topology;
  /** `listener` runs synchronously at each change, after `current()` has changed. Returns the way to stop. */
  subscribe(listener: (now: Topology, before: Topology) => void): () => void;
  /** Says whether somebody waits for a writable leader: while true, the gate is probed every few milliseconds. */
  setUrgent(waiting: boolean): void;
  report(member: MemberName, evidence: ConnectionEvidence): void;
}

/** One SQL probe's answer. */
export type SqlEvidence =
  | {
      readonly ok: true;
      readonly inRecovery: boolean;
      /** Timeline on which it writes (primary) or from which it receives (replica). */
      readonly timeline: number;
      /** Written (primary) or replayed (replica) position. */
      readonly position: Lsn;
      /** Whether a WAL receiver streams; null on a primary. */
      readonly streaming: boolean | null;
      /** PostgreSQL's system identifier: members of one cluster share it. */
      readonly systemIdentifier: string;
    }
  | { readonly ok: false; readonly reason: string };

/** Where a probe connects to. */
export interface ProbeTarget {
  readonly member: MemberName;
  readonly host: string;
  readonly port: number;
}

/**
 * Asks PostgreSQL itself. Implemented over the pool's own server login; keeps one connection per target open between calls and
 * opens a new one when it must. Never rejects: failure is evidence too. At most `timeoutMs`. One call at a time per target.
 */
export interface SqlProber {
  probe(target: ProbeTarget, timeoutMs: number): Promise<SqlEvidence>;
  /** Closes the connection to a member that is gone. */
  forget(member: MemberName): void;
  close(): void;
}
