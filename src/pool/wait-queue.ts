// First come, first served, bounded, and any waiter can leave at once from any place.

import { ProxyError } from "../core/errors.ts";
import type { Millis } from "../core/units.ts";

export class WaitQueue<Waiter> {
  /** Since when each waits. */
  readonly #waiters = new Map<Waiter, Millis>();
  #max: number;

  /** `max`: waiters at once (setting `wait_queue_max`). */
  constructor(max: number) {
    this.#max = max;
  }

  /** Whoever waits already stays. */
  resize(max: number): void {
    this.#max = max;
  }

  get size(): number {
    return this.#waiters.size;
  }

  /** Since when the oldest one waits; null when there is none. */
  get oldest(): Millis | null {
    if (this.#waiters.size === 0) return null;
    for (const since of this.#waiters.values()) return since;
    return null;
  }

  /** How many wait since `time` or longer, as far as `max`; and since when the first of the others does, null for none. */
  overdue(time: number, max: number): { readonly count: number; readonly next: Millis | null } {
    let count = 0;
    for (const since of this.#waiters.values()) {
      if (since > time) return { count, next: since };
      count += 1;
      if (count >= max) break;
    }
    return { count, next: null };
  }

  /** Adds at the end. Returns the error for the waiter where the queue is full. */
  add(waiter: Waiter, now: Millis): ProxyError | null {
    if (this.#waiters.size >= this.#max) {
      return new ProxyError("wait_queue_full", "sorry, too many clients are waiting already", {
        detail: `${this.#waiters.size} clients wait for a server.`,
        hint: "Raise wait_queue_max or default_pool_size, or lower the load.",
      });
    }
    this.#waiters.set(waiter, now);
    return null;
  }

  remove(waiter: Waiter): boolean {
    return this.#waiters.delete(waiter);
  }

  /** Takes the oldest one; null when there is none. */
  shift(): Waiter | null {
    if (this.#waiters.size === 0) return null;
    for (const waiter of this.#waiters.keys()) {
      this.#waiters.delete(waiter);
      return waiter;
    }
    return null;
  }

  /** Takes all, oldest first. */
  drain(): Waiter[] {
    const all = [...this.#waiters.keys()];
    this.#waiters.clear();
    return all;
  }
}
