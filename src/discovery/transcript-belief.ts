// What a transcript says was believed: of each topology what somebody could act on, and only what has changed since the line before, so
// that a person can read the lines and a comparison of two readings shows what differs.

import { z } from "zod";
import type { LeaderState, Member, MemberName, Topology } from "./topology.ts";

const leaderSchema = z.strictObject({
  kind: z.enum(["none", "elected", "writable", "draining", "standby"]),
  member: z.string().optional(),
  epoch: z.number().int().optional(),
  timeline: z.number().int().optional(),
  revision: z.string().optional(),
  reason: z.string().optional(),
});

const memberSchema = z.strictObject({
  role: z.enum(["leader", "standby_leader", "replica", "unknown"]),
  writes: z.boolean(),
  why_writes: z.string(),
  reads: z.boolean(),
  why_reads: z.string(),
});

/** One line's content: what is not there has not changed; a member that is null is gone. */
export const beliefSchema = z.strictObject({
  leader: leaderSchema.optional(),
  source: z.string().optional(),
  paused: z.boolean().optional(),
  members: z.record(z.string(), memberSchema.nullable()).optional(),
});

export type BeliefChange = z.infer<typeof beliefSchema>;
type MemberBelief = z.infer<typeof memberSchema>;

function leaderBelief(leader: LeaderState): NonNullable<BeliefChange["leader"]> {
  if (leader.kind === "none") return { kind: "none", reason: leader.reason };
  const { kind, member, epoch } = leader;
  const reason = "reason" in leader ? { reason: leader.reason } : {};
  return { kind, member, epoch: epoch.sequence, timeline: epoch.timeline, revision: String(epoch.revision), ...reason };
}

function memberBelief({ name, role, readable, why }: Member, leader: LeaderState): MemberBelief {
  const writes = leader.kind === "writable" && leader.member === name;
  return { role, writes, why_writes: why.writes, reads: readable, why_reads: why.reads };
}

/** Tells of each topology how it differs from the one before. */
export class BeliefLog {
  #leader = "";
  #source = "";
  #paused: boolean | null = null;
  readonly #members = new Map<MemberName, string>();

  /** Null when nothing has changed. */
  change({ leader, source, paused, members }: Topology): BeliefChange | null {
    const change: BeliefChange = {};
    const now = leaderBelief(leader);
    if (JSON.stringify(now) !== this.#leader) change.leader = now;
    this.#leader = JSON.stringify(now);
    const health = source.connected ? `${source.kind} answers` : `${source.kind} does not answer: ${source.reason}`;
    if (health !== this.#source) change.source = health;
    this.#source = health;
    if (paused !== (this.#paused ?? false)) change.paused = paused;
    this.#paused = paused;
    const changed = this.#changedMembers(members, leader);
    if (Object.keys(changed).length > 0) change.members = changed;
    return Object.keys(change).length === 0 ? null : change;
  }

  #changedMembers(
    members: ReadonlyMap<MemberName, Member>,
    leader: LeaderState,
  ): Record<MemberName, MemberBelief | null> {
    const changed: Record<MemberName, MemberBelief | null> = {};
    for (const name of [...this.#members.keys()]) {
      if (members.has(name)) continue;
      this.#members.delete(name);
      changed[name] = null;
    }
    for (const [name, member] of members) {
      const now = memberBelief(member, leader);
      const text = JSON.stringify(now);
      if (this.#members.get(name) === text) continue;
      this.#members.set(name, text);
      changed[name] = now;
    }
    return changed;
  }
}
