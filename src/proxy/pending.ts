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
    return new Watched(this, outcome);
  }

  /** One of them is known. */
  known(): void {
    this.#count -= 1;
  }
}

/** An outcome that is counted until it is known. */
class Watched implements Outcome {
  readonly error: Buffer | null;
  readonly #pending: Pending;
  readonly #outcome: Outcome;

  constructor(pending: Pending, outcome: Outcome) {
    this.error = outcome.error;
    this.#pending = pending;
    this.#outcome = outcome;
  }

  completed(): void {
    this.#pending.known();
    this.#outcome.completed();
  }

  failed(): void {
    this.#pending.known();
    this.#outcome.failed();
  }

  skipped(): void {
    this.#pending.known();
    this.#outcome.skipped();
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

export type Ending = "completed" | "failed" | "skipped";

/** An outcome that is told in one word; or, being null, interests nobody. */
export class Told implements Outcome {
  readonly error: Buffer | null;
  readonly #then: ((ending: Ending) => void) | null;

  constructor(then: ((ending: Ending) => void) | null, error: Buffer | null = null) {
    this.#then = then;
    this.error = error;
  }

  completed(): void {
    this.#then?.("completed");
  }

  failed(): void {
    this.#then?.("failed");
  }

  skipped(): void {
    this.#then?.("skipped");
  }
}
