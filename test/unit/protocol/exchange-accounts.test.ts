// What the ledger tells of each Parse, Close and fake: exactly one of completed, failed, skipped, in their order; and fakes among
// the server's own answers when it is their turn.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Backend, Frontend } from "../../../src/protocol/constants.ts";
import {
  Exchange,
  FAKE_CLOSE_COMPLETE,
  FAKE_DEALLOCATE,
  FAKE_PARSE_COMPLETE,
  FORWARD,
  type Outcome,
  SWALLOW,
  WATCHED_DESCRIBE,
} from "../../../src/protocol/exchange.ts";

const code = (letter: string): number => letter.charCodeAt(0);

const fakes: Readonly<Record<string, number>> = {
  p: FAKE_PARSE_COMPLETE,
  c: FAKE_CLOSE_COMPLETE,
  d: FAKE_DEALLOCATE,
  w: WATCHED_DESCRIBE,
};

/** A ledger whose Parse, Close and fake entries tell, in `told`, what becomes of them: `completed 0`, by their number. */
class Accounts {
  readonly exchange = new Exchange();
  readonly told: string[] = [];
  #count = 0;

  /** `P` and `C` are real, `p` and `c` fake, `d` a faked DEALLOCATE, `w` a watched Describe, `(P)` and `(C)` ours; the others are requests. */
  send(text: string): void {
    for (const [token] of text.matchAll(/\(.\)|./g)) {
      const own = token.startsWith("(");
      const letter = own ? (token[1] ?? "") : token;
      const type = fakes[letter] ?? code(letter);
      if ("PCpcdw".includes(letter)) this.exchange.account(type, this.#outcome(), own);
      else this.exchange.request(type);
    }
  }

  /** Types that reach the client: the server's answers, and in front of each the fakes whose turn it is; `-` for swallowed. */
  answer(letters: string): string {
    let seen = this.fakes();
    for (const letter of letters) {
      const verdict = this.exchange.reply(code(letter));
      seen += verdict === FORWARD ? letter : verdict === SWALLOW ? "-" : "?";
      seen += this.fakes();
    }
    return seen;
  }

  fakes(): string {
    let seen = "";
    for (let fake = this.exchange.takeFake(); fake !== null; fake = this.exchange.takeFake()) {
      seen += Object.keys(fakes).find((letter) => fakes[letter] === fake) ?? "?";
    }
    return seen;
  }

  #outcome(): Outcome {
    const number = this.#count++;
    return {
      completed: () => this.told.push(`completed ${number}`),
      failed: () => this.told.push(`failed ${number}`),
      skipped: () => this.told.push(`skipped ${number}`),
      error: null,
    };
  }

  get accounted(): number {
    return this.#count;
  }
}

describe("Exchange, keeping account", () => {
  test.each<[string, string, string, string, string[]]>([
    ["a Parse that is run", "PBES", "12CZ", "12CZ", ["completed 0"]],
    ["a Parse that is refused", "PBES", "EZ", "EZ", ["failed 0"]],
    ["a Parse behind an error", "BPCS", "EZ", "EZ", ["skipped 0", "skipped 1"]],
    ["a Parse in the batch behind an error", "PSPS", "EZ1Z", "EZ1Z", ["failed 0", "completed 1"]],
    ["a Close", "CS", "3Z", "3Z", ["completed 0"]],
    ["a Parse in front of ours", "(P)BES", "12CZ", "-2CZ", ["completed 0"]],
    ["a Close and a Parse of ours", "(C)(P)BS", "312Z", "--2Z", ["completed 0", "completed 1"]],
    ["our Parse, refused: the client's error", "(P)BES", "EZ", "EZ", ["failed 0"]],
    ["our Parse behind the client's error", "B(P)BS", "EZ", "EZ", ["skipped 0"]],
    ["a fake first", "pBES", "2CZ", "p2CZ", ["completed 0"]],
    ["a fake between real answers", "PpBcES", "12CZ", "1p2cCZ", ["completed 0", "completed 1", "completed 2"]],
    ["fakes in a row", "ppcS", "Z", "ppcZ", ["completed 0", "completed 1", "completed 2"]],
    ["a fake behind an error", "BpcS", "EZ", "EZ", ["skipped 0", "skipped 1"]],
    ["a fake in front of an error", "pBcS", "EZ", "pEZ", ["completed 0", "skipped 1"]],
    ["a fake in the batch behind an error", "BSpS", "EZZ", "EZpZ", ["completed 0"]],
    ["a faked DEALLOCATE between queries", "QdQ", "CZCZ", "CZdCZ", ["completed 0"]],
    ["a Describe", "PwBS", "1tT2Z", "1tT2Z", ["completed 0", "completed 1"]],
    ["a Describe of ours behind a Parse of ours", "(P)(w)BES", "1tn2CZ", "---2CZ", ["completed 0", "completed 1"]],
    ["our Describe, refused: the client's error", "(P)(w)BES", "1EZ", "-EZ", ["completed 0", "failed 1"]],
    ["our Describe behind our refused Parse", "(P)(w)BES", "EZ", "EZ", ["failed 0", "skipped 1"]],
    ["a Parse behind a copy", "QfPS", "GEZ1Z", "GEZ1Z", ["completed 0"]],
  ])("tells what becomes of %s", (_name, sent, answers, seen, told) => {
    const accounts = new Accounts();
    accounts.send(sent);
    expect(accounts.answer(answers)).toBe(seen);
    expect(accounts.told).toEqual(told);
    expect(accounts.exchange.empty).toBe(true);
  });

  test("says who hears what answers a watched Describe, while it is that one's turn", () => {
    const accounts = new Accounts();
    accounts.send("BwS");
    expect(accounts.exchange.hearer).toBeNull();
    accounts.answer("2");
    for (const letter of ["t", "T"]) {
      accounts.exchange.hearer?.completed();
      accounts.answer(letter);
    }
    expect(accounts.told).toEqual(["completed 0", "completed 0", "completed 0"]);
    expect(accounts.exchange.hearer).toBeNull();
  });

  test("tells of what is sent behind a known error at once", () => {
    const accounts = new Accounts();
    accounts.send("B");
    expect(accounts.answer("E")).toBe("E");
    accounts.send("Pcp");
    expect(accounts.told).toEqual(["skipped 0", "skipped 1", "skipped 2"]);
    accounts.send("SpS");
    expect(accounts.answer("ZZ")).toBe("ZpZ");
    expect(accounts.told.at(-1)).toBe("completed 3");
  });

  test("gives no fake before its turn, and does not stay open for one that was given", () => {
    const accounts = new Accounts();
    accounts.send("BpS");
    expect(accounts.fakes()).toBe("");
    expect(accounts.answer("2")).toBe("2p");
    expect(accounts.exchange.empty).toBe(false);
    expect(accounts.answer("Z")).toBe("Z");
    expect(accounts.exchange.empty).toBe(true);
    accounts.send("d");
    expect(accounts.exchange.empty).toBe(false);
    expect(accounts.fakes()).toBe("d");
    expect(accounts.exchange.empty).toBe(true);
  });

  test("is open behind a fake whose Sync is still to come", () => {
    const accounts = new Accounts();
    accounts.send("p");
    expect(accounts.fakes()).toBe("p");
    expect(accounts.exchange.empty).toBe(false);
    accounts.send("S");
    accounts.answer("Z");
    expect(accounts.exchange.empty).toBe(true);
  });

  test("knows the words that replace an error, for as long as it is that request's turn", () => {
    const { exchange } = new Accounts();
    const error = Buffer.from("E");
    const outcome: Outcome = { completed: () => {}, failed: () => {}, skipped: () => {}, error };
    exchange.request(Frontend.Bind);
    exchange.account(Frontend.Parse, outcome);
    expect(exchange.replacement).toBeNull();
    exchange.reply(Backend.BindComplete);
    expect(exchange.replacement).toBe(error);
    exchange.reply(Backend.ErrorResponse);
    expect(exchange.replacement).toBeNull();
  });

  test("skips all of it when it is abandoned, and owes nothing for fakes", () => {
    const accounts = new Accounts();
    accounts.send("PcSd(P)Bp");
    expect(accounts.answer("1")).toBe("1c");
    const owed: boolean[] = [];
    const { openBatch } = accounts.exchange.abandon((work) => owed.push(work));
    expect([owed, openBatch]).toEqual([[false, true], true]);
    expect(accounts.told).toEqual(["completed 0", "completed 1", "skipped 2", "skipped 3", "skipped 4"]);
    expect(accounts.exchange.empty).toBe(true);
    expect(accounts.exchange.takeFake()).toBeNull();
  });

  test("tells of each exactly once, in order, whatever fails and wherever it is abandoned", () => {
    const token = fc.constantFrom("P", "C", "p", "c", "(P)", "(C)", "B", "E", "S", "S", "Q", "d");
    // A server that fails where `fails` says so, and answers everything else.
    const play = (tokens: readonly string[], fails: ReadonlySet<number>, steps: number) => {
      const accounts = new Accounts();
      let skipping = false;
      const answers: string[] = [];
      tokens.forEach((each, at) => {
        const letter = each.replaceAll(/[()]/g, "");
        if (letter === "S") {
          skipping = false;
          answers.push("Z");
        } else if (skipping || "pcd".includes(letter)) return;
        else if (letter === "Q") answers.push(...(fails.has(at) ? ["E", "Z"] : ["C", "Z"]));
        else if (fails.has(at) && letter !== "C") {
          answers.push("E");
          skipping = true;
        } else answers.push({ P: "1", B: "2", E: "C", C: "3" }[letter] ?? "?");
      });
      accounts.send(tokens.join(""));
      for (const answer of answers.slice(0, steps)) expect(accounts.answer(answer)).not.toContain("?");
      if (steps < answers.length) accounts.exchange.abandon(() => {});
      accounts.fakes();
      return accounts;
    };
    fc.assert(
      fc.property(
        fc.array(token, { maxLength: 30 }),
        fc.array(fc.nat({ max: 29 }), { maxLength: 4 }),
        fc.integer({ min: 0, max: 60 }),
        (tokens, fails, steps) => {
          const closed = [...tokens, "S"];
          const { told, accounted } = play(closed, new Set(fails), steps);
          expect(told.map((each) => Number(each.split(" ")[1]))).toEqual(
            Array.from({ length: accounted }, (_, index) => index),
          );
        },
      ),
      { numRuns: 2_000, seed: 5 },
    );
  });
});
