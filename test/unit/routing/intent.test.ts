// What a statement's first words say; and that no text, however hostile, takes long to read.

import { describe, expect, test } from "vitest";
import { endsTransaction, mayCommit, mayEnd, opensTransaction, sessionTarget } from "../../../src/routing/intent.ts";

describe("a statement that opens a transaction", () => {
  test.each([
    "BEGIN",
    "begin;",
    "  Begin Work ; ",
    "BEGIN TRANSACTION",
    "START TRANSACTION",
    "start\n\ttransaction;",
    "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "BEGIN DEFERRABLE",
    "/* c */ BEGIN -- done",
    "-- first\nBEGIN",
    "/**/BEGIN/**/;/***/",
  ])("may leave its mode open: %j", (sql) => {
    // Doubt is allowed: it leads to the primary. Certainty about a mode that is not there is not.
    expect(opensTransaction(sql)?.readOnly ?? null).toBeNull();
  });

  test.each(["BEGIN", "begin;", "  Begin Work ; ", "START TRANSACTION", "BEGIN ISOLATION LEVEL SERIALIZABLE"])(
    "is known as one: %j",
    (sql) => {
      expect(opensTransaction(sql)).toEqual({ readOnly: null });
    },
  );

  test.each([
    "BEGIN READ ONLY",
    "begin read only;",
    "BEGIN TRANSACTION READ ONLY",
    "START TRANSACTION READ ONLY",
    "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "START TRANSACTION READ WRITE, READ ONLY",
    "BEGIN READ\n\tONLY",
  ])("can be read-only: %j", (sql) => {
    expect(opensTransaction(sql)).toEqual({ readOnly: true });
  });

  test.each(["BEGIN READ WRITE", "START TRANSACTION READ ONLY, READ WRITE", "BEGIN READ ONLY READ WRITE"])(
    "can say that it writes: %j",
    (sql) => {
      expect(opensTransaction(sql)).toEqual({ readOnly: false });
    },
  );

  test.each([
    "BEGIN -- READ ONLY",
    "BEGIN -- READ ONLY\n",
    "BEGIN /* READ ONLY */",
    "BEGIN READ WRITE /* READ ONLY */",
    "BEGIN READ WRITE -- READ ONLY",
    "BEGIN ISOLATION LEVEL REPEATABLE READ -- ONLY",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "BEGIN READ ONLY; INSERT INTO t VALUES (1)",
    "BEGIN READ ONLY; COMMIT; INSERT INTO t VALUES (1)",
    "BEGIN READ WRITE; -- READ ONLY",
    "BEGIN; SELECT 1 READ ONLY",
    "START TRANSACTION; READ ONLY",
    "BEGIN /* ; */ ; DELETE FROM t",
    "BEGINREAD ONLY",
    "SELECT 'BEGIN READ ONLY'",
    "EXPLAIN BEGIN READ ONLY",
    "",
  ])("is never taken for read-only where it is not: %j", (sql) => {
    expect(opensTransaction(sql)?.readOnly ?? false).toBe(false);
  });

  test.each(["BEGIN; SELECT 1", "BEGIN;;SELECT 1", "SELECT 1; BEGIN", "SELECT 1", "BEGINNING", "START", ""])(
    "is not %j",
    (sql) => {
      expect(opensTransaction(sql)).toBeNull();
    },
  );
});

describe("a statement that ends a failed transaction", () => {
  test.each([
    "ROLLBACK",
    "rollback;",
    "ABORT WORK",
    "COMMIT TRANSACTION",
    "END",
    "ROLLBACK AND NO CHAIN",
    " /* x */ Commit -- y\n;",
  ])("is %j", (sql) => {
    expect(endsTransaction(sql)).toBe(true);
  });

  test.each([
    "ROLLBACK TO a",
    "ROLLBACK TO SAVEPOINT a",
    "ROLLBACK AND CHAIN",
    "COMMIT AND CHAIN",
    "COMMIT PREPARED 'x'",
    "ROLLBACK; SELECT 1",
    "ROLLBACK --\r TO SAVEPOINT a",
    "SELECT 1",
    "ENDING",
    "",
  ])("is not %j", (sql) => {
    expect(endsTransaction(sql)).toBe(false);
  });
});

describe("a text that may end a transaction", () => {
  test.each([
    "COMMIT",
    "commit;",
    "INSERT INTO t VALUES (1); END",
    "PREPARE TRANSACTION 'x'",
    "/**/COMMIT/**/",
    "a;commit--",
  ])("may commit: %j", (sql) => {
    expect(mayCommit(sql)).toBe(true);
    expect(mayEnd(sql)).toBe(true);
  });

  test.each(["ROLLBACK", "abort", "rollback; INSERT INTO t VALUES (1)"])("may end it otherwise: %j", (sql) => {
    expect(mayCommit(sql)).toBe(false);
    expect(mayEnd(sql)).toBe(true);
  });

  test.each(["SELECT 1", "INSERT INTO commits VALUES (1)", "SELECT endpoint FROM t", ""])("does not: %j", (sql) => {
    expect(mayCommit(sql)).toBe(false);
    expect(mayEnd(sql)).toBe(false);
  });
});

describe("a hostile text", () => {
  const size = 8_192;
  const fillers = [" ", "\n", "/", "-", "*", "/*", "*/", "/**/", "/* /*", "--\n", "-- ", ";", "; ", ",", "READ ", "A "];
  const openings = [
    "",
    "BEGIN",
    "BEGIN ",
    "START ",
    "START TRANSACTION ",
    "ROLLBACK",
    "COMMIT AND ",
    "/*",
    "BEGIN;",
    "BEGIN READ ONLY",
  ];

  test.each(fillers)("of eight kilobytes of %j is read quickly, whatever stands around it", (filler) => {
    const filling = filler.repeat(size / filler.length);
    const started = process.cpuUsage();
    for (const opening of openings) {
      for (const ending of ["", "x", ";", ";x", "*/", "*/;", "TRANSACTION", "'"]) {
        const sql = opening + filling + ending;
        opensTransaction(sql);
        endsTransaction(sql);
        mayCommit(sql);
        mayEnd(sql);
      }
    }
    // A bound on growth, not on speed: what is quadratic takes minutes of processor time for these 80 texts.
    expect(process.cpuUsage(started).user).toBeLessThan(2_000_000);
  });
});

describe("the target of a session", () => {
  const none = new Map<string, string>();
  test.each([
    ["write", none, "primary"],
    ["read", none, "replica"],
    ["auto", none, "primary"],
    ["auto", new Map([["default_transaction_read_only", "on"]]), "replica"],
    ["auto", new Map([["Default_Transaction_Read_Only", " TRUE "]]), "replica"],
    ["auto", new Map([["default_transaction_read_only", "off"]]), "primary"],
    ["auto", new Map([["default_transaction_read_only", "nonsense"]]), "primary"],
    ["auto", new Map([["default_transaction_read_only", ""]]), "primary"],
    ["write", new Map([["default_transaction_read_only", "on"]]), "primary"],
    ["read", new Map([["default_transaction_read_only", "off"]]), "replica"],
  ] as const)("of route %s with %o is %s", (route, settings, target) => {
    expect(sessionTarget(route, settings)).toBe(target);
  });

  test.each(["on", "t", "tr", "tru", "true", "y", "ye", "yes", "1", "ON"])(
    "takes %s for true, as PostgreSQL does",
    (text) => {
      expect(sessionTarget("auto", new Map([["default_transaction_read_only", text]]))).toBe("replica");
    },
  );
});
