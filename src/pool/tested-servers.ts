// The servers that answer a request of our own, each within a deadline: a reset, a check, a first query. What they are asked is
// their pool's business.

import type { Clock } from "../core/clock.ts";
import { RESET_TIMEOUT_MS } from "../core/limits.ts";
import { millis } from "../core/units.ts";
import { TransactionStatus } from "../protocol/constants.ts";
import type { OwnResult } from "./own-answer.ts";
import type { Server } from "./server.ts";

export class TestedServers {
  readonly #clock: Clock;
  readonly #servers = new Set<Server>();
  /** Those of them that are asked whether they still answer, for a client that waits. */
  readonly #checked = new Set<Server>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#servers.size;
  }

  all(): Server[] {
    return [...this.#servers];
  }

  /** Keeps an idle server until no cancel request can arrive at it any more; `then` is not called where it closes before. */
  awaitCancels(server: Server, then: () => void): void {
    this.#servers.add(server);
    server.cancels.whenLanded(() => {
      if (this.#servers.delete(server)) then();
    });
  }

  /** Servers that are checked now. */
  get checks(): number {
    return this.#checked.size;
  }

  /** Asks an idle server whether it still answers; then as `ask`. */
  check(server: Server, sql: string, answered: (answers: boolean) => void): void {
    this.#checked.add(server);
    this.ask(server, sql, "server_check_query", (result) => {
      this.#checked.delete(server);
      answered(result.ok && server.status === TransactionStatus.Idle);
    });
  }

  /** It is closed. */
  forget(server: Server): void {
    this.#servers.delete(server);
    this.#checked.delete(server);
  }

  /**
   * active or idle → tested → idle. Calls `answered` then, and never where the server closes before; one that takes too long is
   * closed. `what` names the request in the log.
   */
  ask(server: Server, sql: string, what: string, answered: (result: OwnResult) => void): void {
    this.#servers.add(server);
    const deadline = this.#clock.after(millis(RESET_TIMEOUT_MS), () =>
      server.close({ kind: "ours", reason: `${what} took too long` }),
    );
    server.run(
      sql,
      () => this.#clock.now(),
      (result) => {
        deadline.cancel();
        this.#servers.delete(server);
        if (server.state !== "closed") answered(result);
      },
    );
  }
}
