// The first look at a text: whatever the words and the grammar take for something that matters, it must not pass; and it is there to
// let plain statements pass.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mayMatter } from "../../../src/routing/glance.ts";
import { deallocates, dropsAll } from "../../../src/routing/intent.ts";
import { mayTouchSession } from "../../../src/routing/session-state.ts";

/** As it stands in a Query or Parse: between other bytes, with the zero byte behind it. */
function glance(sql: string, behind = ""): boolean {
  const bytes = Buffer.from(`SET ;${sql}\0${behind}`, "latin1");
  return mayMatter(bytes, 5, bytes.length);
}

describe("a first look", () => {
  test.each([
    "SELECT abalance FROM pgbench_accounts WHERE aid = 17;",
    "select attempt, template - 1, shold.x from history_2 natural join categories",
    "INSERT INTO t (a, b) VALUES ($1, $2) RETURNING id",
    "Update t set a = -1 where b = '\xe9' and c > 2 / 3",
    "DELETE FROM t WHERE a IN (1, 2)",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "BEGIN",
    "COMMIT;",
    "ROLLBACK TO SAVEPOINT a",
  ])("may pass over %s", (sql) => {
    // Of a few the word is in another one: they are read, which costs time alone.
    expect(glance(sql)).toBe(/temp/i.test(sql));
    expect(mayTouchSession(sql) || dropsAll(sql)).toBe(false);
  });

  test.each([
    "",
    " SELECT 1",
    "SET a = b",
    "SELECT 1; SET a = b",
    "SELECT 1; ",
    "SELECT 1 /* */ ",
    "SELECT 1 -- a",
    "select set_config('a.b', '1', false)",
    "SELECT pg_advisory_lock(1)",
    "SELECT 1 INTO TEMP t",
    "WITH x AS (SELECT 1) SELECT 1 INTO Temporary t",
    "SELECT U&'x'",
    "SELECT run('Discard', 'ALL')",
    "SELECT run('dealLocate all')",
    "SELECT 'WITH HOLD'",
  ])("does not pass over %s", (sql) => {
    expect(glance(sql)).toBe(true);
  });

  test("is not misled by what stands before or behind the text", () => {
    expect(glance("SELECT 1", "\0\x01temp; SET")).toBe(false);
    const bytes = Buffer.from("holdSELECT 1tem", "latin1");
    expect(mayMatter(bytes, 4, 12)).toBe(false);
    expect(mayMatter(Buffer.from("SELECT 1;"), 0, 9)).toBe(false);
  });

  test("passes over nothing that the words make suspicious", () => {
    const words = [
      "SET",
      "reset",
      "Discard",
      "deallocate",
      "ALL",
      "LISTEN",
      "do",
      "call",
      "TEMP",
      "pg_temp",
      "hold",
      "u&",
    ];
    const calls = [
      "set_config",
      "pg_advisory_lock",
      "advisory_unlock",
      "with",
      "select",
      "BEGIN",
      "begin;",
      "1",
      "x",
      "é",
      "²",
    ];
    const marks = [" ", "\n", "\r", ";", "--", "/*", "*/", "(", "\t", "'", '"', "_", "\f", "\v", "\xa0"];
    const piece = fc.constantFrom(...words, ...calls, ...marks);
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 12 }),
        fc.constantFrom("", "SELECT ", "select", "BEGIN"),
        (pieces, first) => {
          const sql = first + pieces.join("");
          const matters = mayTouchSession(sql) || dropsAll(sql) || deallocates(sql) !== null;
          if (matters) expect(glance(sql)).toBe(true);
        },
      ),
      { numRuns: 5_000 },
    );
  });
});
