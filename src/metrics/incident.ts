// The record of one time in which the leader was away: what began it, what was seen when, what clients paid. A pure builder: pieces of
// what happens go in, one after the other, and the record is whole at each moment. When it begins is for incident-cause.ts to say.

import { type ErrorCode, errorTable } from "../core/errors.ts";
import { INCIDENT_MARKS_MAX } from "../core/limits.ts";
import type { Millis } from "../core/units.ts";
import type { LeaderState } from "../discovery/topology.ts";
import { type Beginning, type Cause, isAnnounced, keyOf } from "./incident-cause.ts";

/** Errors that a change of leader gives to clients, and connections that broke off in the middle of an answer. */
export type GivenError = ErrorCode | "broken_off";

/** The SQLSTATE of an error that was given; null for a connection that broke off. */
export const sqlstateOf = (error: GivenError): string | null =>
  error === "broken_off" ? null : errorTable[error].sqlstate;

/** A leadership, as far as it is known. */
export interface Leadership {
  readonly member: string;
  readonly epoch: number;
  /** Null until it was seen to take writes. */
  readonly timeline: number | null;
}

/**
 * What can be seen of a change of leader, in the order in which it usually is: the first sign of it; the first client waits; the leader
 * key is deleted; connections are cut; a new leader key; a leader takes writes; the first client that waited has a server; the first
 * transaction is answered; nobody waits any more. `sign`: what was learnt of a leader that stays.
 */
export const phases = [
  "first_sign",
  "sign",
  "first_hold",
  "key_gone",
  "fence",
  "key",
  "gate",
  "first_lease",
  "first_answer",
  "end",
] as const;
export type Phase = (typeof phases)[number];

/** A moment of the timeline. */
export interface Mark {
  readonly phase: Phase;
  /** Since the first sign, ms. */
  readonly afterMs: number;
  /** For a person; may be empty. */
  readonly what: string;
}

/**
 * `switchover`: announced; `failover`: not announced; `away`: the same leader came back; `called_off`: announced, and nothing
 * happened; `paused`: by request, the leader stayed; `standby`: the cluster became one that replicates from another. Of one that goes on: what it looks like so far.
 */
export type IncidentKind = "switchover" | "failover" | "away" | "called_off" | "paused" | "standby";

export interface Incident {
  readonly id: number;
  readonly cluster: string;
  readonly beganAt: Millis;
  /** Milliseconds since 1970. */
  readonly beganWall: number;
  readonly cause: Cause;
  readonly old: Leadership;
  /** Who leads, or is about to; null while nobody does. */
  readonly holder: Leadership | null;
  /** Who wrote the leader key last, and when. */
  readonly key: string;
  /** Why writes are not served; empty while they are. */
  readonly waitsFor: string;
  readonly timeline: readonly Mark[];
  /** Whether a switchover was announced. */
  readonly announced: boolean;
  /** Whether the leader did not take writes at some time, and did not only hold back new ones. */
  readonly left: boolean;
  /** Whether the cluster has become one that replicates from another. */
  readonly standby: boolean;
  /** Server connections that were cut. */
  readonly cut: number;
  readonly held: {
    readonly now: number;
    readonly most: number;
    readonly total: number;
    readonly served: number;
    readonly longestMs: number;
  };
  readonly reruns: number;
  readonly errors: ReadonlyMap<GivenError, number>;
}

/** One thing that happened. */
export type Happening =
  | { readonly kind: "leader"; readonly at: Millis; readonly leader: LeaderState; readonly keyKnown: boolean }
  | { readonly kind: "held"; readonly at: Millis }
  | { readonly kind: "released"; readonly at: Millis; readonly served: boolean; readonly waitedMs: number }
  | { readonly kind: "cut"; readonly at: Millis; readonly connections: number }
  | { readonly kind: "gave"; readonly error: GivenError }
  | { readonly kind: "reran" }
  | { readonly kind: "answered"; readonly at: Millis };

/** What is known at the first sign; `holding`: clients that wait already. */
export interface Seed extends Beginning {
  readonly id: number;
  readonly cluster: string;
  readonly at: Millis;
  readonly wall: number;
  readonly holding: number;
}

export function beginIncident({ id, cluster, at, wall, holding, cause, reason, old, key }: Seed): Incident {
  return {
    id,
    cluster,
    beganAt: at,
    beganWall: wall,
    cause,
    old,
    holder: old,
    key,
    waitsFor: reason,
    timeline: [{ phase: "first_sign", afterMs: 0, what: reason }],
    announced: isAnnounced(cause),
    left: false,
    standby: false,
    cut: 0,
    held: { now: holding, most: holding, total: holding, served: 0, longestMs: 0 },
    reruns: 0,
    errors: new Map(),
  };
}

/** The record after one more thing happened. */
export function stepIncident(incident: Incident, happening: Happening): Incident {
  switch (happening.kind) {
    case "leader":
      return withEnd(stepLeader(incident, happening), happening.at);
    case "held": {
      const { held } = incident;
      const now = held.now + 1;
      const next = { ...incident, held: { ...held, now, most: Math.max(held.most, now), total: held.total + 1 } };
      return held.total === 0 ? mark(next, "first_hold", happening.at, "") : next;
    }
    case "released":
      return withEnd(stepReleased(incident, happening), happening.at);
    case "cut": {
      const next = { ...incident, cut: incident.cut + happening.connections };
      // At the change of the key there may be none left: PostgreSQL closes them when it stops in good order.
      const last = incident.timeline.at(-1)?.phase;
      const due = happening.connections > 0 || last === "key_gone" || last === "key";
      return due && markOf(incident, "fence") === null ? mark(next, "fence", happening.at, "") : next;
    }
    case "gave": {
      const errors = new Map(incident.errors);
      errors.set(happening.error, (errors.get(happening.error) ?? 0) + 1);
      return { ...incident, errors };
    }
    case "reran":
      return { ...incident, reruns: incident.reruns + 1 };
    case "answered":
      return awaitsAnswer(incident) ? mark(incident, "first_answer", happening.at, "") : incident;
  }
}

function stepLeader(incident: Incident, { at, leader, keyKnown }: Extract<Happening, { kind: "leader" }>): Incident {
  const { holder } = incident;
  if (leader.kind === "none") {
    const next = { ...incident, left: true, holder: null, waitsFor: leader.reason };
    return holder !== null && keyKnown ? mark(next, "key_gone", at, leader.reason) : sign(next, at, leader.reason);
  }
  const { sequence, timeline } = leader.epoch;
  const now: Leadership = { member: leader.member, epoch: sequence, timeline: timeline === 0 ? null : timeline };
  const left = incident.left || leader.kind === "elected";
  let next: Incident = { ...incident, left, holder: now, waitsFor: "reason" in leader ? leader.reason : "" };
  // A newer timeline under the same key is an epoch of its own, too.
  const key = keyOf(leader);
  if (keyKnown && key !== incident.key) next = mark({ ...next, key }, "key", at, now.member);
  switch (leader.kind) {
    case "writable":
      return isOpen(incident) ? next : mark(next, "gate", at, now.member);
    case "standby":
      return { ...next, standby: true };
    case "draining":
      return sign({ ...next, announced: true }, at, leader.reason);
    case "elected":
      // Of a new leader it goes without saying that it does not take writes at once.
      return now.epoch === incident.old.epoch || isOpen(incident) ? sign(next, at, leader.reason) : next;
  }
}

function stepReleased(
  incident: Incident,
  { at, served, waitedMs }: Extract<Happening, { kind: "released" }>,
): Incident {
  const { held } = incident;
  const next = {
    ...incident,
    held: {
      ...held,
      now: held.now - 1,
      served: held.served + (served ? 1 : 0),
      longestMs: Math.max(held.longestMs, waitedMs),
    },
  };
  return served && isOpen(incident) && !markedSinceGate(incident, "first_lease")
    ? mark(next, "first_lease", at, "")
    : next;
}

function mark(incident: Incident, phase: Phase, at: Millis, what: string): Incident {
  const added: Mark = { phase, afterMs: at - incident.beganAt, what };
  const [first, ...rest] = incident.timeline;
  // The first sign always stays, and the oldest of the others goes.
  const kept = rest.length + 1 < INCIDENT_MARKS_MAX ? rest : rest.slice(1);
  return { ...incident, timeline: first === undefined ? [added] : [first, ...kept, added] };
}

/** A line that says something new. Signs leave room for the phases. */
function sign(incident: Incident, at: Millis, what: string): Incident {
  const known = incident.timeline.some((each) => each.what === what);
  return known || incident.timeline.length >= INCIDENT_MARKS_MAX / 2 ? incident : mark(incident, "sign", at, what);
}

function withEnd(incident: Incident, at: Millis): Incident {
  const over = incident.standby || (isOpen(incident) && incident.held.now === 0);
  return over && !hasEnded(incident) ? mark(incident, "end", at, "") : incident;
}

const lastIndexOf = ({ timeline }: Incident, phase: Phase): number =>
  timeline.findLastIndex((each) => each.phase === phase);

const markedSinceGate = (incident: Incident, phase: Phase): boolean =>
  lastIndexOf(incident, phase) > lastIndexOf(incident, "gate");

/** Whether writes are served. */
const isOpen = ({ timeline, waitsFor }: Incident): boolean =>
  waitsFor === "" && timeline.some(({ phase }) => phase === "gate");

/** Whether nobody waits any more for a leader. */
export const hasEnded = (incident: Incident): boolean => lastIndexOf(incident, "end") >= 0;

/** Whether the first answer of the leader that now takes writes is still to come. */
export const awaitsAnswer = (incident: Incident): boolean =>
  isOpen(incident) && !markedSinceGate(incident, "first_answer");

/** The mark of a phase that counts: of the first client to wait the first, of all others, of which there can be more, the last. */
export function markOf(incident: Incident, phase: Phase): Mark | null {
  return incident.timeline[lastIndexOf(incident, phase)] ?? null;
}

export function kindOf(incident: Incident): IncidentKind {
  const { announced, cause, holder, left, old, standby } = incident;
  if (standby) return "standby";
  if (holder !== null && holder.member !== old.member) return announced ? "switchover" : "failover";
  const stayed = !left && holder?.epoch === old.epoch;
  if (cause === "pause_requested" && stayed) return "paused";
  if (!isOpen(incident)) return announced ? "switchover" : "away";
  return announced && stayed ? "called_off" : "away";
}

/** From the first sign to the moment in which a leader took writes; null while none does. */
export const awayMs = (incident: Incident): number | null => markOf(incident, "gate")?.afterMs ?? null;

/** All that was given. */
export const errorCount = ({ errors }: Incident): number => [...errors.values()].reduce((sum, count) => sum + count, 0);
