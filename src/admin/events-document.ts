// The document behind /events: one schema for the side that writes it and the side that reads it (`pgsteer events`), and the same
// record as the fields of a log line. Times are milliseconds since the first sign, but for two moments on the wall clock.

import { z } from "zod";
import { isoTime } from "../core/clock.ts";
import { awayMs, errorCount, type Incident, kindOf, markOf, phases, sqlstateOf } from "../metrics/incident.ts";
import type { ShownIncident } from "../metrics/incidents.ts";

const leadershipSchema = z.object({ member: z.string(), epoch: z.number(), timeline: z.number().nullable() });

const eventSchema = z.object({
  id: z.number(),
  cluster: z.string(),
  /** switchover, failover, away, called_off, paused, standby; of one that goes on what it looks like. */
  kind: z.string(),
  going: z.boolean(),
  cause: z.string(),
  /** The cause in words. */
  reason: z.string(),
  /** Why writes are not served now; empty when they are. */
  waits_for: z.string(),
  began: z.string(),
  /** When nobody waited any more. */
  ended: z.string().nullable(),
  old_leader: leadershipSchema,
  new_leader: leadershipSchema.nullable(),
  /** From the first sign until a leader took writes. */
  away_ms: z.number().nullable(),
  /** Where a phase was reached several times: the last. */
  phases_ms: z.record(z.string(), z.number()),
  timeline: z.array(z.object({ ms: z.number(), phase: z.string(), what: z.string() })),
  connections_cut: z.number(),
  clients: z.object({
    held: z.number(),
    held_at_once: z.number(),
    held_now: z.number(),
    longest_wait_ms: z.number(),
  }),
  /** Errors that clients did not see: those who waited and were then served, and statements that were run again unseen. */
  avoided: z.object({ waited: z.number(), rerun: z.number() }),
  /** Errors that clients did see; sqlstate is null where a connection was closed without a word. */
  errors: z.array(z.object({ code: z.string(), sqlstate: z.string().nullable(), count: z.number() })),
  error_count: z.number(),
});

/** What /events answers; newest first. */
export const eventsSchema = z.object({ version: z.string(), events: z.array(eventSchema) });

export type EventsDocument = z.infer<typeof eventsSchema>;
export type EventDocument = z.infer<typeof eventSchema>;

const rounded = (ms: number): number => Math.round(ms * 10) / 10;

export function eventsDocument(version: string, incidents: readonly ShownIncident[]): EventsDocument {
  return { version, events: incidents.map(eventDocument) };
}

/** One record, as it stands. */
export function eventDocument({ incident, going, longestWaitMs }: ShownIncident): EventDocument {
  const { id, cluster, cause, timeline, old, holder, held, errors, beganWall } = incident;
  const end = markOf(incident, "end");
  const away = awayMs(incident);
  return {
    id,
    cluster,
    kind: kindOf(incident),
    going,
    cause,
    reason: timeline[0]?.what ?? "",
    waits_for: incident.waitsFor,
    began: isoTime(beganWall),
    ended: end === null ? null : isoTime(beganWall + end.afterMs),
    old_leader: old,
    new_leader: holder,
    away_ms: away === null ? null : rounded(away),
    phases_ms: phasesOf(incident),
    timeline: timeline.map(({ phase, afterMs, what }) => ({ ms: rounded(afterMs), phase, what })),
    connections_cut: incident.cut,
    clients: {
      held: held.total,
      held_at_once: held.most,
      held_now: held.now,
      longest_wait_ms: rounded(longestWaitMs),
    },
    avoided: { waited: held.served, rerun: incident.reruns },
    errors: [...errors].map(([code, count]) => ({ code, sqlstate: sqlstateOf(code), count })),
    error_count: errorCount(incident),
  };
}

function phasesOf(incident: Incident): Record<string, number> {
  const reached: Record<string, number> = {};
  for (const phase of phases) {
    const mark = phase === "sign" ? null : markOf(incident, phase);
    if (mark !== null) reached[phase] = rounded(mark.afterMs);
  }
  return reached;
}

/** A record that is over, as one line of the log: without its timeline, which the phases sum up. */
export function eventLine(incident: Incident): { readonly fields: Record<string, unknown>; readonly message: string } {
  const shown = { incident, going: false, longestWaitMs: incident.held.longestMs };
  const { timeline: _, going: _going, waits_for: _waits, ...fields } = eventDocument(shown);
  const { kind, old_leader, new_leader, away_ms, clients, error_count } = fields;
  const away = away_ms === null ? "" : ` after ${Math.round(away_ms)} ms`;
  const what: Readonly<Record<string, string>> = {
    switchover: `switchover: ${new_leader?.member} leads in place of ${old_leader.member}${away}`,
    failover: `failover: ${new_leader?.member} leads in place of ${old_leader.member}${away}`,
    away: `leader ${old_leader.member} takes writes again${away}`,
    called_off: `switchover called off: leader ${old_leader.member} takes writes again${away}`,
    paused: `pause over: leader ${old_leader.member} takes writes again${away}`,
    standby: `leader ${old_leader.member} takes no more writes: the cluster replicates from another one`,
  };
  const waited = clients.held === 1 ? "1 client waited" : `${clients.held} clients waited`;
  const given = error_count === 1 ? "1 error was given" : `${error_count} errors were given`;
  const message = `${what[kind] ?? kind}; ${waited}, ${given}`;
  return { fields, message };
}
