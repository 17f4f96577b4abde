// The stand-in for a lost server where PostgreSQL is no oracle: what a client is told of the loss, and when. What PostgreSQL
// itself answers in a failed transaction is compared in test/integration/failed-transaction.test.ts.

import { describe, expect, test } from "vitest";
import { ProxyError } from "../../../src/core/errors.ts";
import { MessageWriter } from "../../../src/protocol/writer.ts";
import { FailedTransaction, type KnownStatements, TEXT_BYTES_MAX } from "../../../src/proxy/failed-transaction.ts";
import { frontend, outline } from "../../support/raw-client.ts";

const reason = new ProxyError("leader_changed", "gone");

/** Splits a buffer into messages. */
function split(bytes: Buffer): { type: string; body: Buffer }[] {
  const messages = [];
  for (let at = 0; at < bytes.length; at += 1 + bytes.readInt32BE(at + 1)) {
    const end = at + 1 + bytes.readInt32BE(at + 1);
    messages.push({ type: bytes.toString("latin1", at, at + 1), body: bytes.subarray(at + 5, end) });
  }
  return messages;
}

/** Answers to each message in turn; the last one says whether the transaction is over. */
function play(transaction: FailedTransaction, ...messages: Buffer[]): string[] {
  const said: string[] = [];
  for (const { type, body } of split(Buffer.concat(messages))) {
    const writer = new MessageWriter();
    const over = transaction.answer(type.charCodeAt(0), body, writer);
    said.push(...outline(split(writer.finish())));
    if (over) said.push("over");
  }
  return said;
}

const untold = () => new FailedTransaction(reason, false, true, null);
const { query, parse, bind, describe: describeIt, execute, sync, extended } = frontend;

describe("a transaction that was lost", () => {
  test("tells why once, to the first statement, then what PostgreSQL says", () => {
    expect(play(untold(), query("SELECT 1"), query("SELECT 2"), query("ROLLBACK"))).toEqual([
      ...["E ERROR 40001", "Z E", "E ERROR 25P02", "Z E"],
      ...["C ROLLBACK", "Z I", "over"],
    ]);
    expect(play(untold(), extended("SELECT 1"), extended("SELECT 2"), extended("ROLLBACK"))).toEqual([
      ...["E ERROR 40001", "Z E", "E ERROR 25P02", "Z E"],
      ...["1", "2", "n", "C ROLLBACK", "Z I", "over"],
    ]);
  });

  test("never lets a COMMIT succeed whose client has not been told", () => {
    expect(play(untold(), query("COMMIT"))).toEqual(["E ERROR 40001", "Z I", "over"]);
    expect(play(untold(), query("END;"))).toEqual(["E ERROR 40001", "Z I", "over"]);
    expect(play(untold(), extended("COMMIT"))).toEqual(["1", "2", "n", "E ERROR 40001", "Z I", "over"]);
  });

  test("says ROLLBACK to a COMMIT whose client has been told", () => {
    expect(play(new FailedTransaction(null, false, true, null), query("COMMIT"))).toEqual([
      "C ROLLBACK",
      "Z I",
      "over",
    ]);
    expect(play(untold(), query("SELECT 1"), query("COMMIT"))).toEqual([
      "E ERROR 40001",
      "Z E",
      "C ROLLBACK",
      "Z I",
      "over",
    ]);
  });

  test("lets a ROLLBACK succeed without a word: it is what the client wanted", () => {
    expect(play(untold(), query("ROLLBACK"))).toEqual(["C ROLLBACK", "Z I", "over"]);
    expect(play(untold(), query("abort work;"))).toEqual(["C ROLLBACK", "Z I", "over"]);
  });

  test("does not bring savepoints back, for they are lost", () => {
    expect(play(untold(), query("ROLLBACK TO SAVEPOINT a"), query("RELEASE a"))).toEqual([
      ...["E ERROR 40001", "Z E", "E ERROR 25P02", "Z E"],
    ]);
  });

  test("skips what is left of a batch that has failed, and is not over before its Sync", () => {
    const inBatch = new FailedTransaction(null, true, true, null);
    expect(play(inBatch, bind(), describeIt(), execute(), query("ROLLBACK"), sync())).toEqual(["Z E"]);
    expect(play(inBatch, query("ROLLBACK"))).toEqual(["C ROLLBACK", "Z I", "over"]);
  });

  test("ends with its Sync where there was only a batch", () => {
    const onlyBatch = new FailedTransaction(null, true, false, null);
    expect(play(onlyBatch, bind(), execute(), sync())).toEqual(["Z I", "over"]);
  });

  test("answers a statement that is too long to look at like any other", () => {
    const transaction = untold();
    const writer = new MessageWriter();
    expect(transaction.answer("Q".charCodeAt(0), null, writer)).toBe(false);
    expect(transaction.answer("P".charCodeAt(0), null, writer)).toBe(false);
    expect(transaction.answer("S".charCodeAt(0), Buffer.alloc(0), writer)).toBe(false);
    expect(outline(split(writer.finish()))).toEqual(["E ERROR 40001", "Z E", "E ERROR 25P02", "Z E"]);
    expect(TEXT_BYTES_MAX).toBeGreaterThan("ROLLBACK AND NO CHAIN".length);
  });

  test("does not run what was parsed in a batch that came to nothing", () => {
    const transaction = untold();
    expect(play(transaction, parse("COMMIT"), sync(), parse("SELECT 1"), sync())).toEqual([
      "1",
      "Z E",
      "E ERROR 40001",
      "Z E",
    ]);
    expect(play(transaction, bind(), execute(), sync())).toEqual(["E ERROR 25P02", "Z E"]);
  });
});

/** What a client has prepared; texts by name. */
class Statements implements KnownStatements {
  readonly texts: Map<string, string>;
  constructor(texts: Readonly<Record<string, string>>) {
    this.texts = new Map(Object.entries(texts));
  }
  textOf(name: string): string | null {
    return this.texts.get(name) ?? null;
  }
  define(name: string, definition: Buffer): void {
    this.texts.set(name, definition.toString("latin1", 0, definition.indexOf(0)));
  }
}

const call = (name: string) => Buffer.concat([bind(name), execute(), sync()]);

describe("a transaction that was lost, with prepared statements", () => {
  const prepared = () => new Statements({ undo: "ROLLBACK", keep: "COMMIT", read: "SELECT 1", nothing: "" });
  const lost = (statements: KnownStatements) => new FailedTransaction(reason, false, true, statements);
  const told = (statements: KnownStatements) => new FailedTransaction(null, false, true, statements);

  test("is ended by a ROLLBACK that was prepared before", () => {
    expect(play(lost(prepared()), call("undo"))).toEqual(["2", "C ROLLBACK", "Z I", "over"]);
    expect(play(lost(prepared()), describeIt("undo", "S"), call("undo"))).toEqual([
      ...["t", "n", "2", "C ROLLBACK", "Z I", "over"],
    ]);
  });

  test("lets a prepared COMMIT succeed no more than any other", () => {
    expect(play(lost(prepared()), call("keep"))).toEqual(["2", "E ERROR 40001", "Z I", "over"]);
    expect(play(told(prepared()), call("keep"))).toEqual(["2", "C ROLLBACK", "Z I", "over"]);
  });

  test("runs no other prepared statement, known or not", () => {
    for (const name of ["read", "nobody", "nothing"]) {
      expect(play(lost(prepared()), call(name), call(name)), name).toEqual([
        ...["E ERROR 40001", "Z E", "E ERROR 25P02", "Z E"],
      ]);
    }
    expect(play(lost(prepared()), describeIt("read", "S"), sync())).toEqual(["E ERROR 40001", "Z E"]);
  });

  test("does not take one statement for another that was parsed before it in the batch", () => {
    expect(play(told(prepared()), parse("ROLLBACK", "x"), call("read"))).toEqual(["1", "E ERROR 25P02", "Z E"]);
    expect(play(told(prepared()), parse("ROLLBACK", "x"), call("nobody"))).toEqual(["1", "E ERROR 25P02", "Z E"]);
  });

  test("defines what it answers ParseComplete to, and nothing else", () => {
    const statements = prepared();
    expect(play(told(statements), parse("ROLLBACK", "new"), parse("SELECT 2", "refused"), sync())).toEqual([
      ...["1", "E ERROR 25P02", "Z E"],
    ]);
    expect([statements.textOf("new"), statements.textOf("refused")]).toEqual(["ROLLBACK", null]);
    expect(play(told(statements), call("new"))).toEqual(["2", "C ROLLBACK", "Z I", "over"]);
  });
});
