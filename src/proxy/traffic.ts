// What the data plane counts as it goes: plain numbers, read by metrics. One per listener.

import type { ErrorCode } from "../core/errors.ts";
import type { Target } from "../routing/target.ts";
import { noWitness, type Witness } from "./witness.ts";

export class Traffic {
  clientsAccepted = 0;
  /** Connections that became clients, and those that were refused before. */
  logins = 0;
  loginFailures = 0;
  /** Transactions (or statements outside of one) that ended with a release or, in session mode, in state idle. */
  transactions = 0;
  /** Waits for a server that took place, and their total, ms. */
  waits = 0;
  waitedMs = 0;
  /** What was in flight and was sent to another server, unseen by the client. */
  reruns = 0;
  /** Transactions that were lost with their server and answered in its place. */
  failedTransactions = 0;
  cancels = 0;
  /** Of these, those that were beyond cancels_per_second. */
  cancelsLimited = 0;
  /** Errors that we gave, by code. */
  readonly errors = new Map<ErrorCode, number>();
  /** What clients left in their sessions that cannot follow them: how often it pinned them, was refused, or ignored, by cause. */
  readonly sessionState = {
    pinned: new Map<string, number>(),
    refused: new Map<string, number>(),
    ignored: new Map<string, number>(),
  } as const;
  readonly #witness: Witness;

  /** `witness`: that of the cluster to which the listener leads. */
  constructor(witness: Witness = noWitness) {
    this.#witness = witness;
  }

  /** A transaction on `target` was completed. */
  transacted(target: Target): void {
    this.transactions += 1;
    if (this.#witness.awaitsAnswer && target === "primary") this.#witness.answered();
  }

  /** A wait for a server is over. */
  waited(ms: number): void {
    this.waits += 1;
    this.waitedMs += ms;
  }

  reran(): void {
    this.reruns += 1;
    this.#witness.reran();
  }

  /** A client's connection was closed in the middle of an answer, without a word. */
  brokeOff(): void {
    this.#witness.gave("broken_off");
  }

  countError(code: ErrorCode): void {
    this.#witness.gave(code);
    this.errors.set(code, (this.errors.get(code) ?? 0) + 1);
  }

  countSessionState(cause: string, outcome: keyof Traffic["sessionState"]): void {
    if (outcome === "refused") this.countError("session_state_refused");
    const counts = this.sessionState[outcome];
    counts.set(cause, (counts.get(cause) ?? 0) + 1);
  }
}
