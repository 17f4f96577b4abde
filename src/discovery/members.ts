// The snapshot that the data plane sees, made of the evidence and of what belief.ts makes of it. Pure.

import type { Millis } from "../core/units.ts";
import { evidenceOf, leaderOf, whyNotReadable } from "./belief.ts";
import type { MemberClaim } from "./claim.ts";
import type { EvidenceState, MemberEvidence } from "./evidence-state.ts";
import type { LeaderState, Member, MemberName, Topology } from "./topology.ts";
import { whyOf } from "./why.ts";

function roleOf(claim: MemberClaim, evidence: MemberEvidence, leader: LeaderState): Member["role"] {
  if (leader.kind !== "none" && leader.member === claim.name)
    return leader.kind === "standby" ? "standby_leader" : "leader";
  if (evidence.probe !== null) return evidence.probe.inRecovery ? "replica" : "unknown";
  return claim.role === "replica" ? "replica" : "unknown";
}

function memberOf(state: EvidenceState, claim: MemberClaim, leader: LeaderState, now: Millis): Member {
  const evidence = evidenceOf(state, claim.name);
  const { probe, doubt } = evidence;
  const reason = whyNotReadable(state, claim, leader, now);
  const probedState = probe === null ? "" : probe.streaming === true ? "streaming" : "running";
  const lagBytes = leader.kind !== "none" && leader.member === claim.name ? null : evidence.lagBytes;
  return {
    name: claim.name,
    host: claim.host,
    port: claim.port,
    apiUrl: claim.apiUrl,
    role: roleOf(claim, evidence, leader),
    state: doubt !== null ? "unreachable" : claim.state || probedState,
    timeline: probe?.timeline ?? claim.timeline,
    position: probe?.position ?? claim.position,
    lagBytes,
    lagSamples: evidence.lagSamples,
    streaming: probe?.streaming ?? null,
    tags: claim.tags,
    readable: reason === "",
    reason,
    why: whyOf({ state, claim, leader, now }, reason, lagBytes),
  };
}

/** The snapshot that the data plane sees. */
export function topologyOf(state: EvidenceState, now: Millis): Topology {
  const leader = leaderOf(state, now);
  const members = new Map<MemberName, Member>();
  for (const name of [...state.claim.members.keys()].sort()) {
    const claim = state.claim.members.get(name);
    if (claim !== undefined) members.set(name, memberOf(state, claim, leader, now));
  }
  const { cluster } = state.rules;
  return { cluster, leader, members, source: state.source, paused: state.claim.paused };
}
