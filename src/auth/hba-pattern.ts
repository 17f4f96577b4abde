// The regular expressions of HBA and ident files: PostgreSQL's, as far as they describe a set of names
// (https://www.postgresql.org/docs/current/functions-matching.html#POSIX-SYNTAX-DETAILS). An engine of our own, because the names
// come from strangers before they have logged in: each pair of step and place is tried once, so that no expression takes longer than
// its length times the name's. What it does not know (back references, lookaround) is said, never taken for something else.

import { ACCESS_PATTERN_STEPS_MAX } from "../core/limits.ts";
import { type PatternNode, PatternRefused, readPattern } from "./hba-pattern-syntax.ts";

/** What a match found. */
export interface PatternMatch {
  /** What the first group in parentheses took; null when it took no part, or there is none. */
  readonly group: string | null;
}

export type Pattern =
  | { readonly ok: true; match(text: string): PatternMatch | null }
  /** Reads on after "the regular expression". */
  | { readonly ok: false; readonly message: string };

type Step =
  | { readonly op: "letter"; readonly test: (letter: string) => boolean }
  | { readonly op: "place"; readonly is: (before: string, after: string) => boolean }
  | { readonly op: "split"; first: number; second: number }
  | { readonly op: "jump"; to: number }
  | { readonly op: "open" }
  | { readonly op: "close" };

/** The expression behind the slash. */
export function compilePattern(source: string): Pattern {
  try {
    const steps = new Program().of(readPattern(source));
    return { ok: true, match: (text) => run(steps, text) };
  } catch (error) {
    if (error instanceof PatternRefused) return { ok: false, message: error.message };
    throw error;
  }
}

/** Tree to steps. */
class Program {
  readonly #steps: Step[] = [];

  of(node: PatternNode): readonly Step[] {
    this.#add(node);
    return this.#steps;
  }

  #push<T extends Step>(step: T): T {
    if (this.#steps.length >= ACCESS_PATTERN_STEPS_MAX) {
      throw new PatternRefused(`comes to more than ${ACCESS_PATTERN_STEPS_MAX} steps, repetitions written out`);
    }
    this.#steps.push(step);
    return step;
  }

  #add(node: PatternNode): void {
    switch (node.kind) {
      case "letter":
        this.#push({ op: "letter", test: node.test });
        return;
      case "place":
        this.#push({ op: "place", is: node.is });
        return;
      case "sequence":
        for (const part of node.parts) this.#add(part);
        return;
      case "choice":
        this.#choice(node.branches);
        return;
      case "group":
        if (node.number === 1) this.#push({ op: "open" });
        this.#add(node.inside);
        if (node.number === 1) this.#push({ op: "close" });
        return;
      case "repeat":
        this.#repeat(node);
    }
  }

  #choice(branches: readonly PatternNode[]): void {
    const ends: { to: number }[] = [];
    for (const [index, branch] of branches.entries()) {
      if (index === branches.length - 1) {
        this.#add(branch);
        break;
      }
      const split = this.#push({ op: "split", first: this.#steps.length + 1, second: 0 });
      this.#add(branch);
      ends.push(this.#push({ op: "jump", to: 0 }));
      split.second = this.#steps.length;
    }
    for (const end of ends) end.to = this.#steps.length;
  }

  #repeat({ inside, min, max, lazy }: PatternNode & { kind: "repeat" }): void {
    for (let count = 0; count < min; count += 1) this.#add(inside);
    if (max === Number.POSITIVE_INFINITY) {
      const start = this.#steps.length;
      const split = this.#push({ op: "split", first: 0, second: 0 });
      this.#add(inside);
      this.#push({ op: "jump", to: start });
      aim(split, start + 1, this.#steps.length, lazy);
      return;
    }
    const splits: { split: { first: number; second: number }; into: number }[] = [];
    for (let count = min; count < max; count += 1) {
      const split = this.#push({ op: "split", first: 0, second: 0 });
      splits.push({ split, into: this.#steps.length });
      this.#add(inside);
    }
    for (const { split, into } of splits) aim(split, into, this.#steps.length, lazy);
  }
}

function aim(split: { first: number; second: number }, into: number, past: number, lazy: boolean): void {
  [split.first, split.second] = lazy ? [past, into] : [into, past];
}

/** One way through that has still to be tried; `open` and `close` are the first group's ends, -1 where it has none. */
interface Way {
  step: number;
  at: number;
  open: number;
  close: number;
}

/** Anywhere in `text`, the leftmost match first. A pair of step and place that failed once fails again, whatever came before it. */
function run(steps: readonly Step[], text: string): PatternMatch | null {
  const letters = [...text];
  const tried = new Uint8Array((steps.length + 1) * (letters.length + 1));
  for (let start = 0; start <= letters.length; start += 1) {
    const ways: Way[] = [{ step: 0, at: start, open: -1, close: -1 }];
    for (let way = ways.pop(); way !== undefined; way = ways.pop()) {
      const key = way.step * (letters.length + 1) + way.at;
      if (tried[key] === 1) continue;
      tried[key] = 1;
      const step = steps[way.step];
      if (step === undefined) {
        return { group: way.close === -1 ? null : letters.slice(way.open, way.close).join("") };
      }
      follow(step, way, letters, ways);
    }
  }
  return null;
}

function follow(step: Step, way: Way, letters: readonly string[], ways: Way[]): void {
  const next = way.step + 1;
  switch (step.op) {
    case "letter": {
      const letter = letters[way.at];
      if (letter !== undefined && step.test(letter)) ways.push({ ...way, step: next, at: way.at + 1 });
      return;
    }
    case "place":
      if (step.is(letters[way.at - 1] ?? "", letters[way.at] ?? "")) ways.push({ ...way, step: next });
      return;
    case "split":
      ways.push({ ...way, step: step.second }, { ...way, step: step.first });
      return;
    case "jump":
      ways.push({ ...way, step: step.to });
      return;
    case "open":
      ways.push({ ...way, step: next, open: way.at });
      return;
    case "close":
      ways.push({ ...way, step: next, close: way.at });
  }
}
