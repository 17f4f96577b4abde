// When a record begins, and what began it: the leader that took writes is said to go, is gone, or is in doubt. Pure.

import type { Millis } from "../core/units.ts";
import type { ConnectionEvidence } from "../discovery/feed.ts";
import type { LeaderState, Topology } from "../discovery/topology.ts";
import type { Leadership } from "./incident.ts";

/**
 * `announced`: a switchover was asked for (Patroni's failover key); `switchover_requested`, `pause_requested`: routers were told to hold
 * transactions back; `leader_key_gone`: Patroni's leader key
 * was deleted; `leader_key_changed`: another name, or another leadership, stands in it; `connection_refused`, `connection_lost`: so a
 * client's server connection found it; `in_recovery`: a login said so; `probe_failed`:
 * pgsteer's own probe found it; `source_lost`: etcd (or Patroni) is silent and nothing confirms the leader; `standby`: the cluster
 * replicates from another one from now on.
 */
export type Cause =
  | "announced"
  | "switchover_requested"
  | "pause_requested"
  | "leader_key_gone"
  | "leader_key_changed"
  | "connection_refused"
  | "connection_lost"
  | "in_recovery"
  | "probe_failed"
  | "source_lost"
  | "standby";

export interface Beginning {
  readonly cause: Cause;
  /** In words. */
  readonly reason: string;
  readonly old: Leadership;
  /** Who held the leader key, and its revision. */
  readonly key: string;
}

/** The last that a connection of a client said against a member. */
export interface Report {
  readonly at: Millis;
  readonly member: string;
  readonly evidence: ConnectionEvidence;
}

/** A report is what a doubt is about when it is no older. Both come in one turn of the event loop. */
const REPORT_FRESH_MS = 100;

/** Tells one holding of the leader key from another. */
export const keyOf = ({ member, epoch }: Exclude<LeaderState, { kind: "none" }>): string =>
  `${member} ${epoch.revision}`;

/** Whether an evidence speaks against its member as a leader. */
export const speaksAgainst = (evidence: ConnectionEvidence): boolean =>
  evidence.kind !== "login" || evidence.inRecovery === true;

/** What begins with this change; null when nothing does. */
export function beginningOf(now: Topology, before: Topology, at: Millis, report: Report | null): Beginning | null {
  const was = before.leader;
  // What was draining has a record already, or had one that is over.
  if (was.kind !== "writable") return null;
  const { leader } = now;
  const { sequence, timeline } = was.epoch;
  if (leader.kind === "writable" && leader.epoch.sequence === sequence) return null;
  const old = { member: was.member, epoch: sequence, timeline: timeline === 0 ? null : timeline };
  const fresh = report !== null && report.member === was.member && at - report.at <= REPORT_FRESH_MS ? report : null;
  return { old, key: keyOf(was), ...causeOf(leader, sequence, now, fresh) };
}

function causeOf(
  leader: LeaderState,
  oldEpoch: number,
  { source }: Topology,
  report: Report | null,
): Pick<Beginning, "cause" | "reason"> {
  if (leader.kind === "draining") return { cause: announcementOf(leader.reason), reason: leader.reason };
  if (leader.kind === "standby") return { cause: "standby", reason: "the cluster replicates from another one" };
  if (leader.kind === "none") {
    if (report !== null && (source.kind === "static" || !source.connected))
      return { cause: reported(report), reason: leader.reason };
    if (!source.connected) return { cause: "source_lost", reason: leader.reason };
    return { cause: source.kind === "static" ? "probe_failed" : "leader_key_gone", reason: leader.reason };
  }
  if (leader.epoch.sequence !== oldEpoch) {
    if (source.kind === "static") return { cause: "probe_failed", reason: `${leader.member} takes writes` };
    return { cause: "leader_key_changed", reason: `${leader.member} holds the leader key` };
  }
  const reason = "reason" in leader ? leader.reason : "";
  return { cause: report === null ? "probe_failed" : reported(report), reason };
}

/** Patroni's word for it, or that of a command to all routers, which is named in the reason. */
function announcementOf(reason: string): Cause {
  if (/\bpgsteer pause\b/.test(reason)) return "pause_requested";
  return /\bpgsteer switchover\b/.test(reason) ? "switchover_requested" : "announced";
}

/** Whether it was said beforehand that the leader will take no writes. */
export const isAnnounced = (cause: Cause): boolean =>
  cause === "announced" || cause === "switchover_requested" || cause === "pause_requested";

function reported({ evidence }: Report): Cause {
  if (evidence.kind === "login") return "in_recovery";
  return /ECONNREFUSED|refused/.test(evidence.reason) ? "connection_refused" : "connection_lost";
}
