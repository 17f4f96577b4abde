// What one change of leader cost each path, from what its writer was told and from the rows that are really there. Pure.

import type { Attempt, Gap } from "../test/support/writer.ts";

export const EVENT_KINDS = ["switchover", "postgres", "node"] as const;

/** Asked of Patroni; kill -9 of the leader's PostgreSQL; kill -9 of the leader's Patroni and PostgreSQL. */
export type EventKind = (typeof EVENT_KINDS)[number];

/** What one path made of one event. Times in ms. */
export interface PathCost {
  readonly path: string;
  /** From the last acknowledged write before the longest silence to the first after it. */
  readonly gapMs: number;
  /** From the first write that the new leader took, however it came, to the first one through this path. */
  readonly beyondMs: number;
  /** When that was, in ms since 1970. */
  readonly resumedAt: number;
  /** Attempts that were not acknowledged, by SQLSTATE, by the system's code, or in a word. */
  readonly errors: Readonly<Record<string, number>>;
  readonly acknowledged: number;
  /** Acknowledged, and not there. */
  readonly lost: number;
  /** Neither acknowledged nor refused for certain; and how many of those are there. */
  readonly unknown: number;
  readonly unknownThere: number;
  /** Refused for certain, and there; written once, and there more than once. Both are wrong. */
  readonly refusedThere: number;
  readonly doubled: number;
}

/** What Patroni itself made possible, seen by writing to each member directly, or through whichever path was first. */
export interface Floor {
  readonly gapMs: number;
  /** In ms since 1970. */
  readonly lastWriteOld: number;
  readonly firstWriteNew: number;
}

export interface FailoverEvent {
  readonly kind: EventKind;
  readonly from: string;
  readonly to: string;
  /** When it was asked for, in ms since 1970. */
  readonly since: number;
  readonly floor: Floor;
  readonly costs: readonly PathCost[];
  /** The longest time for which the benchmark's own process stood still meanwhile. */
  readonly stalledMs: number;
}

/** How often each row is there, by its number. */
export type Rows = ReadonlyMap<number, number>;

/** SQLSTATEs and `ECONNREFUSED` and its like stand for themselves; a driver has many sentences for a connection that broke. */
function wordFor(code: string): string {
  if (/^(?:[0-9A-Z]{5}|E[A-Z]+)$/.test(code)) return code;
  return code.startsWith("no answer") ? "no answer" : "connection lost";
}

/** `attempts`: those whose rows `rows` would show. `gap` and `firstWriteNew` are the event's. */
export function costOf(
  path: string,
  attempts: readonly Attempt[],
  gap: Gap,
  firstWriteNew: number,
  rows: Rows,
): PathCost {
  const errors: Record<string, number> = {};
  let [acknowledged, lost, unknown, unknownThere, refusedThere, doubled] = [0, 0, 0, 0, 0, 0];
  for (const { id, outcome, code } of attempts) {
    const times = rows.get(id) ?? 0;
    if (times > 1) doubled += 1;
    if (code !== null) {
      const word = wordFor(code);
      errors[word] = (errors[word] ?? 0) + 1;
    }
    if (outcome === "ok") {
      acknowledged += 1;
      if (times === 0) lost += 1;
    } else if (outcome === "unknown") {
      unknown += 1;
      if (times > 0) unknownThere += 1;
    } else if (times > 0) refusedThere += 1;
  }
  const told = { acknowledged, lost, unknown, unknownThere, refusedThere, doubled };
  return { path, gapMs: gap.ms, beyondMs: gap.to - firstWriteNew, resumedAt: gap.to, errors, ...told };
}

/** How many attempts were not acknowledged. */
export function errorCount({ errors }: PathCost): number {
  return Object.values(errors).reduce((sum, count) => sum + count, 0);
}
