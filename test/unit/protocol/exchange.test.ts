// The ledger's rules one by one, as a dialogue: `> X` the client (or we) sends X, `< X` the server answers X. What the ledger
// says of each answer stands behind it when it is not "forward". Real pipelines are in test/integration/exchange.test.ts.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EXCHANGE_ENTRIES_MAX } from "../../../src/core/limits.ts";
import { Backend, Frontend } from "../../../src/protocol/constants.ts";
import { Exchange, FORWARD, SWALLOW, UNEXPECTED } from "../../../src/protocol/exchange.ts";

const verdicts = { [FORWARD]: "forward", [SWALLOW]: "swallow", [UNEXPECTED]: "unexpected" } as const;
const code = (letter: string): number => letter.charCodeAt(0);

/** Frontend types by letter, joined: `PBDES`. `o` is a query of our own. */
function send(exchange: Exchange, letters: string): void {
  for (const letter of letters) {
    if (letter === "o") exchange.ownQuery();
    else exchange.request(code(letter));
  }
}

/** Verdicts on backend types by letter. */
const answer = (exchange: Exchange, letters: string): string[] =>
  [...letters].map((letter) => verdicts[exchange.reply(code(letter))]);

/** Plays `> PBES`, `< 12CZ`, … and expects every answer to be forwarded, and the ledger to be empty at the end and not before. */
function play(lines: readonly string[], exchange = new Exchange()): Exchange {
  lines.forEach((line, at) => {
    const letters = line.slice(2);
    if (line.startsWith(">")) {
      send(exchange, letters);
      return;
    }
    [...letters].forEach((letter, index) => {
      expect(exchange.empty, `before ${letter} in line ${at}: ${line}`).toBe(false);
      expect(answer(exchange, letter), `${letter} in line ${at}: ${line}`).toEqual(["forward"]);
      const last = at === lines.length - 1 && index === letters.length - 1;
      if (last) expect(exchange.empty, "at the end").toBe(true);
    });
  });
  return exchange;
}

describe("Exchange", () => {
  test("is empty at first, and owes nothing for Flush, Terminate, CopyData and stray copy ends", () => {
    const exchange = new Exchange();
    send(exchange, "HXdcf");
    expect(exchange.empty).toBe(true);
    expect(exchange.own).toBe(false);
  });

  test.each<[string, string[]]>([
    ["a simple query with rows", ["> Q", "< TDDCZ"]],
    ["several statements in one query", ["> Q", "< TDCCTDDCZ"]],
    ["an empty query", ["> Q", "< IZ"]],
    ["a failing query", ["> Q", "< TDEZ"]],
    ["queries ahead of their answers", ["> QQQ", "< CZEZCZ"]],
    ["a function call", ["> F", "< VZ"]],
    ["a failing function call", ["> F", "< EZ"]],
    ["an extended query", ["> PBDES", "< 12TDDCZ"]],
    ["a statement's description", ["> PDS", "< 1tTZ"]],
    ["no data", ["> PDBDES", "< 1tn2nCZ"]],
    ["an empty statement", ["> PBES", "< 12IZ"]],
    ["closing", ["> CCS", "< 33Z"]],
    ["a bare Sync", ["> S", "< Z"]],
    ["portals that are suspended and go on", ["> PBEEES", "< 12DsDsDCZ"]],
    ["a Flush in the middle", ["> PBH", "< 12", "> DEHS", "< TDCZ"]],
    ["a pipeline with several Syncs", ["> PBESBESS", "< 12CZ2CZZ"]],
    ["an error that skips to the Sync", ["> PBDES", "< 1EZ"]],
    ["an error that skips requests of that batch only", ["> PBESPBES", "< EZ12CZ"]],
    ["an error in a Sync (deferred constraint)", ["> PBES", "< 12CEZ"]],
    ["an error in the Sync between two batches", ["> PBESPBES", "< 12CEZ12CZ"]],
    ["an error before its Sync is sent", ["> PBE", "< E", "> S", "< Z"]],
    ["requests that are skipped because the error is known", ["> P", "< E", "> BDECS", "< Z"]],
    ["a simple query that is skipped because the error is known", ["> P", "< E", "> QS", "< Z"]],
    ["a simple query that is skipped with its batch", ["> PQS", "< EZ"]],
    ["simple after extended without Sync", ["> PBEQ", "< 12CTDCZ"]],
    ["notices and parameters in the middle", ["> PBES", "< 1N2SCNSZ"]],
    ["COPY out, simple", ["> Q", "< HdddcCZ"]],
    ["COPY out, extended", ["> PBES", "< 12HddcCZ"]],
    ["COPY in, simple", ["> Q", "< G", "> ddc", "< CZ"]],
    ["COPY in that the client gives up", ["> Q", "< G", "> df", "< EZ"]],
    ["COPY in that the server gives up", ["> Q", "< G", "> d", "< EZ"]],
    ["COPY in with an early Sync, which the server ignores", ["> PBES", "< 12G", "> ddcS", "< CZ"]],
    ["COPY in, extended, with a Sync in the middle", ["> PBE", "< 12G", "> dSdHcS", "< CZ"]],
    ["COPY in sent ahead of CopyInResponse, simple", ["> Qddc", "< GCZ"]],
    ["COPY in sent ahead of CopyInResponse, extended", ["> PBESddcS", "< 12GCZ"]],
    ["COPY in, extended, failed by the client", ["> PBE", "< 12G", "> dfS", "< EZ"]],
    ["COPY in given up ahead of CopyInResponse", ["> PBEfSQ", "< 12GEZCZ"]],
    ["two COPYs in one query, both sent ahead", ["> QcfQ", "< GCGEZCZ"]],
    ["two COPYs in one query, one after the other", ["> Q", "< G", "> dc", "< CG", "> dc", "< CZ"]],
    ["a COPY that is refused although its rows were sent ahead, and a query after it", ["> QddcQ", "< EZCZ"]],
    ["rows and their end that arrive after the refusal", ["> Q", "< E", "> dcQ", "< ZCZ"]],
    ["a copy that fails before it reads its early Sync", ["> PBES", "< 12GEZ"]],
    ["both directions (replication)", ["> Q", "< Wd", "> d", "< d", "> c", "< cCZ"]],
  ])("answers %s", (_name, lines) => {
    play(lines);
  });

  test.each<[string, string[]]>([
    ["a simple COPY that is refused with its end sent ahead", ["> Qdc", "< EZ"]],
    ["a simple COPY that is refused with its failure sent ahead", ["> Qdf", "< EZ"]],
    ["an end that arrives between the refusal and ReadyForQuery", ["> Q", "< E", "> dc", "< Z"]],
    ["an extended COPY that is refused, with its end behind the Sync", ["> PBESdc", "< 1EZ"]],
  ])("owes nothing for a copy's end that nobody asked for: %s", (_name, lines) => {
    play(lines);
  });

  test.each<[string, string[]]>([
    ["requests that were flushed and answered", ["> PBEH", "< 12C"]],
    ["a suspended portal", ["> PBEH", "< 12Ds"]],
    ["an error whose Sync is to come", ["> P", "< E"]],
    ["a second batch behind a synced one", ["> PBESPBEH", "< 12CZ12C"]],
    ["a batch behind a query", ["> QPBEH", "< CZ12C"]],
    ["a copy whose Sync came too early", ["> PBES", "< 12G", "> dc", "< C"]],
    ["a batch behind a copy and its Sync, all sent ahead", ["> PBESdcSPH", "< 12GCZ1"]],
    ["a copy whose Syncs came too early, its end sent ahead", ["> PBESdSc", "< 12GC"]],
  ])("is not empty while an implicit transaction is open: %s", (_name, lines) => {
    const exchange = new Exchange();
    for (const line of lines) {
      if (line.startsWith(">")) send(exchange, line.slice(2));
      else answer(exchange, line.slice(2));
    }
    expect(exchange.empty).toBe(false);
    expect(exchange.stalled).toBe(true);
    send(exchange, "S");
    answer(exchange, "Z");
    expect(exchange.empty).toBe(true);
  });

  // An early Sync is answered or not: only the server knows whether it had read it when the copy failed.
  test.each<[string, string]>([
    ["the early Sync was ignored", "EZ"],
    ["the early Sync was answered", "EZZ"],
  ])("owes nothing any more once a later answer tells what became of a failed copy: %s", (_name, answers) => {
    for (const sent of [
      ["> PBES", "< 12G", "> dfS"],
      ["> PBESdfS", "< 12G"],
      ["> PBESdcS", "< 12G"],
    ]) {
      const exchange = new Exchange();
      for (const line of sent) {
        if (line.startsWith(">")) send(exchange, line.slice(2));
        else answer(exchange, line.slice(2));
      }
      expect(answer(exchange, answers)).toEqual([...answers].map(() => "forward"));
      // Two answers to two Syncs leave nothing to guess.
      const certain = answers === "EZZ";
      expect([exchange.empty, exchange.uncertain]).toEqual([certain, !certain]);
      send(exchange, "Q");
      expect(answer(exchange, "TDCZ")).toEqual(Array(4).fill("forward"));
      expect([exchange.empty, exchange.uncertain]).toEqual([true, false]);
    }
  });

  test("takes a late answer to an early Sync for no answer to the request behind it", () => {
    for (const next of ["Q", "F", "PBES"]) {
      const exchange = new Exchange();
      send(exchange, `PBESdcS${next}`);
      const after = { Q: "CZ", F: "VZ", PBES: "12CZ" }[next] ?? "";
      expect(answer(exchange, `12GEZZ${after}`), next).toEqual(Array(6 + after.length).fill("forward"));
      expect([exchange.empty, exchange.uncertain]).toEqual([true, false]);
    }
  });

  test("tells whether the server copies in", () => {
    const exchange = play(["> Q", "< G"].slice(0, 1));
    expect(exchange.copyIn).toBe(false);
    answer(exchange, "G");
    expect(exchange.copyIn).toBe(true);
    send(exchange, "d");
    expect(exchange.copyIn).toBe(true);
    send(exchange, "c");
    expect(exchange.copyIn).toBe(false);
    expect(exchange.empty).toBe(false);
    answer(exchange, "CZ");
    expect(exchange.empty).toBe(true);
  });

  test("swallows the answers to queries of our own, and only those", () => {
    const exchange = new Exchange();
    send(exchange, "oPBES");
    expect(exchange.own).toBe(true);
    expect(answer(exchange, "CTDSNCZ12CZ")).toEqual([...Array(7).fill("swallow"), ...Array(4).fill("forward")]);
    expect(exchange.empty).toBe(true);
  });

  test("swallows a failure of our own and what it ends, and lets notifications through", () => {
    const exchange = new Exchange();
    send(exchange, "oQ");
    expect(answer(exchange, "EAZ")).toEqual(["swallow", "forward", "swallow"]);
    expect(exchange.own).toBe(false);
    expect(answer(exchange, "CZ")).toEqual(["forward", "forward"]);
  });

  test("calls what is not owed unexpected, but for asynchronous messages", () => {
    for (const letter of "TDCZIEVGWHdc123nts") expect(answer(new Exchange(), letter), letter).toEqual(["unexpected"]);
    expect(answer(new Exchange(), "NAS")).toEqual(["forward", "forward", "forward"]);
  });

  test("calls unexpected what no server sends in answer to anything", () => {
    for (const letter of ["R", "K", "v", "Q", "X", "0", "\0", "\xff"]) {
      const exchange = new Exchange();
      send(exchange, "Q");
      expect(exchange.reply(letter.charCodeAt(0)), letter).toBe(UNEXPECTED);
    }
  });

  test("calls a ReadyForQuery unexpected while a batch has not been synced", () => {
    const exchange = new Exchange();
    send(exchange, "PS");
    expect(answer(exchange, "Z")).toEqual(["unexpected"]);
  });

  test("calls a ReadyForQuery unexpected that follows an error in a batch without its Sync", () => {
    const exchange = new Exchange();
    send(exchange, "PB");
    expect(answer(exchange, "EZ")).toEqual(["forward", "unexpected"]);
  });

  test("keeps its order while it grows, wherever its ring began", () => {
    for (const offset of [0, 1, 40, 63, 64]) {
      const exchange = new Exchange();
      for (let index = 0; index < offset; index += 1) play(["> Q", "< CZ"], exchange);
      const kinds = Array.from({ length: 500 }, (_, index) => (index % 3 === 0 ? "Q" : index % 3 === 1 ? "S" : "F"));
      send(exchange, kinds.join(""));
      for (const kind of kinds) answer(exchange, kind === "Q" ? "CZ" : kind === "S" ? "Z" : "VZ");
      expect(exchange.empty).toBe(true);
    }
  });

  test("says that it is full at its bound, and no longer once something is answered", () => {
    const exchange = new Exchange();
    for (let index = 0; index < EXCHANGE_ENTRIES_MAX; index += 1) {
      expect(exchange.full).toBe(false);
      exchange.request(Frontend.Sync);
    }
    expect(exchange.full).toBe(true);
    exchange.reply(Backend.ReadyForQuery);
    expect(exchange.full).toBe(false);
  });
});

describe("Exchange, abandoned", () => {
  const abandon = (lines: readonly string[]): { owed: boolean[]; openBatch: boolean } => {
    const exchange = new Exchange();
    for (const line of lines) {
      if (line.startsWith(">")) send(exchange, line.slice(2));
      else answer(exchange, line.slice(2));
    }
    const owed: boolean[] = [];
    const { openBatch } = exchange.abandon((hasWork) => owed.push(hasWork));
    expect(exchange.empty).toBe(true);
    expect(exchange.copyIn).toBe(false);
    return { owed, openBatch };
  };

  test.each<[string, string[], boolean[], boolean]>([
    ["nothing", [], [], false],
    ["a query", ["> Q"], [true], false],
    ["a query that is half answered", ["> Q", "< TD"], [true], false],
    ["a batch and its Sync", ["> PBES"], [true], false],
    ["a batch whose requests are answered, but not its Sync", ["> PBES", "< 12C"], [false], false],
    ["a bare Sync", ["> S"], [false], false],
    ["a batch without its Sync", ["> PB"], [], true],
    ["two batches, the second without its Sync", ["> PBESPB"], [true], true],
    ["a failed batch whose Sync is still to come", ["> PB", "< E"], [], true],
    ["a failed batch whose Sync was sent", ["> PB", "< E", "> S"], [false], false],
    ["queries, batches and function calls", ["> QPBESSF"], [true, true, false, true], false],
    ["a copy that is under way, simple", ["> Q", "< G"], [true], false],
    ["a copy that is under way, extended", ["> PBES", "< 12G"], [], true],
    ["a copy whose end was sent ahead", ["> Qdc"], [true], false],
  ])("says what is owed: %s", (_name, lines, owed, openBatch) => {
    expect(abandon(lines)).toEqual({ owed, openBatch });
  });
});

describe("Exchange under arbitrary messages from both sides", () => {
  test("never throws, and is empty once it is abandoned", () => {
    const step = fc.oneof(
      fc.record({ from: fc.constant("client" as const), type: fc.constantFrom(...Object.values(Frontend)) }),
      fc.record({ from: fc.constant("client" as const), type: fc.nat(255) }),
      fc.record({ from: fc.constant("server" as const), type: fc.constantFrom(...Object.values(Backend)) }),
      fc.record({ from: fc.constant("server" as const), type: fc.nat(255) }),
      fc.record({ from: fc.constant("us" as const), type: fc.constantFrom(Frontend.Parse, Frontend.Close) }),
      fc.record({ from: fc.constant("fake" as const), type: fc.constantFrom(1, 2, 3) }),
      fc.record({ from: fc.constant("own query" as const), type: fc.constant(0) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const exchange = new Exchange();
        for (const { from, type } of steps) {
          if (from === "client") exchange.request(type);
          else if (from === "us") exchange.account(type, null, true);
          else if (from === "fake") exchange.account(type, null);
          else if (from === "own query") exchange.ownQuery();
          else {
            while (exchange.takeFake() !== null) {
              // Given before anything of the server's is heard, as its server does.
            }
            const verdict = exchange.reply(type);
            // Its server is cut off: nothing more is heard.
            if (verdict === UNEXPECTED) break;
          }
          if (exchange.empty) expect([exchange.openBatch, exchange.stalled]).toEqual([false, true]);
        }
        exchange.abandon(() => {});
        expect([exchange.empty, exchange.full, exchange.copyIn]).toEqual([true, false, false]);
      }),
      { numRuns: 3000 },
    );
  });
});
