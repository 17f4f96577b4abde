// For log lines that a stranger can cause as often as he likes: one is let through every so often.

import type { Clock } from "./clock.ts";
import type { Millis } from "./units.ts";

export class Seldom {
  readonly #clock: Clock;
  readonly #every: Millis;
  #dueAt = Number.NEGATIVE_INFINITY;
  #count = 0;

  constructor(clock: Clock, every: Millis) {
    this.#clock = clock;
    this.#every = every;
  }

  /** Counts one. How many there were since the last that was let through, this one included; null: not now. */
  due(): number | null {
    this.#count += 1;
    const now = this.#clock.now();
    if (now < this.#dueAt) return null;
    this.#dueAt = now + this.#every;
    const count = this.#count;
    this.#count = 0;
    return count;
  }
}
