// Connections in a place that has room for so many, by where they come from: when it is full, the oldest of those who have most is
// the one to make room, so that nobody can fill it for others. Entering, leaving and choosing cost the same however many there are.

/** `Guest`: what is asked to go. One may be here once. */
export class Crowd<Guest> {
  /** By origin, the oldest first. */
  readonly #origins = new Map<string, Set<Guest>>();
  /** Origins by how many they have here, in the order in which they came to have so many. */
  readonly #ranks = new Map<number, Set<string>>();
  #most = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  countOf(origin: string): number {
    return this.#origins.get(origin)?.size ?? 0;
  }

  enter(origin: string, guest: Guest): void {
    const guests = this.#origins.get(origin) ?? new Set();
    if (guests.size === 0) this.#origins.set(origin, guests);
    guests.add(guest);
    this.#size += 1;
    this.#rank(origin, guests.size - 1, guests.size);
    if (guests.size > this.#most) this.#most = guests.size;
  }

  /** Does nothing where it is not here. */
  leave(origin: string, guest: Guest): void {
    const guests = this.#origins.get(origin);
    if (guests?.delete(guest) !== true) return;
    this.#size -= 1;
    if (guests.size === 0) this.#origins.delete(origin);
    this.#rank(origin, guests.size + 1, guests.size);
    // Whoever left had been one less: nobody has fewer gaps than that.
    if (!this.#ranks.has(this.#most)) this.#most -= 1;
  }

  /** The origin that has most here; null where nobody is. */
  get largest(): string | null {
    const [origin] = this.#ranks.get(this.#most) ?? [];
    return origin ?? null;
  }

  /** The one of `origin` that came first. */
  eldest(origin: string): Guest | null {
    const [guest] = this.#origins.get(origin) ?? [];
    return guest ?? null;
  }

  #rank(origin: string, before: number, after: number): void {
    const old = this.#ranks.get(before);
    old?.delete(origin);
    if (old?.size === 0) this.#ranks.delete(before);
    if (after === 0) return;
    const rank = this.#ranks.get(after) ?? new Set();
    if (rank.size === 0) this.#ranks.set(after, rank);
    rank.add(origin);
  }
}
