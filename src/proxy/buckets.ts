// How much somebody has done lately, by where they come from: one leaky bucket each, of which only so many are remembered. Each holds
// `capacity`, and that much runs out in `periodMs`; one that has run dry is as one that never was.

import type { Clock } from "../core/clock.ts";
import { ORIGINS_MAX } from "../core/limits.ts";

interface Bucket {
  level: number;
  at: number;
}

export class Buckets {
  readonly #clock: Clock;
  readonly #buckets = new Map<string, Bucket>();
  #capacity: number;
  readonly #periodMs: number;

  /** `capacity` 0: nothing is counted, and nobody's is full. */
  constructor(clock: Clock, capacity: number, periodMs: number) {
    this.#clock = clock;
    this.#capacity = capacity;
    this.#periodMs = periodMs;
  }

  /** Takes a new capacity; what was counted stays. */
  resize(capacity: number): void {
    this.#capacity = capacity;
  }

  /** How many are remembered. */
  get size(): number {
    return this.#buckets.size;
  }

  /** What is in the bucket of `origin`. */
  level(origin: string): number {
    const bucket = this.#buckets.get(origin);
    return bucket === undefined ? 0 : this.#levelOf(bucket);
  }

  full(origin: string): boolean {
    return this.#capacity > 0 && this.level(origin) > this.#capacity - 1;
  }

  /** Puts one in, as far as there is room. Returns what is in it now. */
  add(origin: string): number {
    if (this.#capacity === 0) return 0;
    const bucket = this.#buckets.get(origin) ?? { level: 0, at: 0 };
    bucket.level = Math.min(this.#levelOf(bucket) + 1, this.#capacity);
    bucket.at = this.#clock.now();
    // Whoever has been still for longest is forgotten first.
    this.#buckets.delete(origin);
    this.#buckets.set(origin, bucket);
    this.#forget();
    return bucket.level;
  }

  #levelOf({ level, at }: Bucket): number {
    const leaked = ((this.#clock.now() - at) * this.#capacity) / this.#periodMs;
    return Math.max(0, level - leaked);
  }

  #forget(): void {
    for (const [origin, bucket] of this.#buckets) {
      if (this.#buckets.size <= ORIGINS_MAX && this.#levelOf(bucket) > 0) return;
      this.#buckets.delete(origin);
    }
  }
}
