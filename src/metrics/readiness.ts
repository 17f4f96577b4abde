// Whether a listener can do what its route promises, and which members serve it now: the answer behind /readyz and behind the
// column "Serves" of `pgsteer status`. Asks routing itself, so that the answer is the one that a client would get.

import { leaderMember, type Member, type MemberName, type Topology } from "../discovery/topology.ts";
import type { ActiveListener } from "../proxy/data-plane.ts";
import { type Decision, route } from "../routing/route.ts";
import type { Snapshot } from "./snapshot.ts";

/** What of a listener a member gets. */
export interface Service {
  readonly listener: string;
  readonly route: "auto" | "write" | "read";
  readonly purpose: "write" | "read";
}

/** Why a listener's writes and reads cannot be served now; null where they can, or where the route has none. */
export interface Obstacles {
  readonly write: string | null;
  readonly read: string | null;
}

type Observed = Pick<ActiveListener, "options" | "balance">;

const reasonOf = (decision: Decision): string | null => {
  if (decision.kind === "member") return null;
  return decision.kind === "hold" ? decision.reason : (decision.error.detail ?? decision.error.message);
};

/** What stands in the way of one listener. */
export function obstaclesOf(topology: Topology, { options, balance }: Observed): Obstacles {
  const write = options.route === "read" ? null : reasonOf(route(topology, "primary", balance));
  // Without a candidate the question takes no replica's turn away.
  const asks = options.route !== "write" && balance.candidates(topology).length === 0;
  return { write, read: asks ? reasonOf(route(topology, "replica", balance)) : null };
}

/** Who serves what of these listeners now. */
export function servicesOf(
  topology: Topology,
  listeners: readonly Observed[],
): ReadonlyMap<MemberName, readonly Service[]> {
  const services = new Map<MemberName, Service[]>();
  const leader = leaderMember(topology);
  for (const { options, balance } of listeners) {
    const add = (member: MemberName, purpose: "write" | "read") => {
      const service = { listener: options.name, route: options.route, purpose };
      services.set(member, [...(services.get(member) ?? []), service]);
    };
    if (options.route !== "read" && leader !== null && topology.leader.kind === "writable") add(leader.name, "write");
    if (options.route === "write") continue;
    const candidates = balance.candidates(topology);
    for (const { name } of candidates) add(name, "read");
    if (candidates.length === 0 && balance.fallback === "primary" && leader?.readable === true)
      add(leader.name, "read");
  }
  return services;
}

/** Why a member gets nothing from these listeners; empty when nothing is known to be wrong with it. */
export function whyServesNothing(topology: Topology, member: Member, listeners: readonly Observed[]): string {
  const { leader } = topology;
  if (leader.kind !== "none" && leader.member === member.name) {
    if ("reason" in leader) return leader.reason;
    return leader.kind === "standby" ? "it takes no writes" : "no listener leads to the leader";
  }
  const reading = listeners.find(({ options }) => options.route !== "write");
  if (reading === undefined) return "no listener reads from replicas";
  return reading.balance.rejection(topology, member) ?? "";
}

/** What /readyz was asked. */
export interface Question {
  /** Null: whichever. */
  readonly route: "write" | "read" | "auto" | null;
  /** Null: all of them. */
  readonly cluster: string | null;
}

/**
 * Why the route cannot be served now; null when it can. A route is that of the listeners that have it, or else of the listeners
 * that decide by statement; it has to be served for each cluster that these lead to. Without a route, any listener will do.
 */
export function notReady(snapshot: Snapshot, question: Question): string | null {
  if (snapshot.draining) return "pgsteer is shutting down: it lets its clients finish and takes no new ones";
  const listeners = snapshot.listeners.filter(({ cluster }) => (question.cluster ?? cluster) === cluster);
  if (listeners.length === 0) {
    return question.cluster === null ? "no listener is open" : `no listener leads to a cluster "${question.cluster}"`;
  }
  const main = ({ route, obstacles }: (typeof listeners)[number]) =>
    route === "read" ? obstacles.read : obstacles.write;
  if (question.route === null) {
    const obstacles = listeners.map(main);
    return obstacles.includes(null) ? null : (obstacles[0] ?? null);
  }
  const { route } = question;
  const exact = listeners.filter((listener) => listener.route === route);
  const chosen = exact.length > 0 ? exact : listeners.filter((listener) => listener.route === "auto");
  if (chosen.length === 0) return `no listener has the route "${route}"`;
  const obstacle = (listener: (typeof listeners)[number]) =>
    route === "read" ? listener.obstacles.read : listener.obstacles.write;
  return chosen.map(obstacle).find((reason) => reason !== null) ?? null;
}
