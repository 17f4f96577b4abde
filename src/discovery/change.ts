// Whether two snapshots differ in anything that somebody could act on, and what to write to the log about it.

import type { LeaderState, Member, MemberName, Topology } from "./topology.ts";

/** One line for the log. */
export interface ChangeLine {
  readonly level: "info" | "warn";
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

function same(one: unknown, other: unknown): boolean {
  if (one === other) return true;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
  const left = Object.entries(one);
  const right = new Map<string, unknown>(Object.entries(other));
  return left.length === right.size && left.every(([key, value]) => right.has(key) && same(value, right.get(key)));
}

function sameMembers(one: ReadonlyMap<MemberName, Member>, other: ReadonlyMap<MemberName, Member>): boolean {
  if (one.size !== other.size) return false;
  for (const [name, member] of one) if (!same(member, other.get(name))) return false;
  return true;
}

/** Structural equality, but for the moment at which the source was last confirmed. */
export function sameTopology(one: Topology, other: Topology): boolean {
  return (
    one.paused === other.paused &&
    one.source.connected === other.source.connected &&
    one.source.reason === other.source.reason &&
    same(one.leader, other.leader) &&
    sameMembers(one.members, other.members)
  );
}

function leaderLine(leader: LeaderState): ChangeLine {
  if (leader.kind === "none")
    return { level: "warn", fields: { reason: leader.reason }, message: "no leader is served" };
  const { member, epoch } = leader;
  const { timeline, sequence } = epoch;
  const fields = { leader: member, epoch: sequence, timeline, revision: String(epoch.revision) };
  switch (leader.kind) {
    case "elected":
      return { level: "info", fields: { ...fields, reason: leader.reason }, message: "leader is not yet writable" };
    case "writable":
      return { level: "info", fields, message: "leader is writable" };
    case "draining":
      return { level: "info", fields: { ...fields, reason: leader.reason }, message: "leader is draining" };
    case "standby":
      return { level: "info", fields, message: "leader of a standby cluster" };
  }
}

/** What is worth a line: another leader or state of it, a source lost or found. */
export function describeChange(now: Topology, before: Topology): readonly ChangeLine[] {
  const lines: ChangeLine[] = [];
  const leaderOf = ({ leader }: Topology): string =>
    leader.kind === "none" ? "none" : `${leader.kind} ${leader.member} ${leader.epoch.sequence}`;
  // A new reason in the same state is news too: it may be the one that asks for a person.
  const reasonOf = ({ leader }: Topology): string => ("reason" in leader ? leader.reason : "");
  if (leaderOf(now) !== leaderOf(before) || reasonOf(now) !== reasonOf(before)) lines.push(leaderLine(now.leader));
  if (now.source.connected !== before.source.connected) {
    const epoch = now.leader.kind === "none" ? null : now.leader.epoch.sequence;
    const fields = { source: now.source.kind, epoch, reason: now.source.reason };
    lines.push(
      now.source.connected
        ? { level: "info", fields, message: "source is connected" }
        : { level: "warn", fields, message: "source is lost" },
    );
  }
  return lines;
}
