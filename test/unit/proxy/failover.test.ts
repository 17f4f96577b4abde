// What a client sees when its server is gone: the table over all inputs, and what must hold whatever the inputs.

import fc from "fast-check";
import { serialize } from "pg-protocol";
import { describe, expect, test } from "vitest";
import { ProxyError } from "../../../src/core/errors.ts";
import { RESEND_MAX } from "../../../src/core/limits.ts";
import type { LossCause } from "../../../src/pool/loss.ts";
import { TransactionStatus } from "../../../src/protocol/constants.ts";
import { Exchange } from "../../../src/protocol/exchange.ts";
import { MessageWriter } from "../../../src/protocol/writer.ts";
import { type Aftermath, aftermath, answerOwed, type LossView } from "../../../src/proxy/failover.ts";
import { outline } from "../../support/raw-client.ts";

const { Idle, InTransaction, Failed } = TransactionStatus;

const fields = (sqlstate: string) => ({ severity: "FATAL", sqlstate, message: "m", detail: null, hint: null });
const fatal = (sqlstate: string): LossCause => ({
  kind: "fatal",
  reason: "m",
  fields: fields(sqlstate),
  message: Buffer.from("last words"),
});
const lost: LossCause = { kind: "closed", reason: "connection reset" };
const causes: readonly LossCause[] = [
  lost,
  { kind: "fenced", reason: "deposed" },
  { kind: "ours", reason: "ours" },
  { kind: "violation", reason: "violation" },
  fatal("57P01"),
  fatal("57P02"),
  fatal("57P03"),
  fatal("25P03"),
  fatal("57P05"),
  fatal("08P01"),
];

const query = (sql: string): Buffer => serialize.query(sql);
const extended = (sql: string): Buffer =>
  Buffer.concat([serialize.parse({ text: sql }), serialize.bind(), serialize.execute(), serialize.sync()]);

const quietView: LossView = {
  cause: lost,
  member: "node1",
  keepsServer: false,
  replica: false,
  status: Idle,
  quiet: true,
  midReply: false,
  replied: false,
  midRequest: false,
  flight: Buffer.alloc(0),
  resends: 0,
  memberLives: false,
  textOf: () => null,
};
const view = (changes: Partial<LossView>): LossView => ({ ...quietView, quiet: false, ...changes });

/** Kind of the answer, with the error's code where there is one. */
const brief = (answer: Aftermath): string => ("error" in answer ? `${answer.kind} ${answer.error.code}` : answer.kind);
const of = (changes: Partial<LossView>): string => brief(aftermath(view(changes)));

describe("the aftermath of a lost server", () => {
  test.each<[string, string, Partial<LossView>]>([
    ["nothing was asked, the session has its server", "close terminated", { quiet: true, keepsServer: true }],
    [
      "a transaction is open, nothing in flight",
      "fail_transaction leader_changed",
      { quiet: true, status: InTransaction },
    ],
    [
      "a failed transaction is open, nothing in flight",
      "fail_transaction leader_changed",
      { quiet: true, status: Failed },
    ],
    [
      "a statement of a transaction",
      "fail_transaction leader_changed",
      { status: InTransaction, flight: query("SELECT 1") },
    ],
    ["the same, extended", "fail_transaction leader_changed", { status: InTransaction, flight: extended("INSERT …") }],
    [
      "the same, half answered",
      "fail_transaction leader_changed",
      { status: InTransaction, replied: true, flight: query("X") },
    ],
    [
      "a transaction of a session",
      "close terminated",
      { status: InTransaction, flight: query("SELECT 1"), keepsServer: true },
    ],
    ["a COMMIT", "close outcome_unknown", { status: InTransaction, flight: query("commit") }],
    ["a COMMIT, extended", "close outcome_unknown", { status: InTransaction, flight: extended("COMMIT") }],
    ["a COMMIT behind a write", "close outcome_unknown", { status: InTransaction, flight: query("INSERT …; END") }],
    [
      "a COMMIT of a session",
      "close outcome_unknown",
      { status: InTransaction, flight: query("commit"), keepsServer: true },
    ],
    [
      "the first phase of two",
      "close outcome_unknown",
      { status: InTransaction, flight: query("PREPARE TRANSACTION 'x'") },
    ],
    ["more than was kept, in a transaction", "close outcome_unknown", { status: InTransaction, flight: null }],
    ["more than was kept, in a failed transaction", "close outcome_unknown", { status: Failed, flight: null }],
    [
      "a statement in a failed transaction",
      "fail_transaction leader_changed",
      { status: Failed, flight: query("SELECT 1") },
    ],
    ["a write", "close outcome_unknown", { flight: query("INSERT …") }],
    ["a write, extended", "close outcome_unknown", { flight: extended("INSERT …") }],
    ["a write that was answered in part", "close outcome_unknown", { flight: query("INSERT …"), replied: true }],
    ["more than was kept", "close outcome_unknown", { flight: null }],
    ["a read on the primary: who knows what it calls", "close outcome_unknown", { flight: query("SELECT f()") }],
    ["a BEGIN", "rerun", { flight: query("BEGIN") }],
    ["nothing of the client's own yet", "rerun", { flight: Buffer.alloc(0) }],
    ["a BEGIN that was answered in part", "close outcome_unknown", { flight: query("BEGIN"), replied: true }],
    ["a BEGIN, sent again too often", "close outcome_unknown", { flight: query("BEGIN"), resends: RESEND_MAX }],
    ["a BEGIN of a session", "close terminated", { flight: query("BEGIN"), keepsServer: true }],
    ["a BEGIN with company", "close outcome_unknown", { flight: query("BEGIN; INSERT …") }],
    [
      "a BEGIN and a request behind it",
      "close outcome_unknown",
      { flight: Buffer.concat([query("BEGIN"), query("INSERT …")]) },
    ],
    ["a read on a replica", "rerun", { replica: true, flight: query("SELECT 1") }],
    ["a read on a replica, extended", "rerun", { replica: true, flight: extended("SELECT 1") }],
    [
      "a read whose answer has begun",
      "fail_statement read_interrupted",
      { replica: true, replied: true, flight: query("SELECT 1") },
    ],
    [
      "a read that is not complete",
      "fail_statement read_interrupted",
      { replica: true, midRequest: true, flight: query("SELECT 1") },
    ],
    [
      "a read, sent again too often",
      "fail_statement read_interrupted",
      { replica: true, resends: RESEND_MAX, flight: query("SELECT 1") },
    ],
    ["a read that was too long to keep", "fail_statement read_interrupted", { replica: true, flight: null }],
    ["a read of a session", "close terminated", { replica: true, keepsServer: true, flight: query("SELECT 1") }],
    [
      "a message that was forwarded in part",
      "break",
      { midReply: true, status: InTransaction, flight: query("SELECT 1") },
    ],
    [
      "the server's own verdict on the session",
      "close_with",
      { cause: fatal("25P03"), quiet: true, status: InTransaction },
    ],
    [
      "an administrator's end of one session, in a transaction",
      "close_with",
      { cause: fatal("57P01"), memberLives: true, quiet: true, status: InTransaction },
    ],
    [
      "an administrator's end of one session, with a COMMIT in flight",
      "close_with",
      { cause: fatal("57P01"), memberLives: true, status: InTransaction, flight: query("COMMIT") },
    ],
    [
      "a server that is shut down",
      "fail_transaction leader_changed",
      { cause: fatal("57P01"), quiet: true, status: InTransaction },
    ],
  ])("when in flight was: %s", (_name, expected, changes) => {
    expect(of(changes)).toBe(expected);
  });

  test("names the member and its last words, and the SQLSTATEs that drivers act on", () => {
    const answer = aftermath(view({ status: InTransaction, flight: query("SELECT 1") }));
    const error = "error" in answer ? answer.error : null;
    expect(error).toMatchObject({ sqlstate: "40001", severity: "ERROR", detail: 'Member "node1": connection reset.' });
    const unknown = aftermath(view({ flight: query("INSERT …") }));
    expect("error" in unknown && unknown.error).toMatchObject({
      sqlstate: "08007",
      severity: "FATAL",
      retryable: false,
    });
  });
});

/** A request of a random flight, and whether it may end a transaction (and so begin the next one, or commit). */
interface Piece {
  readonly bytes: Buffer;
  /** Statement or portal that it defines, or needs. */
  readonly defines?: string;
  readonly needs?: string;
  readonly ends: boolean;
}

const piece: fc.Arbitrary<Piece> = fc.oneof(
  fc
    .record({
      sql: fc.constantFrom("SELECT 1", "INSERT INTO t VALUES (1)", "BEGIN", "SAVEPOINT a", "BEGIN READ ONLY"),
      ending: fc.constantFrom(
        "",
        "",
        "",
        "COMMIT",
        "end",
        "ROLLBACK",
        "abort",
        "Commit AND CHAIN",
        "PREPARE TRANSACTION 'x'",
      ),
      after: fc.constantFrom("", "", "; INSERT INTO t VALUES (2)"),
      extended: fc.boolean(),
      name: fc.constantFrom("", "s"),
    })
    .map(({ sql, ending, after, extended: parses, name }) => {
      const text = `${ending || sql}${after}`;
      if (parses) return { bytes: serialize.parse({ text, name }), defines: `statement ${name}`, ends: ending !== "" };
      return { bytes: query(text), ends: ending !== "" };
    }),
  fc.record({ statement: fc.constantFrom("", "s"), portal: fc.constantFrom("", "p") }).map((names) => ({
    bytes: serialize.bind(names),
    needs: `statement ${names.statement}`,
    defines: `portal ${names.portal}`,
    ends: false,
  })),
  fc
    .constantFrom("", "p")
    .map((portal) => ({ bytes: serialize.execute({ portal }), needs: `portal ${portal}`, ends: false })),
  fc.constant({ bytes: serialize.sync(), ends: false }),
);

/** Whether a transaction may have ended by what is in flight, by name or by running what was parsed or bound before. */
function mayHaveEnded(pieces: readonly Piece[]): boolean {
  const known = new Set<string>();
  for (const { defines, needs, ends } of pieces) {
    const runs = defines === undefined && needs !== undefined;
    if (ends || (runs && !known.has(needs))) return true;
    if (defines === undefined) continue;
    if (needs === undefined || known.has(needs)) known.add(defines);
    else known.delete(defines);
  }
  return false;
}

const random = fc.record({
  cause: fc.constantFrom(...causes),
  member: fc.constant("node1"),
  keepsServer: fc.boolean(),
  replica: fc.boolean(),
  status: fc.constantFrom(Idle, InTransaction, Failed),
  quiet: fc.boolean(),
  midReply: fc.boolean(),
  replied: fc.boolean(),
  midRequest: fc.boolean(),
  pieces: fc.option(fc.array(piece, { minLength: 1, maxLength: 4 }), { freq: 8 }),
  resends: fc.integer({ min: 0, max: RESEND_MAX }),
  memberLives: fc.boolean(),
});

/** Runs `check` on random losses. */
function always(check: (loss: LossView, pieces: readonly Piece[] | null, answer: Aftermath) => void): void {
  fc.assert(
    fc.property(random, ({ pieces, ...rest }) => {
      const flight = pieces === null ? null : Buffer.concat(pieces.map(({ bytes }) => bytes));
      const loss: LossView = { ...rest, textOf: () => null, flight: rest.quiet ? Buffer.alloc(0) : flight };
      check(loss, loss.quiet ? [] : pieces, aftermath(loss));
    }),
    { numRuns: 5_000, seed: 5 },
  );
}

describe("the aftermath, whatever was lost", () => {
  test("never runs again what was answered in part, came in part, or was tried often enough", () => {
    always((loss, _pieces, answer) => {
      if (answer.kind !== "rerun") return;
      expect([loss.replied, loss.midReply, loss.midRequest, loss.quiet, loss.keepsServer]).toEqual(
        Array(5).fill(false),
      );
      expect(loss.resends).toBeLessThan(RESEND_MAX);
      expect(loss.flight).not.toBeNull();
      expect(answer.flight.equals(loss.flight ?? Buffer.alloc(0))).toBe(true);
    });
  });

  test("never runs again what may have written", () => {
    always((loss, pieces, answer) => {
      if (answer.kind !== "rerun" || loss.replica) return;
      expect(loss.status).toBe(Idle);
      expect(pieces?.map(({ bytes }) => bytes.toString("latin1", 5, bytes.length - 1))).toEqual([
        expect.stringMatching(/^BEGIN( READ ONLY)?$/),
      ]);
    });
  });

  test("never calls a transaction rolled back that may have been committed, or that others may have followed", () => {
    always((loss, pieces, answer) => {
      if (answer.kind !== "fail_transaction" || loss.quiet) return;
      expect(pieces, "too much to keep").not.toBeNull();
      expect(mayHaveEnded(pieces ?? []), loss.flight?.toString("latin1")).toBe(false);
    });
  });

  test("says that the outcome is unknown, or nothing that can be understood, where it is", () => {
    always((loss, pieces, answer) => {
      if (loss.quiet || loss.replica || answer.kind === "close_with" || answer.kind === "break") return;
      const inTransaction = loss.status !== Idle;
      const unknown = pieces === null || (inTransaction ? mayHaveEnded(pieces) : pieces.some(({ ends }) => ends));
      if (!unknown) return;
      // A lone statement that can only roll back has a known outcome.
      const lone = pieces?.length === 1 ? pieces[0]?.bytes.toString("latin1") : "";
      const onlyRollsBack = /^Q....(?:rollback|abort)\0$/is.test(lone ?? "");
      const endsFailed = loss.status === Failed && /^Q....(?:rollback|abort|commit|end)\0$/is.test(lone ?? "");
      if (inTransaction && (onlyRollsBack || endsFailed)) return;
      expect(brief(answer), `${loss.status} ${loss.flight?.toString("latin1")}`).toBe("close outcome_unknown");
    });
  });

  test("adds nothing to a message that was forwarded in part", () => {
    always((loss, _pieces, answer) => {
      if (loss.midReply) expect(answer.kind).toBe("break");
    });
  });

  test("lets no session live on that has lost the server that it keeps", () => {
    always((loss, _pieces, answer) => {
      if (loss.keepsServer) expect(["close", "close_with", "break"]).toContain(answer.kind);
    });
  });

  test("passes a server's own words on only where they are about the session", () => {
    always((loss, _pieces, answer) => {
      if (answer.kind !== "close_with") return;
      const { cause } = loss;
      expect(cause.kind).toBe("fatal");
      if (cause.kind !== "fatal" || loss.memberLives) return;
      expect(["57P01", "57P02", "57P03"]).not.toContain(cause.fields.sqlstate);
    });
  });
});

describe("the answers that a lost server owed", () => {
  const error = new ProxyError("leader_changed", "gone");

  /** Sends frontend `requests` by letter, then server `replies`, loses the server, outlines the answers. */
  function owed(requests: string, inTransaction: boolean, replies = "") {
    const exchange = new Exchange();
    for (const letter of requests) exchange.request(letter.charCodeAt(0));
    for (const letter of replies) exchange.reply(letter.charCodeAt(0));
    const writer = new MessageWriter();
    const outcome = answerOwed(exchange, error, inTransaction, writer);
    return { ...outcome, answers: outlineOf(writer.finish()), empty: exchange.empty };
  }

  function outlineOf(bytes: Buffer): string[] {
    const messages = [];
    for (let at = 0; at < bytes.length; at += 1 + bytes.readInt32BE(at + 1)) {
      messages.push({
        type: bytes.toString("latin1", at, at + 1),
        body: bytes.subarray(at + 5, at + 1 + bytes.readInt32BE(at + 1)),
      });
    }
    return outline(messages);
  }

  test.each<[string, string, boolean, string[], boolean, boolean]>([
    ["nothing", "", true, [], false, false],
    ["a query", "Q", true, ["E ERROR 40001", "Z E"], true, false],
    ["a query outside a transaction", "Q", false, ["E ERROR 40001", "Z I"], true, false],
    ["queries: the reason once", "QQ", true, ["E ERROR 40001", "Z E", "E ERROR 25P02", "Z E"], true, false],
    [
      "queries outside a transaction: each fails",
      "QQ",
      false,
      ["E ERROR 40001", "Z I", "E ERROR 40001", "Z I"],
      true,
      false,
    ],
    ["a batch", "PBDES", true, ["E ERROR 40001", "Z E"], true, false],
    ["a batch without Sync", "PBE", true, ["E ERROR 40001"], true, true],
    ["a batch, and one without Sync", "PBESPB", true, ["E ERROR 40001", "Z E", "E ERROR 25P02"], true, true],
    ["bare Syncs", "QSS", true, ["E ERROR 40001", "Z E", "Z E", "Z E"], true, false],
  ])("are complete: %s", (_name, requests, inTransaction, answers, told, openBatch) => {
    expect(owed(requests, inTransaction)).toEqual({ told, openBatch, answers, empty: true });
  });

  test("have one ReadyForQuery for each that the server owed, whatever it owed", () => {
    const letters = fc.array(fc.constantFrom(..."QFPBDECS"), { maxLength: 12 }).map((each) => each.join(""));
    fc.assert(
      fc.property(letters, fc.boolean(), (requests, inTransaction) => {
        const { answers, openBatch } = owed(requests, inTransaction);
        expect(answers.filter((answer) => answer.startsWith("Z"))).toHaveLength(requests.replace(/[^QFS]/g, "").length);
        expect(openBatch).toBe(/[PBDEC]$/.test(requests));
        if (requests !== "") expect(answers[0]).toBe("E ERROR 40001");
        expect(answers.filter((answer) => answer === "E ERROR 40001").length > 1 && inTransaction).toBe(false);
      }),
      { seed: 6 },
    );
  });
});
