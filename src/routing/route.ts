// Names the member that a target gets now, or says why there is none: a pure function of the topology, the target and what the
// balance has learnt.

import { ProxyError } from "../core/errors.ts";
import { leaderMember, type Member, type Topology } from "../discovery/topology.ts";
import type { Balance } from "./balance.ts";
import type { Target } from "./target.ts";

export type Decision =
  | { readonly kind: "member"; readonly member: Member; readonly purpose: "write" | "read"; readonly epoch: number }
  /** Nobody now; waiting may help. `reason` is a sentence for the person whose wait expires. */
  | { readonly kind: "hold"; readonly reason: string }
  /** Waiting will not help. */
  | { readonly kind: "refuse"; readonly error: ProxyError };

/** Where `target` goes under `topology`. Reads advance the balance. */
export function route(topology: Topology, target: Target, balance: Balance): Decision {
  return target === "primary" ? routeWrite(topology) : routeRead(topology, balance);
}

function routeWrite(topology: Topology): Decision {
  const { leader } = topology;
  switch (leader.kind) {
    case "writable": {
      const member = leaderMember(topology);
      if (member === null) return { kind: "hold", reason: `The leader "${leader.member}" has no member key yet.` };
      return { kind: "member", member, purpose: "write", epoch: leader.epoch.sequence };
    }
    case "standby":
      return {
        kind: "refuse",
        error: new ProxyError("read_only_cluster", "cannot execute writes in a standby cluster", {
          detail: `Cluster "${topology.cluster}" replicates from another one; its leader "${leader.member}" is read-only.`,
          hint: "Connect to the primary cluster, or to the read port.",
        }),
      };
    case "elected":
      return { kind: "hold", reason: `The leader "${leader.member}" does not accept writes yet: ${leader.reason}.` };
    case "draining":
      return { kind: "hold", reason: `The leader "${leader.member}" takes no new transactions: ${leader.reason}.` };
    case "none":
      return { kind: "hold", reason: `Cluster "${topology.cluster}" has no leader: ${leader.reason}.` };
  }
}

function routeRead(topology: Topology, balance: Balance): Decision {
  const replica = balance.next(topology);
  if (replica !== null) return { kind: "member", member: replica, purpose: "read", epoch: 0 };
  const leader = leaderMember(topology);
  if (balance.fallback === "primary" && leader?.readable) {
    return { kind: "member", member: leader, purpose: "read", epoch: 0 };
  }
  return { kind: "hold", reason: `Cluster "${topology.cluster}" has no replica for reads: ${balance.why(topology)}.` };
}
