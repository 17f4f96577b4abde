// What the data plane counts as it goes: plain numbers, read by metrics. One per listener.

import type { ErrorCode } from "../core/errors.ts";

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
  /** Errors that we gave, by code. */
  readonly errors = new Map<ErrorCode, number>();
  /** What clients left in their sessions that cannot follow them: how often it pinned them, was refused, or ignored, by cause. */
  readonly sessionState = {
    pinned: new Map<string, number>(),
    refused: new Map<string, number>(),
    ignored: new Map<string, number>(),
  } as const;

  countError(code: ErrorCode): void {
    this.errors.set(code, (this.errors.get(code) ?? 0) + 1);
  }

  countSessionState(cause: string, outcome: keyof Traffic["sessionState"]): void {
    if (outcome === "refused") this.countError("session_state_refused");
    const counts = this.sessionState[outcome];
    counts.set(cause, (counts.get(cause) ?? 0) + 1);
  }
}
