// How long a client may take: PgBouncer's query_timeout, transaction_timeout, idle_transaction_timeout and client_idle_timeout
// (https://www.pgbouncer.org/config.html). Two stamps per client, taken only where one of the four is set; one sweep over all
// clients compares them, so no client has a timer.
//
// Whoever is too late is disconnected, as by PgBouncer, in transaction pooling too. For the idle and transaction timeouts
// PostgreSQL itself ends the session. A query could be cancelled and its session live on; but that is what statement_timeout does,
// and better, being told the outcome: query_timeout is the guard behind it, for a server or a network that does not answer any
// more. There a session could only live on without knowing whether its statement took effect.

import type { Clock } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import type { Millis } from "../core/units.ts";

/** In ms; 0: never. */
export interface ClientTimeouts {
  readonly queryTimeoutMs: number;
  readonly transactionTimeoutMs: number;
  readonly idleTransactionTimeoutMs: number;
  readonly clientIdleTimeoutMs: number;
}

/** What a client that is not waiting for a server is doing; `transaction`: nothing, inside of one. */
export type ClientPhase = "idle" | "transaction" | "query";

export class ClientTimes {
  readonly #clock: Clock;
  readonly #limits: ClientTimeouts;
  /** When either side last spoke: the client to its server, or the server with a ReadyForQuery. */
  #turnAt: Millis;
  /** When the present transaction, or statement outside of one, began; null between two. */
  #beganAt: Millis | null = null;

  private constructor(clock: Clock, limits: ClientTimeouts) {
    this.#clock = clock;
    this.#limits = limits;
    this.#turnAt = clock.now();
  }

  /** Null where no limit is set: then nothing is measured. */
  static of(clock: Clock, limits: ClientTimeouts): ClientTimes | null {
    const { queryTimeoutMs, transactionTimeoutMs, idleTransactionTimeoutMs, clientIdleTimeoutMs } = limits;
    const all = [queryTimeoutMs, transactionTimeoutMs, idleTransactionTimeoutMs, clientIdleTimeoutMs];
    return all.some((limit) => limit > 0) ? new ClientTimes(clock, limits) : null;
  }

  /** The client sends something to its server, or was given one for what it has sent. */
  asked(): void {
    this.#turnAt = this.#clock.now();
    this.#beganAt ??= this.#turnAt;
  }

  /** ReadyForQuery: `open` inside a transaction, `owed` with more requests under way. */
  answered(open: boolean, owed: boolean): void {
    this.#turnAt = this.#clock.now();
    if (!open) this.#beganAt = owed ? this.#turnAt : null;
  }

  /** Between two transactions from now on. */
  rested(): void {
    this.answered(false, false);
  }

  /** Why a client in this phase has to go; null where it may stay. */
  overdue(now: Millis, phase: ClientPhase | null): ProxyError | null {
    if (phase === null) return null;
    const { queryTimeoutMs, transactionTimeoutMs, idleTransactionTimeoutMs, clientIdleTimeoutMs } = this.#limits;
    const since = now - this.#turnAt;
    const late = (limit: number): boolean => limit > 0 && since >= limit;
    if (phase === "idle") {
      if (!late(clientIdleTimeoutMs)) return null;
      return new ProxyError("terminated", "terminating connection due to client_idle_timeout");
    }
    if (phase === "query" && late(queryTimeoutMs)) {
      return new ProxyError("query_timeout", "terminating connection due to query_timeout", {
        detail: "The statement was told to stop; whether it took effect is unknown.",
      });
    }
    if (phase === "transaction" && late(idleTransactionTimeoutMs)) {
      return new ProxyError("idle_transaction_timeout", "terminating connection due to idle_transaction_timeout");
    }
    const transaction = this.#beganAt === null ? 0 : now - this.#beganAt;
    if (transactionTimeoutMs === 0 || transaction < transactionTimeoutMs) return null;
    return new ProxyError("transaction_timeout", "terminating connection due to transaction_timeout");
  }
}
