import { describe, expect, test } from "vitest";
import { costOf, errorCount } from "../../../bench/failover-account.ts";
import type { Attempt, Gap } from "../../support/writer.ts";

const attempt = (id: number, outcome: Attempt["outcome"], code: string | null = null): Attempt => ({
  id,
  start: id * 10,
  end: id * 10 + 2,
  outcome,
  code,
});

const gap: Gap = { ms: 500, from: 1000, to: 1500, failures: [] };

describe("the cost of an event", () => {
  test("is counted from what the writer was told and what is there", () => {
    const attempts = [
      attempt(1, "ok"),
      attempt(2, "ok"),
      attempt(3, "unknown", "08007"),
      attempt(4, "unknown", "57P01"),
      attempt(5, "refused", "25006"),
      attempt(6, "refused", "25006"),
      attempt(7, "ok"),
    ];
    const rows = new Map([
      [1, 1],
      [3, 1],
      [7, 1],
    ]);
    const cost = costOf("haproxy", attempts, gap, 1400, rows);
    expect(cost).toEqual({
      path: "haproxy",
      gapMs: 500,
      beyondMs: 100,
      resumedAt: 1500,
      errors: { "08007": 1, "57P01": 1, "25006": 2 },
      acknowledged: 3,
      lost: 1,
      unknown: 2,
      unknownThere: 1,
      refusedThere: 0,
      doubled: 0,
    });
    expect(errorCount(cost)).toBe(4);
  });

  test("tells what is wrong: rows that are there twice, or although they were refused", () => {
    const attempts = [attempt(1, "ok"), attempt(2, "refused", "25006")];
    const rows = new Map([
      [1, 2],
      [2, 1],
    ]);
    const { doubled, refusedThere } = costOf("pgsteer", attempts, gap, 1400, rows);
    expect({ doubled, refusedThere }).toEqual({ doubled: 1, refusedThere: 1 });
  });

  test("puts a driver's sentences about a broken connection together", () => {
    const attempts = [
      attempt(1, "unknown", "Connection terminated unexpectedly"),
      attempt(2, "unknown", "Client has encountered a connection error and is not queryable"),
      attempt(3, "refused", "ECONNREFUSED"),
      attempt(4, "unknown", "no answer within 60000 ms"),
    ];
    const { errors } = costOf("haproxy", attempts, gap, 1400, new Map());
    expect(errors).toEqual({ "connection lost": 2, ECONNREFUSED: 1, "no answer": 1 });
  });
});
