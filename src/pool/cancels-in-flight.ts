// Cancel requests on their way to one server. PostgreSQL cancels whatever the session runs when the request arrives; until then the
// server may run nothing but what the request is meant for.

export class CancelsInFlight {
  #count = 0;
  #lost = false;
  #waiting: (() => void)[] = [];

  /** Whether nothing can arrive any more. */
  get none(): boolean {
    return this.#count === 0 && !this.#lost;
  }

  /** Whether one may arrive any moment. */
  get underWay(): boolean {
    return this.#count > 0;
  }

  /** One was given up and may arrive at any time: never again can the server be trusted with another's statement. */
  get lost(): boolean {
    return this.#lost;
  }

  sent(): void {
    this.#count += 1;
  }

  /** It has arrived, or never will; `certain` is false where nobody knows. */
  landed(certain: boolean): void {
    this.#count -= 1;
    if (!certain) this.#lost = true;
    if (this.#count > 0) return;
    for (const then of this.#waiting.splice(0)) then();
  }

  /** Calls `then` when none is on its way: at once, or later. */
  whenLanded(then: () => void): void {
    if (this.#count === 0) then();
    else this.#waiting.push(then);
  }
}
