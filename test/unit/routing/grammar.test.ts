// The parser as such: what it reads, and that nothing that it meets spoils it, or the process.

import { describe, expect, test } from "vitest";
import { GRAMMAR_TEXT_BYTES_MAX } from "../../../src/core/limits.ts";
import { Grammar } from "../../../src/routing/grammar.ts";

async function loaded(): Promise<Grammar> {
  const grammar = new Grammar();
  await grammar.load();
  return grammar;
}

const kinds = (grammar: Grammar, sql: string) =>
  grammar.statements(sql)?.map((statement) => Object.keys(statement as object)[0]) ?? null;

/** The same text as the longest that is read. */
const filled = (front: string, unit: string, back: string) =>
  front + unit.repeat(Math.floor((GRAMMAR_TEXT_BYTES_MAX - front.length - back.length) / unit.length)) + back;

describe("the grammar", () => {
  test("reads statements, and says where it cannot", async () => {
    const grammar = await loaded();
    expect(kinds(grammar, "SET a = 1; LISTEN b;")).toEqual(["VariableSetStmt", "ListenStmt"]);
    expect(kinds(grammar, "")).toEqual([]);
    expect(kinds(grammar, "-- nothing")).toEqual([]);
    expect(kinds(grammar, "SELEC")).toBeNull();
    expect(kinds(grammar, "SELECT 'open")).toBeNull();
  });

  test("keeps bytes as they are", async () => {
    const grammar = await loaded();
    const bytes = Buffer.from('LISTEN "ü…é"').toString("latin1");
    expect(JSON.stringify(grammar.statements(bytes))).toContain(Buffer.from("ü…é").toString("latin1"));
  });

  test("survives the deepest texts that it is given", { timeout: 20_000 }, async () => {
    const grammar = await loaded();
    for (let round = 0; round < 5; round += 1) {
      for (const sql of [
        filled("SELECT ", "(", "1"),
        filled("SELECT ", "NOT ", "true"),
        filled("SELECT ", "(SELECT ", "1"),
        filled("SELECT 1", "+1", ""),
        filled("SELECT ", "- ", "1"),
        filled("SELECT ", "CASE WHEN true THEN ", "1"),
        filled("SELECT ", "a.", "b"),
        filled("SELECT ", "[", ""),
      ]) {
        grammar.statements(sql);
        expect(kinds(grammar, "LISTEN a")).toEqual(["ListenStmt"]);
      }
    }
  });

  test("is had anew when it traps, and reads nothing until then", async () => {
    let made = 0;
    const genuine = (await import("libpg-query/wasm/libpg-query.js")).default;
    const grammar = new Grammar(async () => {
      made += 1;
      const instance = await genuine();
      if (made > 1) return instance;
      const trap = () => {
        throw new Error("table index is out of bounds");
      };
      return { ...instance, _wasm_parse_query_raw: trap };
    });
    await grammar.load();
    expect(grammar.statements("LISTEN a")).toBeNull();
    expect(grammar.statements("LISTEN a")).toBeNull();
    await grammar.load();
    expect(made).toBe(2);
    expect(kinds(grammar, "LISTEN a")).toEqual(["ListenStmt"]);
  });

  test("that cannot be had reads nothing", async () => {
    const grammar = new Grammar(() => Promise.reject(new Error("no such file")));
    await grammar.load();
    expect(grammar.statements("LISTEN a")).toBeNull();
    await grammar.load();
  });
});
