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

const nothing = (): void => {};

/** An outcome that hears only of what is named. */
export function outcomeOf(calls: Partial<Outcome>): Outcome {
  return { completed: nothing, failed: nothing, skipped: nothing, error: null, ...calls };
}
