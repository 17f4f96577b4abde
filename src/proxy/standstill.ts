// Whether this router holds transactions back because a command asked all routers to (`pgsteer switchover`, `pgsteer pause`), and what
// it says about that. Pure: one state, and one step from what is known at a moment. A switchover holds what would start on the leader,
// a pause holds everything. Nothing holds for ever but a pause: without etcd a switchover's hold ends at its deadline.

import type { Clock } from "../core/clock.ts";
import { COORDINATION_READ_MS, SWITCHOVER_HOLD_MS } from "../core/limits.ts";
import type { Millis } from "../core/units.ts";
import type { CoordinationRequest, RouterState, SwitchoverRequest } from "../discovery/coordination-keys.ts";
import type { LeaderState } from "../discovery/topology.ts";

export type Standstill =
  /** Not yet known whether there is a request: nothing is served before, for a short time. */
  | { readonly kind: "unread"; readonly since: Millis }
  /** `request`: one that still stands, and is over for this router. */
  | {
      readonly kind: "serving";
      readonly request: string | null;
      readonly since: Millis;
      readonly heldMs: number | null;
      readonly reason: string;
    }
  | { readonly kind: "draining"; readonly request: CoordinationRequest; readonly since: Millis; readonly from: Millis }
  /** Nothing is open; the leader is still the old one. */
  | { readonly kind: "drained"; readonly request: SwitchoverRequest; readonly since: Millis; readonly from: Millis }
  /** The old leader has gone, the new one does not take writes yet. */
  | { readonly kind: "holding"; readonly request: SwitchoverRequest; readonly since: Millis; readonly from: Millis }
  | {
      readonly kind: "paused";
      readonly request: CoordinationRequest;
      readonly since: Millis;
      readonly from: Millis;
    }
  /** Transactions were still open at the deadline: holds nothing, until the request is gone. */
  | { readonly kind: "cannot"; readonly request: SwitchoverRequest; readonly since: Millis; readonly reason: string };

/** All that decides. */
export interface Surroundings {
  readonly now: Millis;
  /** Whether the keys were read at all. */
  readonly read: boolean;
  /** Whether etcd answers now. */
  readonly connected: boolean;
  /** It has refused: waiting for it is in vain. */
  readonly refused: boolean;
  /** As it was last read. */
  readonly request: CoordinationRequest | null;
  readonly leader: LeaderState;
  /** Transactions that are in the way of the request. */
  readonly open: () => number;
  /** Who they are, in words. */
  readonly inTheWay: () => string;
}

/** What is held back: nothing, what would start on the leader, or everything. */
export type Hold = "nothing" | "leader" | "everything";

/** At the start. */
export const unread = (clock: Clock): Standstill => ({ kind: "unread", since: clock.now() });

/** What this state holds back. */
export function holdOf(state: Standstill): Hold {
  switch (state.kind) {
    case "unread":
    case "paused":
      return "everything";
    case "draining":
      return state.request.kind === "pause" ? "everything" : "leader";
    case "drained":
    case "holding":
      return "leader";
    case "serving":
    case "cannot":
      return "nothing";
  }
}

/** Why clients wait, as the end of a sentence. */
export function holdReason(state: Standstill): string {
  if (state.kind === "unread") return "whether the routers are paused has not been read from etcd yet";
  if (state.kind === "serving" || state.kind === "cannot") return "";
  const { request } = state;
  return request.kind === "pause"
    ? `all transactions are paused by pgsteer pause (${request.by}, ${request.since})`
    : `pgsteer switchover is under way (${request.by}, ${request.since})`;
}

/** The word under which a state is announced. */
export const announcedState = (state: Standstill): RouterState => (state.kind === "unread" ? "holding" : state.kind);

/** The request that a state is about. */
export function requestOf(state: Standstill): string | null {
  if (state.kind === "unread") return null;
  return state.kind === "serving" ? state.request : state.request.id;
}

const serving = (now: Millis, request: string | null, heldMs: number | null = null, reason = ""): Standstill => ({
  kind: "serving",
  request,
  since: now,
  heldMs,
  reason,
});

/** The state that follows; the same object where nothing does. */
export function stepStandstill(state: Standstill, around: Surroundings): Standstill {
  const { now, request } = around;
  if (state.kind === "unread") {
    const late = around.refused || now - state.since >= COORDINATION_READ_MS;
    if (!around.read) return late ? serving(now, null) : state;
    return request === null ? serving(now, null) : begin(request, around);
  }
  if (request === null) return requestOf(state) === null ? state : serving(now, null);
  if (requestOf(state) !== request.id) return begin(request, around);
  switch (state.kind) {
    case "serving":
    case "cannot":
    case "paused":
      return state;
    case "draining":
    case "drained":
    case "holding":
      return request.kind === "pause" ? pausing(state, request, around) : switching(state, request, around);
  }
}

/** What is open is counted once nothing more can begin: in the next step. */
function begin(request: CoordinationRequest, { now, leader }: Surroundings): Standstill {
  if (request.kind === "switchover" && isSuccessor(leader, request))
    return serving(now, request.id, null, "the request is about a leader of the past");
  return { kind: "draining", request, since: now, from: now };
}

const isSuccessor = (leader: LeaderState, { revision }: SwitchoverRequest): boolean =>
  leader.kind !== "none" && leader.epoch.revision > BigInt(revision);

type UnderWay = Extract<Standstill, { readonly kind: "draining" | "drained" | "holding" }>;

function pausing(state: UnderWay, request: CoordinationRequest, { now, open }: Surroundings): Standstill {
  return open() > 0 ? state : { kind: "paused", request, since: now, from: state.from };
}

function switching(state: UnderWay, request: SwitchoverRequest, around: Surroundings): Standstill {
  const { now, leader } = around;
  const heldMs = now - state.from;
  const successor = isSuccessor(leader, request);
  if (successor && (leader.kind === "writable" || leader.kind === "standby")) return serving(now, request.id, heldMs);
  if (heldMs >= request.deadline_ms) {
    if (!around.connected) return serving(now, request.id, heldMs, "etcd does not answer, and the deadline has passed");
    if (state.kind === "draining" && around.open() > 0)
      return { kind: "cannot", request, since: now, reason: around.inTheWay() };
    if (heldMs >= request.deadline_ms + SWITCHOVER_HOLD_MS)
      return serving(now, request.id, heldMs, "nothing came of the request");
  }
  const gone = leader.kind === "none" || leader.kind === "elected" || successor;
  const { from } = state;
  if (gone) return state.kind === "holding" ? state : { kind: "holding", request, since: now, from };
  if (state.kind === "draining" && around.open() === 0) return { kind: "drained", request, since: now, from };
  return state;
}
