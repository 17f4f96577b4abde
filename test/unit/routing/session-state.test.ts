// What texts do to their session: by PostgreSQL's grammar, and by words where they matter at all. What PostgreSQL makes of it is in
// test/integration/pins.test.ts.

import { beforeAll, describe, expect, test } from "vitest";
import { EFFECTS_CACHE_ENTRIES_MAX, GRAMMAR_TEXT_BYTES_MAX, SETTINGS_ASKED_MAX } from "../../../src/core/limits.ts";
import { pinCauses, unknownEffects } from "../../../src/routing/session-effects.ts";
import { mayTouchSession, SessionEffects } from "../../../src/routing/session-state.ts";

const effects = new SessionEffects();
beforeAll(() => effects.load());

const pins = (sql: string) => effects.of(sql)?.pins.map(({ cause, object }) => `${cause}: ${object}`) ?? [];
const undoes = (sql: string) => effects.of(sql)?.undoes ?? [];
const settings = (sql: string) => {
  const found = effects.of(sql);
  if (found === null) return [];
  return found.settings?.map(({ name, value }) => `${name}=${value}`) ?? "ask";
};

describe("what pins", () => {
  test.each([
    ["CREATE TEMP TABLE x (n int)", 'temporary_table: temporary table "x"'],
    ["create local temporary table if not exists x (n int)", 'temporary_table: temporary table "x"'],
    ["CREATE TEMP TABLE x (n int) ON COMMIT DELETE ROWS", 'temporary_table: temporary table "x"'],
    ["CREATE TABLE pg_temp.x (n int)", "temporary_table: something in the schema pg_temp"],
    ['CREATE TABLE "pg_temp"."x" (n int)', "temporary_table: something in the schema pg_temp"],
    ['CREATE TABLE U&"\\0070g_temp".x (n int)', "temporary_table: something in the schema pg_temp"],
    [
      "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
      "temporary_table: something in the schema pg_temp",
    ],
    ["CREATE TYPE pg_temp.t AS (a int)", "temporary_table: something in the schema pg_temp"],
    ["CREATE DOMAIN pg_temp.d AS int", "temporary_table: something in the schema pg_temp"],
    ["CREATE TEMP TABLE x AS SELECT 1", 'temporary_table: temporary table "x"'],
    ["SELECT 1 INTO TEMP x", 'temporary_table: temporary table "x"'],
    ["WITH a AS (SELECT 1) SELECT * INTO TEMPORARY TABLE x FROM a", 'temporary_table: temporary table "x"'],
    ["CREATE OR REPLACE TEMP VIEW v AS SELECT 1", 'temporary_table: temporary table "v"'],
    ["CREATE TEMP SEQUENCE s", 'temporary_table: temporary table "s"'],
    ["EXPLAIN ANALYZE CREATE TEMP TABLE x AS SELECT 1", 'temporary_table: temporary table "x"'],
    ["SELECT pg_advisory_lock(1)", "advisory_lock: session advisory lock (1)"],
    ["SELECT pg_catalog.pg_try_advisory_lock_shared(1, $1)", "advisory_lock: session advisory lock (1, …)"],
    ['SELECT "pg_catalog"."pg_advisory_lock"(a) FROM t', "advisory_lock: session advisory lock (…)"],
    ["UPDATE t SET a = 1 WHERE pg_try_advisory_lock(7)", "advisory_lock: session advisory lock (7)"],
    ["WITH l AS (SELECT pg_advisory_lock(1)) SELECT 1", "advisory_lock: session advisory lock (1)"],
    ["EXPLAIN (COSTS off, ANALYZE) SELECT pg_advisory_lock(1)", "advisory_lock: session advisory lock (1)"],
    ["DECLARE c CURSOR WITH HOLD FOR SELECT 1", 'with_hold_cursor: cursor "c" WITH HOLD'],
    ["DECLARE c SCROLL CURSOR WITH /* really */ HOLD FOR SELECT 1", 'with_hold_cursor: cursor "c" WITH HOLD'],
    ["LISTEN news", 'listen: LISTEN on channel "news"'],
    ['  /* a /* nested */ comment */ LISTEN "News";', 'listen: LISTEN on channel "News"'],
    ["-- a comment\nLISTEN news", 'listen: LISTEN on channel "news"'],
    ["SELECT 1; -- and\n\tLISTEN news", 'listen: LISTEN on channel "news"'],
    ["PREPARE p (int) AS SELECT $1", 'sql_prepare: prepared statement "p"'],
    ["LOAD 'auto_explain'", 'load: loaded library "auto_explain"'],
    ["SELECT set_config($1, 'x', false)", "hidden_setting: a setting whose name is not written out"],
    ["SET SESSION AUTHORIZATION joe", "session_authorization: another session authorization"],
  ])("%s", (sql, pin) => {
    expect(pins(sql)).toEqual([pin]);
  });

  test("is not what only looks like it", () => {
    for (const sql of [
      "SELECT 'create temp table x'",
      "SELECT 1 -- CREATE TEMP TABLE x (n int)",
      "SELECT /* pg_advisory_lock(1) */ 1",
      "SELECT 'DECLARE c CURSOR WITH HOLD'",
      "SELECT temporary, temp, hold FROM readings",
      "INSERT INTO notes VALUES ('; LISTEN news')",
      "SELECT $$ ; LOAD 'x' $$",
      "SELECT pg_advisory_xact_lock(1)",
      "SELECT * FROM pg_temp.x",
      "INSERT INTO pg_temp.x VALUES (1)",
      "CREATE TEMP TABLE x (n int) ON COMMIT DROP",
      "CREATE TEMP TABLE x ON COMMIT DROP AS SELECT 1",
      "DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1",
      "EXPLAIN SELECT pg_advisory_lock(1)",
      "EXPLAIN (ANALYZE false) SELECT pg_advisory_lock(1)",
      "NOTIFY news",
    ]) {
      expect([sql, ...pins(sql)]).toEqual([sql]);
    }
  });

  test("is found in each of several statements", () => {
    expect(pins("LISTEN a; SELECT 1; LISTEN b").map((pin) => pin.split(":")[0])).toEqual(["listen", "listen"]);
  });
});

describe("what may end a pin", () => {
  test.each([
    ["UNLISTEN *", ["listen"]],
    ["UNLISTEN news", ["listen"]],
    ["DEALLOCATE ALL", ["sql_prepare", "large_prepared_statement"]],
    ["DEALLOCATE PREPARE p", ["sql_prepare", "large_prepared_statement"]],
    ["CLOSE ALL", ["with_hold_cursor"]],
    ["DROP TABLE x", ["temporary_table"]],
    ["DROP VIEW pg_temp.x", ["temporary_table"]],
    ["DISCARD TEMP", ["temporary_table"]],
    ["DISCARD PLANS", []],
    ["SELECT pg_advisory_unlock(1)", ["advisory_lock"]],
    ["SELECT pg_advisory_unlock_all()", ["advisory_lock"]],
    ["DISCARD ALL", [...pinCauses]],
  ])("%s", (sql, causes) => {
    expect(undoes(sql)).toEqual(causes);
  });
});

describe("settings", () => {
  test.each([
    ["SET statement_timeout = '1min'", ["statement_timeout=1min"]],
    ["SET SESSION work_mem TO 0", ["work_mem=0"]],
    ["SET a.b = -1.50", ["a.b=-1.50"]],
    ["SET jit TO off; SET geqo = true", ["jit=off", "geqo=true"]],
    ["SET application_name = ''", ["application_name="]],
    ["SET TIME ZONE 'UTC'", ["timezone=UTC"]],
    ["SET TIME ZONE LOCAL", ["timezone=null"]],
    ["SET NAMES 'utf8'", ["client_encoding=utf8"]],
    ["SET work_mem TO DEFAULT", ["work_mem=null"]],
    ["RESET WORK_MEM", ["work_mem=null"]],
    [
      "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
      ["default_transaction_isolation=serializable", "default_transaction_read_only=1"],
    ],
    ["SET LOCAL work_mem = '1MB'", []],
    ["SET TRANSACTION READ ONLY", []],
    ["SET CONSTRAINTS ALL DEFERRED", []],
    ["SET transaction_read_only = on", []],
    ["SELECT set_config('a.b', 'c', true)", []],
    ["SELECT pg_catalog.set_config('a.b', $1, is_local => 't'::bool)", []],
    ["UPDATE t SET a = 1", []],
    ["SELECT 'SET a.b = 1'", []],
  ])("that are known: %s", (sql, changes) => {
    expect(settings(sql)).toEqual(changes);
  });

  test.each([
    "SET search_path = a, b",
    "SET ROLE joe",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SET work_mem FROM CURRENT",
    "SET TIME ZONE INTERVAL '+01:00' HOUR TO MINUTE",
    "RESET ALL",
    "DISCARD ALL",
    "SELECT set_config('a.b', 'c', false)",
    "SELECT set_config('a.b', 'c', $1)",
    "SELECT set_config('a.b', 'c', true), set_config('a.b', 'd', false)",
    "DO $$ BEGIN PERFORM 1; END $$",
    "CALL change_everything()",
  ])("that only the server can tell: %s", (sql) => {
    expect(settings(sql)).toBe("ask");
  });

  test("in the middle of which transactions begin or end are marked", () => {
    expect(effects.of("SET jit = off; COMMIT; SELECT 1/0")?.transactional).toBe(true);
    expect(effects.of("SET jit = off; SELECT 1/0")?.transactional).toBe(false);
  });
});

describe("what names stand for afterwards", () => {
  test.each([
    "SET search_path = a, b",
    "SET LOCAL search_path TO a",
    "SET LOCAL SCHEMA 'a'",
    "RESET search_path",
    "SET LOCAL ROLE joe",
    "SET SESSION AUTHORIZATION joe",
    "RESET ALL",
    "SELECT set_config('Search_Path', $1, true)",
    "SELECT set_config($1, 'a', true)",
    "DO $$ BEGIN PERFORM 1; END $$",
  ])("may be other tables, or for another role: %s", (sql) => {
    expect(effects.of(sql)?.relocates).toBe(true);
  });

  test.each(["SET LOCAL work_mem = '1MB'", "SET jit = off", "SELECT set_config('a.b', 'c', true)", "LISTEN news"])(
    "is what it was: %s",
    (sql) => {
      expect(effects.of(sql)?.relocates ?? false).toBe(false);
    },
  );
});

describe("settings of the user's own", () => {
  const names = (sql: string) => effects.of(sql)?.customNames;

  test("are named, because no server lists them", () => {
    expect(names("SET App.Tenant = 1; RESET other.one; SET jit = off")).toEqual(["app.tenant", "other.one"]);
    expect(names("SELECT set_config('app.tenant', $1, false)")).toEqual(["app.tenant"]);
    expect(names("DO $$ BEGIN PERFORM set_config('app.tenant', 'x', false); END $$")).toEqual(["app.tenant"]);
    expect(names("CALL f('app.tenant')")).toEqual(["app.tenant"]);
  });

  test("are no more than SETTINGS_ASKED_MAX in one text, or keep their client with its server", () => {
    const named = (count: number) =>
      `CALL f('${Array.from({ length: count }, (_, index) => `a.b${index}`).join(" ")}')`;
    expect(pins(named(SETTINGS_ASKED_MAX))).toEqual([]);
    expect(pins(named(SETTINGS_ASKED_MAX + 1))).toEqual(["hidden_setting: more settings than can be asked for"]);
  });
});

describe("a text that cannot be read", () => {
  test("counts as one that may do anything", () => {
    for (const sql of ["SET nonsense", "LISTEN 'news'; SELEC app.a", "SET a.b"]) {
      expect(effects.of(sql)).toEqual(unknownEffects(sql));
      expect(effects.of(sql)).toMatchObject({ settings: null, opaque: true, undoes: pinCauses });
    }
    expect(effects.of("SELEC; SET App.a, 'b.c' d.e")?.customNames).toEqual(["app.a", "b.c", "d.e"]);
  });

  test("is one of more than GRAMMAR_TEXT_BYTES_MAX", () => {
    const padded = (length: number) => `SET jit = off;${" ".repeat(length)}`.slice(0, length);
    expect(effects.of(padded(GRAMMAR_TEXT_BYTES_MAX))?.opaque).toBe(false);
    expect(effects.of(padded(GRAMMAR_TEXT_BYTES_MAX + 1))?.opaque).toBe(true);
  });

  test("is any before the parser is there", () => {
    expect(new SessionEffects().of("LISTEN news")?.opaque).toBe(true);
    expect(new SessionEffects().of("SELECT 1")).toBeNull();
  });
});

describe("words", () => {
  test("are looked for in a time that grows no faster than the text", () => {
    for (const unit of ["\n", " ", ";", "; ", "*/", "--", "--\n", "'", "u&", "temp", "a.", "a", "set_config('", "/*"]) {
      const sql = unit.repeat(1_000_000 / unit.length);
      for (const front of ["", "SELECT 1; --", "SET "]) {
        mayTouchSession(front + sql);
        unknownEffects(front + sql);
      }
    }
  });

  test("are found behind whatever separates statements", () => {
    for (const front of [
      "",
      "\n\n",
      "SELECT 1;",
      "SELECT 1 ; \n\t",
      "/* a */",
      "--a\n",
      "SELECT 1; -- a\r\n\n ",
      "-- SELECT 1\n\n\n",
    ]) {
      expect([front, mayTouchSession(`${front}LISTEN a`)]).toEqual([front, true]);
    }
  });

  test("let plain queries through unread", () => {
    for (const sql of [
      "SELECT abalance FROM pgbench_accounts WHERE aid = 1",
      "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 1",
      "UPDATE t\n   SET a = 1,\n       b = 2",
      "INSERT INTO t (setting, template) VALUES (1, 'attempt')",
      "DELETE FROM t",
      "BEGIN",
      "COMMIT",
      "SELECT pg_advisory_xact_lock(1)",
    ]) {
      expect([sql, mayTouchSession(sql)]).toEqual([sql, false]);
    }
  });
});

test("No more than EFFECTS_CACHE_ENTRIES_MAX texts are remembered", () => {
  for (let index = 0; index < EFFECTS_CACHE_ENTRIES_MAX + 10; index += 1) effects.of(`SET a.b = ${index}`);
  expect(effects.size).toBe(EFFECTS_CACHE_ENTRIES_MAX);
});
