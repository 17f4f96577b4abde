// The servers of a pool that nobody uses, in the order in which they became idle: which is lent next, and which is the oldest.

import type { Server } from "./server.ts";

export class IdleServers {
  /** Oldest first. */
  readonly #servers: Server[] = [];

  get size(): number {
    return this.#servers.length;
  }

  /** The one that was unused longest. */
  get oldest(): Server | undefined {
    return this.#servers[0];
  }

  /** The one to lend next, in turns (`server_round_robin`) or the one that was used last. */
  next(inTurns: boolean): Server | undefined {
    return inTurns ? this.#servers[0] : this.#servers.at(-1);
  }

  has(server: Server): boolean {
    return this.#servers.includes(server);
  }

  /** As they are now. */
  all(): Server[] {
    return [...this.#servers];
  }

  add(server: Server): void {
    this.#servers.push(server);
  }

  /** Nothing where it is not among them. */
  remove(server: Server): void {
    if (server === this.#servers.at(-1)) {
      this.#servers.pop();
      return;
    }
    const at = this.#servers.indexOf(server);
    if (at >= 0) this.#servers.splice(at, 1);
  }
}
