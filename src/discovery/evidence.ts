// The reducer: one piece of evidence at a time into a state, purely. A new leader key, or a newer timeline of the same leader, is a
// new epoch; what is believed of the state at a moment is in belief.ts and members.ts.

import type { Millis } from "../core/units.ts";
import { freshProbe, isForeign, leaderOf, oldestBelievable } from "./belief.ts";
import type { ClusterClaim } from "./claim.ts";
import {
  type Doubt,
  type Evidence,
  type EvidenceState,
  type MemberEvidence,
  type Probed,
  type Sample,
  unseen,
} from "./evidence-state.ts";
import type { MemberName } from "./topology.ts";

export { gateTargets } from "./belief.ts";
export {
  type Evidence,
  type EvidenceState,
  initialState,
  type RestEvidence,
} from "./evidence-state.ts";
export { topologyOf } from "./members.ts";

type Of<K extends Evidence["kind"]> = Extract<Evidence, { kind: K }>;

/** Probes that must fail in a row before a member that answered is doubted: one may be an accident of a single connection. */
const FAILURES_TO_DOUBT = 2;

/** The state after one more piece of evidence. Evidence of a member that no source knows changes nothing. */
export function step(state: EvidenceState, evidence: Evidence): EvidenceState {
  switch (evidence.kind) {
    case "claim":
      return stepClaim(state, evidence);
    case "sql":
      return state.claim.members.has(evidence.member) ? serve(stepSql(state, evidence), evidence) : state;
    case "rest":
      return stepRest(state, evidence);
    case "connection":
      return stepConnection(state, evidence);
  }
}

function stepClaim(state: EvidenceState, { at, claim, source }: Of<"claim">): EvidenceState {
  if (claim === null) return { ...state, source };
  const bornAnew =
    claim.incarnation !== "" && state.claim.incarnation !== "" && claim.incarnation !== state.claim.incarnation;
  const next: EvidenceState = {
    ...state,
    source,
    answered: true,
    claim,
    members: keepMembers(state, claim),
    newestTimeline: bornAnew ? 0 : state.newestTimeline,
    systemIdentifier: claim.systemIdentifier ?? (bornAnew ? null : state.systemIdentifier),
    failover: stepFailover(state, claim, at),
  };
  return state.rules.kind === "static" ? next : stepLeaderKey(next, at);
}

/** Evidence is kept for members that are still there, at the same address. */
function keepMembers(state: EvidenceState, claim: ClusterClaim): EvidenceState["members"] {
  const members = new Map<MemberName, MemberEvidence>();
  for (const [name, { host, port }] of claim.members) {
    const before = state.claim.members.get(name);
    const evidence = state.members.get(name);
    if (evidence !== undefined && before?.host === host && before.port === port) members.set(name, evidence);
  }
  return members;
}

function stepFailover(state: EvidenceState, claim: ClusterClaim, at: Millis): EvidenceState["failover"] {
  if (claim.failover === null) return null;
  const same = state.failover !== null && state.failover.claim.id === claim.failover.id;
  return { claim: claim.failover, seenAt: same && state.failover !== null ? state.failover.seenAt : at };
}

function stepLeaderKey(state: EvidenceState, at: Millis): EvidenceState {
  const { leader } = state.claim;
  const { leadership } = state;
  if (leader === null) return leadership === null ? state : { ...state, leadership: null, leaderSample: null };
  if (leadership !== null && leadership.member === leader.member && leadership.revision === leader.revision)
    return state;
  return newEpoch(state, { member: leader.member, revision: leader.revision, seenAt: at, timeline: 0 });
}

interface NewEpoch {
  readonly member: MemberName;
  readonly revision: bigint;
  readonly seenAt: Millis;
  readonly timeline: number;
}

function newEpoch(state: EvidenceState, leadership: NewEpoch): EvidenceState {
  const sequence = state.sequence + 1;
  return { ...state, sequence, leadership: { ...leadership, sequence }, leaderSample: null };
}

function withMember(state: EvidenceState, name: MemberName, change: Partial<MemberEvidence>): EvidenceState {
  const members = new Map(state.members);
  members.set(name, { ...(state.members.get(name) ?? unseen), ...change });
  return { ...state, members };
}

function stepSql(state: EvidenceState, evidence: Of<"sql">): EvidenceState {
  const { member, answer, at, startedAt, round } = evidence;
  const before = state.members.get(member) ?? unseen;
  if (!answer.ok) {
    const failures = before.failures + 1;
    const accident = before.probe !== null && before.doubt === null && failures < FAILURES_TO_DOUBT;
    const doubt = accident ? before.doubt : doubted(before, at, answer.reason, true);
    return withMember(state, member, { failures, doubt });
  }
  const { inRecovery, timeline, position, streaming, systemIdentifier } = answer;
  const probe: Probed = { startedAt, at, inRecovery, timeline, position, streaming, systemIdentifier };
  // A probe that was under way when the doubt arose does not answer it.
  const doubt = before.doubt !== null && startedAt < before.doubt.at ? before.doubt : null;
  const pending: Sample | null = round !== null && inRecovery ? { round, position } : null;
  const unstreamedSince = streaming === false ? (before.unstreamedSince ?? at) : null;
  return adoptIdentifier(withMember(state, member, { probe, doubt, unstreamedSince, failures: 0, pending }), at);
}

/** A doubt stands since it first arose: a probe that started later settles it, however many connections go on failing meanwhile. */
function doubted(before: MemberEvidence, at: Millis, reason: string, away: boolean): Doubt {
  return { at: before.doubt?.at ?? at, reason, away };
}

/**
 * Sources other than etcd do not tell the system identifier: it is the served leader's, or what all members agree on. One that is silent
 * does not agree: what answers at another's address may be a stranger.
 */
function adoptIdentifier(state: EvidenceState, at: Millis): EvidenceState {
  if (state.claim.systemIdentifier !== null || state.systemIdentifier === null) return state;
  const identifiers = new Set<string>();
  for (const name of state.claim.members.keys()) {
    const { probe, doubt } = state.members.get(name) ?? unseen;
    if (probe === null || doubt !== null || at - probe.at > state.rules.freshMs) return state;
    identifiers.add(probe.systemIdentifier);
  }
  const [only] = identifiers;
  if (identifiers.size !== 1 || only === undefined || only === state.systemIdentifier) return state;
  return { ...state, systemIdentifier: only, newestTimeline: 0 };
}

/** Draws the consequences of a probe: a static leader, the epoch's timeline, and lag. */
function serve(state: EvidenceState, { at, member, round, answer }: Of<"sql">): EvidenceState {
  const chosen = state.rules.kind === "static" ? chooseStaticLeader(state, at) : state;
  const leader = leaderOf(chosen, at);
  if (leader.kind !== "writable" && leader.kind !== "draining") return chosen;
  const probe = freshProbe(chosen, leader.member, at);
  const { leadership } = chosen;
  if (probe === null || leadership === null) return chosen;
  let next = chosen;
  if (leadership.timeline === 0) next = { ...chosen, leadership: { ...leadership, timeline: probe.timeline } };
  else if (probe.timeline > leadership.timeline) next = newEpoch(chosen, { ...leadership, timeline: probe.timeline });
  const told = member === leader.member && round !== null && answer.ok;
  return takeLagSamples({
    ...next,
    newestTimeline: Math.max(next.newestTimeline, probe.timeline),
    systemIdentifier: next.systemIdentifier ?? probe.systemIdentifier,
    leaderSample: told ? { round, position: answer.position } : next.leaderSample,
  });
}

/** Compares the replicas' positions with the leader's of the same round, whichever came first. */
function takeLagSamples(state: EvidenceState): EvidenceState {
  const { leaderSample } = state;
  let next = state;
  for (const [name, { pending, lagSamples }] of state.members) {
    if (leaderSample === null || pending === null || pending.round !== leaderSample.round) continue;
    const behind = leaderSample.position - pending.position;
    const lagBytes = behind > 0n ? Number(behind) : 0;
    next = withMember(next, name, { lagBytes, lagSamples: lagSamples + 1, pending: null });
  }
  return next;
}

/** The only member that takes writes, or the one of several on the newest timeline. */
function chooseStaticLeader(state: EvidenceState, at: Millis): EvidenceState {
  let best: { readonly name: MemberName; readonly probe: Probed } | null = null;
  let tied = false;
  for (const name of state.claim.members.keys()) {
    const probe = freshProbe(state, name, at);
    if (probe === null || probe.inRecovery || isForeign(state, probe)) continue;
    if (probe.timeline < oldestBelievable(state)) continue;
    if (best !== null && probe.timeline === best.probe.timeline) tied = true;
    if (best === null || probe.timeline > best.probe.timeline) {
      best = { name, probe };
      tied = false;
    }
  }
  if (best === null || tied) return state;
  const { leadership } = state;
  if (leadership?.member === best.name && leadership.timeline === best.probe.timeline) return state;
  return newEpoch(state, {
    member: best.name,
    revision: 0n,
    seenAt: best.probe.startedAt,
    timeline: best.probe.timeline,
  });
}

function stepRest(state: EvidenceState, { member, at, answer }: Of<"rest">): EvidenceState {
  if (!answer.ok || !state.claim.members.has(member)) return state;
  return withMember(state, member, { rest: { at, role: answer.role, state: answer.state } });
}

function stepConnection(state: EvidenceState, { member, at, answer }: Of<"connection">): EvidenceState {
  if (!state.claim.members.has(member)) return state;
  const before = state.members.get(member) ?? unseen;
  const doubt = (reason: string, away: boolean): EvidenceState =>
    withMember(state, member, { doubt: doubted(before, at, reason, away) });
  switch (answer.kind) {
    case "failed":
      return doubt(answer.reason, true);
    case "login":
      return answer.inRecovery === true && state.leadership?.member === member
        ? doubt("a login to it said that it is in recovery", false)
        : state;
  }
}
