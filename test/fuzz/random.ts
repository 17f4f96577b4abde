// Random choices that a seed repeats: the same seed, the same conversation, whatever the clock and the network do.

export class Random {
  #state: number;

  /** `stream`: one of many independent rows of choices under the same seed. */
  constructor(seed: number, stream = 0) {
    this.#state = (Math.imul(seed | 0, 0x9e37_79b1) ^ Math.imul(stream + 1, 0x85eb_ca6b)) >>> 0;
    // Neighbouring seeds begin alike; a few steps drive them apart.
    for (let step = 0; step < 4; step += 1) this.uint32();
  }

  uint32(): number {
    this.#state = (this.#state + 0x6d2b_79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** From 0 to `count - 1`. */
  below(count: number): number {
    return Math.floor((this.uint32() / 0x1_0000_0000) * count);
  }

  /** From `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  chance(probability: number): boolean {
    return this.uint32() / 0x1_0000_0000 < probability;
  }

  pick<T>(list: readonly T[]): T {
    const index = this.below(list.length);
    for (const picked of list.slice(index, index + 1)) return picked;
    throw new Error("nothing to pick from");
  }
}
