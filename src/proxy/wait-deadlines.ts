// The deadlines of clients that wait for a server (query_wait_timeout). All wait equally long, so whoever began first is late first,
// and one timer serves them all: most waits end after milliseconds, and cost no timer of their own.

import type { Clock } from "../core/clock.ts";
import { type Millis, millis } from "../core/units.ts";

/** Somebody who waits. */
export interface Waiting {
  /** The wait took too long. */
  waitExpired(): void;
}

export class WaitDeadlines {
  /** How long a wait may take, ms. */
  readonly waitMs: number;
  readonly #clock: Clock;
  /** Since when each waits, oldest first. */
  readonly #since = new Map<Waiting, Millis>();
  #armed = false;

  constructor(clock: Clock, waitMs: number) {
    this.#clock = clock;
    this.waitMs = waitMs;
  }

  /** `waiting` waits from now on. Returns since when. */
  add(waiting: Waiting): Millis {
    const now = this.#clock.now();
    this.#since.set(waiting, now);
    if (!this.#armed) this.#arm(this.waitMs);
    return now;
  }

  /** It does not wait any more. */
  remove(waiting: Waiting): void {
    this.#since.delete(waiting);
  }

  #arm(delayMs: number): void {
    this.#armed = true;
    this.#clock.after(millis(delayMs), () => {
      this.#armed = false;
      this.#expire();
    });
  }

  #expire(): void {
    for (const [waiting, since] of this.#since) {
      const leftMs = since + this.waitMs - this.#clock.now();
      if (leftMs > 0) return this.#arm(leftMs);
      this.#since.delete(waiting);
      waiting.waitExpired();
    }
  }
}
