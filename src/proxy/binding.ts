// Whether a client in transaction pooling has to stay with its server, and why: what it left in the session cannot follow it.

export class Binding {
  readonly #count: (cause: string) => void;
  readonly #causes = new Set<string>();

  /** `count` hears each cause once, when it arises. */
  constructor(count: (cause: string) => void) {
    this.#count = count;
  }

  get bound(): boolean {
    return this.#causes.size > 0;
  }

  bind(cause: string): void {
    if (this.#causes.has(cause)) return;
    this.#causes.add(cause);
    this.#count(cause);
  }

  /** DISCARD ALL: nothing is left. */
  clear(): void {
    this.#causes.clear();
  }
}
