// A clock that only moves when a test says so. Timers run in the order of their time, and promises settle between them.

import type { Clock, Timer } from "../../src/core/clock.ts";
import { type Millis, millis } from "../../src/core/units.ts";

interface Pending {
  at: number;
  readonly period: number | null;
  readonly callback: () => void;
}

export class FakeClock implements Clock {
  #now = 0;
  readonly #pending = new Set<Pending>();

  now(): Millis {
    return millis(this.#now);
  }

  wall(): number {
    return 1_700_000_000_000 + this.#now;
  }

  after(delay: Millis, callback: () => void): Timer {
    return this.#add({ at: this.#now + delay, period: null, callback });
  }

  every(period: Millis, callback: () => void): Timer {
    return this.#add({ at: this.#now + period, period, callback });
  }

  /** Moves on by `ms`, running what falls due, and lets promises settle before and after each timer. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (let next = this.#next(end); next !== null; next = this.#next(end)) {
      this.#now = Math.max(this.#now, next.at);
      if (next.period === null) this.#pending.delete(next);
      else next.at += next.period;
      next.callback();
      await settle();
    }
    this.#now = end;
  }

  #add(pending: Pending): Timer {
    this.#pending.add(pending);
    return { cancel: () => this.#pending.delete(pending) };
  }

  #next(end: number): Pending | null {
    let first: Pending | null = null;
    for (const pending of this.#pending) {
      if (pending.at <= end && (first === null || pending.at < first.at)) first = pending;
    }
    return first;
  }
}

/** Lets everything run that waits for settled promises only. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
