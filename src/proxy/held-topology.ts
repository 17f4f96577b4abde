// A topology as it looks while transactions are held back on request: in the words that discovery itself has for that, so that
// routing, pools, readiness and people meet nothing new. A leader that is held back is draining; a member that gets no reads says why.

import type { Member, MemberName, Topology } from "../discovery/topology.ts";
import type { Hold } from "./standstill.ts";

/** The same topology where nothing is held. */
export function heldTopology(topology: Topology, hold: Hold, reason: string): Topology {
  if (hold === "nothing") return topology;
  const { leader } = topology;
  const held: Topology["leader"] =
    leader.kind === "writable" || leader.kind === "draining"
      ? { kind: "draining", member: leader.member, epoch: leader.epoch, reason }
      : leader;
  const leads = leader.kind === "none" ? null : leader.member;
  const members = new Map<MemberName, Member>();
  for (const [name, member] of topology.members) {
    const closed = hold === "everything" || name === leads;
    members.set(name, closed && member.readable ? { ...member, readable: false, reason } : member);
  }
  return { ...topology, leader: held, members };
}
