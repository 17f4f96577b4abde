// Exponential backoff with full jitter on the upper half, so that retries of many routers do not fall into step.

import { type Millis, millis } from "./units.ts";

export interface BackoffOptions {
  /** First delay, ms. */
  readonly initialMs: number;
  /** No delay is longer, ms. */
  readonly maxMs: number;
}

/** Doubles from `initialMs` to `maxMs`; each delay is drawn from its upper half. */
export class Backoff {
  readonly #options: BackoffOptions;
  readonly #random: () => number;
  #attempt = 0;

  constructor(options: BackoffOptions, random: () => number = Math.random) {
    this.#options = options;
    this.#random = random;
  }

  /** The delay before the next attempt. */
  next(): Millis {
    const ceiling = Math.min(this.#options.maxMs, this.#options.initialMs * 2 ** Math.min(this.#attempt, 30));
    this.#attempt += 1;
    return millis(ceiling / 2 + (this.#random() * ceiling) / 2);
  }

  /** Call after a success: the next delay is the first one again. */
  reset(): void {
    this.#attempt = 0;
  }
}
