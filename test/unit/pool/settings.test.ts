// Settings as a value: what brings a session from one set to another is minimal and cannot be misread. That PostgreSQL reads it
// so is in test/integration/pool.test.ts.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { followsClient, SettingsSet } from "../../../src/pool/settings.ts";

const of = (settings: Record<string, string>): SettingsSet => SettingsSet.of(Object.entries(settings));
const sql = (from: Record<string, string>, to: Record<string, string>): string | null => of(to).sqlFrom(of(from));

describe("SettingsSet", () => {
  test("compares names without case, and by content whatever the order", () => {
    const one = of({ DateStyle: "ISO", TimeZone: "UTC" });
    expect(one.equals(of({ timezone: "UTC", datestyle: "ISO" }))).toBe(true);
    expect(one.key).toBe(of({ TIMEZONE: "UTC", DATESTYLE: "ISO" }).key);
    expect(one.equals(of({ datestyle: "iso", timezone: "UTC" }))).toBe(false);
    expect(of({}).equals(SettingsSet.empty)).toBe(true);
  });

  test("is changed by making another one, or itself where nothing changes", () => {
    const before = of({ a: "1" });
    expect(before.with("A", "1")).toBe(before);
    const after = before.with("A", "2").with("b", "");
    expect(after.equals(of({ a: "2", b: "" }))).toBe(true);
    expect(before.equals(of({ a: "1" }))).toBe(true);
    expect(after.size).toBe(2);
    expect(of({ a: "1", A: "2" }).equals(of({ a: "2" }))).toBe(true);
  });

  test("says nothing where nothing differs, and no more than differs elsewhere", () => {
    expect(sql({}, {})).toBeNull();
    expect(sql({ a: "1", b: "2" }, { B: "2", A: "1" })).toBeNull();
    expect(sql({ a: "1", b: "2" }, { a: "1", b: "3" })).toBe("SELECT pg_catalog.set_config('b','3',false)");
    expect(sql({ a: "1", b: "2" }, { a: "1" })).toBe('RESET "b";');
    expect(sql({ a: "1" }, { b: "2", c: "" })).toBe(
      `RESET "a";SELECT pg_catalog.set_config('b','2',false),pg_catalog.set_config('c','',false)`,
    );
  });

  test("quotes what SQL could misread", () => {
    expect(sql({}, { a: "it's" })).toContain("'it''s'");
    expect(sql({}, { a: "a\\'; DROP TABLE t; --" })).toContain("E'a\\\\''; DROP TABLE t; --'");
    expect(sql({ "custom.name": "x" }, {})).toBe('RESET "custom"."name";');
    expect(sql({ 'a"; DROP TABLE t; --': "x" }, {})).toBe('RESET "a""; DROP TABLE t; --";');
  });

  test("keeps every byte of a value", () => {
    const bytes = Array.from({ length: 255 }, (_, index) => String.fromCharCode(index + 1)).filter(
      (c) => !"'\\".includes(c),
    );
    const value = bytes.join("");
    expect(sql({}, { a: value })).toBe(`SELECT pg_catalog.set_config('a','${value}',false)`);
  });

  test("leads from any set to any other, by the words of the SQL alone", () => {
    const name = fc.constantFrom("a", "B", "c.d", "E.F");
    const settings = fc.dictionary(name, fc.string({ unit: fc.constantFrom(..."x'\\\";, -"), maxLength: 6 }));
    fc.assert(
      fc.property(settings, settings, (from, to) => {
        const session = new Map(Object.entries(from).map(([key, value]) => [key.toLowerCase(), value]));
        const text = sql(from, to) ?? "";
        const literal = String.raw`(?: E'((?:[^'\\]|''|\\\\)*)'|'((?:[^'\\]|'')*)')`;
        const shape = /^((?:RESET (?:"[^"]*"\.?)+;)*)(?:SELECT (.*))?$/s.exec(text);
        expect(shape, text).not.toBeNull();
        for (const [, reset] of (shape?.[1] ?? "").matchAll(/RESET ([^;]*);/g)) {
          expect(session.delete((reset ?? "").replaceAll('"', "").toLowerCase())).toBe(true);
        }
        let rest = shape?.[2] ?? "";
        const call = new RegExp(`^,?pg_catalog\\.set_config\\('([^']*)',${literal},false\\)`, "s");
        for (let match = call.exec(rest); match !== null; match = call.exec(rest)) {
          const value =
            match[2]?.replaceAll("''", "'").replaceAll("\\\\", "\\") ?? match[3]?.replaceAll("''", "'") ?? "";
          expect(session.get((match[1] ?? "").toLowerCase())).not.toBe(value);
          session.set((match[1] ?? "").toLowerCase(), value);
          rest = rest.slice(match[0].length);
        }
        expect(rest).toBe("");
        expect(SettingsSet.of(session).equals(of(to))).toBe(true);
      }),
      { numRuns: 500, seed: 11 },
    );
  });
});

describe("what connect_query has set", () => {
  const of = (settings: Readonly<Record<string, string>>) => SettingsSet.of(Object.entries(settings));
  const base = of({ search_path: "mine", role: "reader" });

  test("is what a setting goes back to", () => {
    expect(SettingsSet.empty.sqlFrom(of({ Search_Path: "other", work_mem: "1MB" }), base)).toBe(
      `RESET "work_mem";SELECT pg_catalog.set_config('search_path','mine',false)`,
    );
    expect(of({ work_mem: "1MB" }).sqlFrom(of({ work_mem: "1MB" }), base)).toBeNull();
  });

  test("is no client's own", () => {
    expect(of({ search_path: "mine", work_mem: "1MB", role: "writer" }).beyond(base)).toEqual(
      of({ work_mem: "1MB", role: "writer" }),
    );
    expect(base.beyond(base)).toBe(SettingsSet.empty);
  });

  test("is missed where it was undone", () => {
    expect(of({ search_path: "other", role: "reader" }).covers(base)).toBe(true);
    expect(of({ search_path: "mine" }).covers(base)).toBe(false);
    expect(SettingsSet.empty.covers(SettingsSet.empty)).toBe(true);
  });
});

describe("a reported parameter", () => {
  test("follows the client unless it describes the server or the route", () => {
    for (const name of [
      "DateStyle",
      "TimeZone",
      "client_encoding",
      "application_name",
      "default_transaction_read_only",
    ]) {
      expect(followsClient(name), name).toBe(true);
    }
    for (const name of [
      "in_hot_standby",
      "server_version",
      "is_superuser",
      "session_authorization",
      "integer_datetimes",
    ]) {
      expect(followsClient(name), name).toBe(false);
    }
  });
});
