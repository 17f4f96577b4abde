// What to believe of the evidence at a moment: who is served as leader, and which members may be read from. Pure; members.ts makes the
// data plane's snapshot of it. The reasons behind each rule are in the design notes on leader evidence: the leader key is not yet
// writable, the key's deletion cuts at once, an older timeline is never believed, losing the DCS is not losing the leader.

import { type Millis, millis } from "../core/units.ts";
import type { MemberClaim } from "./claim.ts";
import { type EvidenceState, type Leadership, type MemberEvidence, type Probed, unseen } from "./evidence-state.ts";
import type { Epoch, LeaderState, MemberName } from "./topology.ts";

/** What has been seen of a member. */
export const evidenceOf = (state: EvidenceState, member: MemberName): MemberEvidence =>
  state.members.get(member) ?? unseen;

/** A member's last answer, if it is recent, undoubted and from this cluster. */
export function freshProbe(state: EvidenceState, member: MemberName, now: Millis): Probed | null {
  const { probe, doubt } = evidenceOf(state, member);
  if (probe === null || doubt !== null || now - probe.at > state.rules.freshMs) return null;
  return isForeign(state, probe) ? null : probe;
}

/** Whether an answer comes from the PostgreSQL of another cluster. */
export function isForeign(state: EvidenceState, probe: Probed): boolean {
  return state.systemIdentifier !== null && probe.systemIdentifier !== state.systemIdentifier;
}

/** The newest timeline that is known to have been written: leaders on an older one are not believed. */
export function oldestBelievable(state: EvidenceState): number {
  return Math.max(state.newestTimeline, state.claim.endedTimeline + 1);
}

/** What its last probe has against the holder of the key, with the member as subject; null when nothing. */
export function obstacleOf(state: EvidenceState, leadership: Leadership, now: Millis): string | null {
  const { probe } = evidenceOf(state, leadership.member);
  if (probe === null) return "has not been probed yet";
  if (isForeign(state, probe)) return "has another system identifier than this cluster";
  if (probe.startedAt < leadership.seenAt) return "has not been probed since it became the leader";
  if (probe.inRecovery) return "is still in recovery";
  const oldest = oldestBelievable(state);
  if (probe.timeline < oldest) {
    return `is on timeline ${probe.timeline}, but timeline ${oldest} has been written already`;
  }
  return now - probe.at > state.rules.freshMs ? "has not answered a probe lately" : null;
}

/** Why the holder of the key cannot be served, as a sentence; null when it can. */
function whyNotWritable(state: EvidenceState, leadership: Leadership, now: Millis): string | null {
  const { member } = leadership;
  if (!state.claim.members.has(member)) return `${member} holds the leader key, but its address is not known`;
  const { doubt } = evidenceOf(state, member);
  if (doubt !== null) return `${member}: ${doubt.reason}`;
  const obstacle = obstacleOf(state, leadership, now);
  return obstacle === null ? null : `${member} ${obstacle}`;
}

/** Another member that also takes writes, on a timeline that is no older; null when there is none. */
export function rivalOf(state: EvidenceState, member: MemberName, now: Millis): MemberName | null {
  const own = freshProbe(state, member, now)?.timeline ?? 0;
  for (const name of state.claim.members.keys()) {
    if (name === member) continue;
    const probe = freshProbe(state, name, now);
    if (probe !== null && !probe.inRecovery && probe.timeline >= own) return name;
  }
  return null;
}

/** Why the last known leader is not to be kept although the source is silent; null when it is. */
function whyNotKept(state: EvidenceState, leadership: Leadership, now: Millis): string | null {
  const why = whyNotWritable(state, leadership, now);
  if (why !== null) return why;
  const rival = rivalOf(state, leadership.member, now);
  if (rival !== null) return `${leadership.member} and ${rival} both take writes`;
  const { rest } = evidenceOf(state, leadership.member);
  if (
    rest !== null &&
    now - rest.at <= state.rules.freshMs &&
    (rest.role === "replica" || rest.role === "standby_leader")
  ) {
    return `Patroni on ${leadership.member} says that it is a ${rest.role}`;
  }
  return null;
}

/** When a switchover that names `member` holds its new writes back, on the monotonic clock; null when none does. */
export function drainWindow(state: EvidenceState, member: MemberName): { from: Millis; until: Millis } | null {
  if (state.failover === null) return null;
  const { claim, seenAt } = state.failover;
  // A manual failover names only who is to lead.
  const concerns = claim.leader === null ? claim.candidate !== member : claim.leader === member;
  if (!concerns) return null;
  const from = millis(Math.max(seenAt, claim.dueAt ?? seenAt));
  return { from, until: millis(from + state.rules.drainMs) };
}

function isStandbyCluster(state: EvidenceState, leadership: Leadership): boolean {
  return state.claim.standbyCluster ?? state.claim.members.get(leadership.member)?.role === "standby_leader";
}

/** Who is served as leader now, if anybody. */
export function leaderOf(state: EvidenceState, now: Millis): LeaderState {
  const { leadership, rules } = state;
  if (!state.answered) return { kind: "none", reason: state.source.reason };
  if (leadership === null) {
    const unknown = state.claim.members.size === 0 ? "the source knows no member of this cluster" : null;
    const reason = unknown ?? (rules.kind === "static" ? whyNobody(state, now) : noKey(state));
    return { kind: "none", reason };
  }
  const { member, timeline, revision, sequence } = leadership;
  const epoch: Epoch = { timeline, revision, sequence };
  if (rules.kind === "static") {
    const why = whyNotKept(state, leadership, now);
    return why === null ? { kind: "writable", member, epoch } : { kind: "none", reason: why };
  }
  if (isStandbyCluster(state, leadership)) return { kind: "standby", member, epoch };
  if (!state.source.connected) {
    const why = whyNotKept(state, leadership, now);
    return why === null
      ? { kind: "writable", member, epoch }
      : { kind: "none", reason: `${why}, and the source is silent (${state.source.reason})` };
  }
  const why = whyNotWritable(state, leadership, now);
  if (why !== null) return { kind: "elected", member, epoch, reason: why };
  const window = drainWindow(state, member);
  return window !== null && window.from <= now && now < window.until
    ? { kind: "draining", member, epoch, reason: "a switchover was asked for" }
    : { kind: "writable", member, epoch };
}

/** Patroni elects nobody while it is paused: this can last. */
function noKey({ claim }: EvidenceState): string {
  return claim.paused ? "nobody holds the leader key, and automatic failover is paused" : "nobody holds the leader key";
}

/** Why no member of a static list is the leader: each one's own reason, where it has one. */
function whyNobody(state: EvidenceState, now: Millis): string {
  const nobody: LeaderState = { kind: "none", reason: "" };
  const reasons = [...state.claim.members.values()]
    .map((claim) => [claim.name, whyNotReadable(state, claim, nobody, now)] as const)
    .filter(([, reason]) => reason !== "")
    .map(([name, reason]) => `${name}: ${reason}`);
  return reasons.length === 0 ? "no member takes writes" : `no member takes writes (${reasons.join("; ")})`;
}

/** Members whose next answer can make a leader writable: they are probed at the gate's rhythm. */
export function gateTargets(state: EvidenceState, now: Millis): readonly MemberName[] {
  const leader = leaderOf(state, now);
  if (leader.kind === "writable" || leader.kind === "draining" || leader.kind === "standby") return [];
  if (state.rules.kind === "static") return [...state.claim.members.keys()];
  const member = state.leadership?.member;
  return member !== undefined && state.claim.members.has(member) ? [member] : [];
}

const awayStates = new Set(["stopping", "stopped", "crashed"]);

/** Why reads may not go to a member; empty when they may. */
export function whyNotReadable(state: EvidenceState, claim: MemberClaim, leader: LeaderState, now: Millis): string {
  const writable = leader.kind === "writable" || leader.kind === "draining";
  if (writable && leader.member === claim.name) return "";
  const { probe, doubt } = evidenceOf(state, claim.name);
  if (doubt !== null) return doubt.reason;
  if (probe === null) return "not yet probed";
  if (isForeign(state, probe)) return "has another system identifier than this cluster";
  if (now - probe.at > state.rules.freshMs) return "has not answered a probe lately";
  if (!probe.inRecovery) return "takes writes without being served as leader";
  if (claim.tags.noloadbalance) return "is tagged noloadbalance";
  if (claim.tags.nostream === true) return "is tagged nostream";
  if (awayStates.has(claim.state)) return `is ${claim.state}`;
  return writable && streamIsMissing(state, claim.name, now) ? "does not stream" : "";
}

/** A replica looks for a new leader's stream every wal_retrieve_retry_interval (5 s by default): give it two chances. */
const STREAM_GRACE_MS = 10_000;

/** Whether a replica should have been streaming for a while and does not. While nobody leads there is nothing to stream from. */
function streamIsMissing(state: EvidenceState, member: MemberName, now: Millis): boolean {
  const { unstreamedSince } = evidenceOf(state, member);
  if (unstreamedSince === null) return false;
  return now - Math.max(unstreamedSince, state.leadership?.seenAt ?? 0) > STREAM_GRACE_MS;
}
