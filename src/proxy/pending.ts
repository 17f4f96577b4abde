// Outcomes that are not known yet: what a message in a pipeline may depend on.

import type { Outcome } from "../protocol/exchange.ts";

/** Entries of the ledger whose outcome is not known yet, and the batches of the first and the last of them. */
export class Pending {
  #count = 0;
  #first = 0;
  #last = 0;

  /** Whether one of them was sent before this batch. */
  anyBefore(batch: number): boolean {
    return this.#count > 0 && this.#first < batch;
  }

  /** Whether all of them were. */
  allBefore(batch: number): boolean {
    return this.#count > 0 && this.#last < batch;
  }

  watch(batch: number, outcome: Outcome): Outcome {
    if (this.#count === 0) this.#first = batch;
    this.#last = batch;
    this.#count += 1;
    const known = (then: () => void) => (): void => {
      this.#count -= 1;
      then();
    };
    return {
      completed: known(outcome.completed),
      failed: known(outcome.failed),
      skipped: known(outcome.skipped),
      error: outcome.error,
    };
  }
}

/** Counts batches, each up to a Sync or simple query: an error in one skips what follows in it, and nothing behind it. */
export class Batches {
  #current = 0;
  readonly #named = new Pending();
  readonly #unnamed = new Pending();

  /** A Sync or simple query is being sent. */
  end(): void {
    this.#current += 1;
  }

  /** Something that decides what a name stands for is being sent. */
  named(outcome: Outcome): Outcome {
    return this.#named.watch(this.#current, outcome);
  }

  /** The same of the unnamed statement. */
  unnamed(outcome: Outcome): Outcome {
    return this.#unnamed.watch(this.#current, outcome);
  }

  /** Whether what a name stands for hangs on a batch before this one. */
  get namesOpen(): boolean {
    return this.#named.anyBefore(this.#current);
  }

  /** Whether what the unnamed statement is hangs on batches before this one alone. */
  get unnamedOpen(): boolean {
    return this.#unnamed.allBefore(this.#current);
  }
}

const nothing = (): void => {};

/** An outcome that hears only of what is named. */
export function outcomeOf(calls: Partial<Outcome>): Outcome {
  return { completed: nothing, failed: nothing, skipped: nothing, error: null, ...calls };
}

export type Ending = "completed" | "failed" | "skipped";

/** An outcome that is told in one word. */
export function outcomeIn(then: (ending: Ending) => void): Outcome {
  return outcomeOf({
    completed: () => then("completed"),
    failed: () => then("failed"),
    skipped: () => then("skipped"),
  });
}
