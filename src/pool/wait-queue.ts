// First come, first served, bounded, and any waiter can leave at once from any place.

import { ProxyError } from "../core/errors.ts";

export class WaitQueue<Waiter> {
  readonly #waiters = new Set<Waiter>();
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

  /** Adds at the end. Returns the error for the waiter where the queue is full. */
  add(waiter: Waiter): ProxyError | null {
    if (this.#waiters.size >= this.#max) {
      return new ProxyError("wait_queue_full", "sorry, too many clients are waiting already", {
        detail: `${this.#waiters.size} clients wait for a server.`,
        hint: "Raise wait_queue_max or default_pool_size, or lower the load.",
      });
    }
    this.#waiters.add(waiter);
    return null;
  }

  remove(waiter: Waiter): boolean {
    return this.#waiters.delete(waiter);
  }

  /** Takes the oldest one; null when there is none. */
  shift(): Waiter | null {
    for (const waiter of this.#waiters) {
      this.#waiters.delete(waiter);
      return waiter;
    }
    return null;
  }

  /** Takes all, oldest first. */
  drain(): Waiter[] {
    const all = [...this.#waiters];
    this.#waiters.clear();
    return all;
  }
}
