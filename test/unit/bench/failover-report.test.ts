import { describe, expect, test } from "vitest";
import type { EventKind, FailoverEvent, PathCost } from "../../../bench/failover-account.ts";
import { duration, eventsTable, failoverNotes, failoverTable } from "../../../bench/failover-report.ts";

const cost = (path: string, beyondMs: number, change: Partial<PathCost> = {}): PathCost => ({
  path,
  gapMs: 1000 + beyondMs,
  beyondMs,
  resumedAt: 0,
  errors: {},
  acknowledged: 100,
  lost: 0,
  unknown: 0,
  unknownThere: 0,
  refusedThere: 0,
  doubled: 0,
  ...change,
});

const event = (kind: EventKind, costs: readonly PathCost[]): FailoverEvent => ({
  kind,
  from: "node1",
  to: "node2",
  since: 0,
  floor: { gapMs: 1000, lastWriteOld: 0, firstWriteNew: 1000 },
  costs,
  stalledMs: 3,
});

const events = [
  event("switchover", [cost("pgsteer", 8), cost("haproxy", 4200, { errors: { "25006": 30, "57P01": 1 } })]),
  event("switchover", [cost("pgsteer", 12), cost("haproxy", 4400, { errors: { "25006": 40 }, unknown: 2 })]),
];

describe("the tables", () => {
  test("have the median and the worst of each path, and its errors by code", () => {
    const table = failoverTable(events);
    expect(table).toContain("10 ms / 12 ms");
    expect(table).toContain("4.30 s / 4.40 s");
    expect(table).toContain("70 × 25006");
    expect(table).toContain("1 × 57P01");
    expect(table).toContain("35.5");
    expect(table).not.toContain("pgbouncer");
    expect(table).not.toContain("kill -9");
  });

  test("list every event", () => {
    const table = eventsTable(events);
    expect(table.match(/node1 → node2/g)).toHaveLength(2);
    expect(table).toContain("4.20 s, 31 errors");
    expect(table).toContain("8 ms, 0 errors");
  });

  test("say aloud what must not be", () => {
    expect(failoverNotes(events).filter((note) => note.startsWith("WRONG"))).toEqual([]);
    const wrong = [...events, event("node", [cost("pgsteer", 9, { doubled: 1 })])];
    expect(failoverNotes(wrong)[0]).toMatch(/^WRONG: pgsteer: 1 rows are there twice/);
  });

  test("write times as people do", () => {
    expect([-0.3, 8.4, 999, 1360].map(duration)).toEqual(["0 ms", "8 ms", "999 ms", "1.36 s"]);
  });
});
