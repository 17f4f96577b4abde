import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Attempt } from "./attempt.ts";
import { Journal, readHistory } from "./history.ts";

class Told extends Error {
  readonly severity: string;
  readonly code: string;

  constructor(severity: string, code: string, message: string) {
    super(message);
    this.severity = severity;
    this.code = code;
  }
}

describe("what a client may conclude", () => {
  let directory: string;
  let journal: Journal;

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "pgsteer-attempts-"));
    journal = new Journal(join(directory, "history.jsonl"));
  });

  afterAll(() => {
    journal.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const begun = (): Attempt => new Attempt(journal, { client: 1, router: "pgsteer1" }, "register", 1);
  const sent = (): Attempt => {
    const attempt = begun();
    attempt.decides();
    return attempt;
  };

  test("before the message that decides: it has not happened, whatever became of the connection", () => {
    expect(begun().failed(new Error("the connection is lost"))).toBe("fail");
    expect(begun().failed(new Told("FATAL", "08007", "unknown"))).toBe("fail");
  });

  test("from a server's error: it has not happened", () => {
    expect(
      sent().failed(new Told("ERROR", "40001", "the transaction was rolled back because its server is gone")),
    ).toBe("fail");
    expect(sent().failed(new Told("FATAL", "57P03", "query_wait_timeout"))).toBe("fail");
  });

  test("from a lost connection, or an error that says so: nothing", () => {
    expect(sent().failed(new Error("read ECONNRESET"))).toBe("unknown");
    expect(sent().failed(new Told("FATAL", "08007", "in flight"))).toBe("unknown");
  });

  test("from 57P01: nothing in PostgreSQL's words; in pgsteer's own that it has not happened", () => {
    expect(sent().failed(new Told("FATAL", "57P01", "terminating connection due to administrator command"))).toBe(
      "unknown",
    );
    expect(sent().failed(new Told("FATAL", "57P01", "terminating connection because its server is gone"))).toBe("fail");
  });

  test("from an answer: where the row is, and whose it is", () => {
    const own = sent();
    own.wrote(`${own.id},5432,3,16000000,16777216`);
    own.succeeded();
    const other = sent();
    other.wrote("1,5432,3,16000000,16777216");
    other.succeeded();
    expect(journal.records.slice(-2)).toMatchObject([
      { outcome: "ok", place: { port: 5432, timeline: 3, origin: 16_000_000, lsn: 16_777_216 }, crossed: null },
      { outcome: "ok", place: null, crossed: 1 },
    ]);
  });

  test("is read again from the file as it was written", () => {
    const run = { type: "run", seed: 1, sync: true, startedAt: 0, endedAt: 1, members: { 5432: "node1" } } as const;
    journal.write({ ...run, accounts: 1, total: 1, stuckMs: 1 });
    expect(readHistory(journal.file).operations).toEqual(journal.records.filter(({ type }) => type === "op"));
  });
});
