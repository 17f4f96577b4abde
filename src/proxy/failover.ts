// What a client sees when its server is gone, decided from what is known and nothing else: never a retry of something that may
// have happened, never an outcome that is a guess. A pure function; client.ts carries the answer out.

import { inFailedTransaction, ProxyError } from "../core/errors.ts";
import { RESEND_MAX } from "../core/limits.ts";
import { type LossCause, memberIsGoing } from "../pool/loss.ts";
import { TransactionStatus } from "../protocol/constants.ts";
import type { Exchange } from "../protocol/exchange.ts";
import { errorResponse, readyForQuery } from "../protocol/messages.ts";
import type { MessageWriter } from "../protocol/writer.ts";
import { endsTransaction, mayCommit, mayEnd, opensTransaction } from "../routing/intent.ts";
import { flightTexts, loneQuery } from "./flight.ts";

/** What is known at the moment of the loss. */
export interface LossView {
  readonly cause: LossCause;
  readonly member: string;
  /** The lease outlives transactions: session mode, or pinned. */
  readonly keepsServer: boolean;
  /** The server was a replica: nothing that it ran can have written. */
  readonly replica: boolean;
  /** Transaction status at the last ReadyForQuery. */
  readonly status: number;
  /** Nothing was owed. */
  readonly quiet: boolean;
  /** Part of a reply's message was forwarded: nothing can follow it. */
  readonly midReply: boolean;
  /** Replies to what is in flight were forwarded. */
  readonly replied: boolean;
  /** The client stands in the middle of a message. */
  readonly midRequest: boolean;
  /** What is in flight; null when it was too much to keep. */
  readonly flight: Buffer | null;
  /** The text of a statement that the client prepared earlier, by its name; null where there is none. */
  readonly textOf: (name: string) => string | null;
  /** How often this was sent again already. */
  readonly resends: number;
  /** Where the server was told to end (57P01): whether its member took connections afterwards. */
  readonly memberLives: boolean;
}

export type Aftermath =
  /** Unseen: what is in flight goes to another server. */
  | { readonly kind: "rerun"; readonly flight: Buffer }
  /** The transaction has failed, as the client knows or wants: what is in flight is answered in the server's place. */
  | { readonly kind: "stand_in"; readonly flight: Buffer }
  /** The statement fails, the session lives on, outside a transaction. */
  | { readonly kind: "fail_statement"; readonly error: ProxyError }
  /** The transaction fails, the session lives on; the error is given now or to the next statement. */
  | { readonly kind: "fail_transaction"; readonly error: ProxyError }
  /** Last words, then the end. */
  | { readonly kind: "close"; readonly error: ProxyError }
  /** The server's own last words, as they came, then the end. */
  | { readonly kind: "close_with"; readonly message: Buffer }
  /** The end, without a word, because none would be understood. */
  | { readonly kind: "break" };

/**
 * The table of what clients see. A server's last words (FATAL) that are about its session alone are passed on as they are, whatever
 * the client was doing: a timeout of PostgreSQL's own, or an administrator's pg_terminate_backend(). The latter says 57P01, as
 * each session of a server that shuts down does; what tells them apart is whether the member takes connections afterwards.
 */
export function aftermath(view: LossView): Aftermath {
  if (view.midReply) return { kind: "break" };
  const { cause } = view;
  if (cause.kind === "fatal" && (view.memberLives || !memberIsGoing(cause)))
    return { kind: "close_with", message: cause.message };
  if (view.quiet) return view.status === TransactionStatus.Idle ? terminated(view) : transactionLost(view);
  if (view.status !== TransactionStatus.Idle) return inTransactionLost(view);
  return view.replica ? readLost(view) : writeLost(view);
}

/** With something in flight inside a transaction, failed or not. */
function inTransactionLost(view: LossView): Aftermath {
  const { flight } = view;
  if (flight === null) return outcomeUnknown(view);
  const lone = loneQuery(flight);
  const failed = view.status === TransactionStatus.Failed;
  if (!view.replied && lone !== null && endsTransaction(lone) && (failed || !mayCommit(lone))) {
    // Rolled back either way.
    return view.keepsServer ? terminated(view) : { kind: "stand_in", flight };
  }
  const { texts, unknown } = flightTexts(flight, view.textOf);
  // What ends the transaction may be followed by what is outside of it.
  if (unknown || texts.some(mayEnd)) return outcomeUnknown(view);
  return transactionLost(view);
}

function readLost(view: LossView): Aftermath {
  if (view.keepsServer) return terminated(view);
  if (view.flight !== null && canRerun(view)) return { kind: "rerun", flight: view.flight };
  return {
    kind: "fail_statement",
    error: new ProxyError("read_interrupted", "connection to the server was lost while it answered", {
      detail: `${where(view)} Nothing was written.`,
      hint: "Run the statement again.",
    }),
  };
}

function writeLost(view: LossView): Aftermath {
  // Only requests of our own were under way.
  if (view.flight?.length === 0 && !view.keepsServer && canRerun(view)) return { kind: "rerun", flight: view.flight };
  const text = view.flight === null ? null : loneQuery(view.flight);
  if (view.flight === null || text === null || opensTransaction(text) === null) return outcomeUnknown(view);
  // Opening a transaction changes nothing.
  if (view.keepsServer) return terminated(view);
  return canRerun(view) ? { kind: "rerun", flight: view.flight } : outcomeUnknown(view);
}

const canRerun = (view: LossView): boolean => !view.replied && !view.midRequest && view.resends < RESEND_MAX;

function transactionLost(view: LossView): Aftermath {
  if (view.keepsServer) return terminated(view);
  return {
    kind: "fail_transaction",
    error: new ProxyError("leader_changed", "the transaction was rolled back because its server is gone", {
      detail: where(view),
      hint: "Run the transaction again.",
    }),
  };
}

function terminated(view: LossView): Aftermath {
  return {
    kind: "close",
    error: new ProxyError("terminated", "terminating connection because its server is gone", {
      detail: where(view),
      hint: "Connect again: the new connection leads to the present leader.",
    }),
  };
}

function outcomeUnknown(view: LossView): Aftermath {
  return {
    kind: "close",
    error: new ProxyError("outcome_unknown", "connection to the server was lost while a statement was in flight", {
      detail: `${where(view)} Whether the statement took effect is unknown.`,
      hint: "Connect again and look before repeating it.",
    }),
  };
}

const where = (view: LossView): string => `Member "${view.member}": ${view.cause.reason}.`;

/**
 * Answers, into `writer`, all that `exchange` still owed: `error` once, 25P02 for what follows in a transaction, a ReadyForQuery
 * wherever one was due. Says whether the client has been told, and whether it stands inside a batch whose Sync is still to come.
 */
export function answerOwed(
  exchange: Exchange,
  error: ProxyError,
  inTransaction: boolean,
  writer: MessageWriter,
): { readonly told: boolean; readonly openBatch: boolean } {
  const status = inTransaction ? TransactionStatus.Failed : TransactionStatus.Idle;
  let told = false;
  const { openBatch } = exchange.abandon((hasWork) => {
    if (hasWork || !told) errorResponse(told && inTransaction ? inFailedTransaction() : error, writer);
    told = true;
    readyForQuery(status, writer);
  });
  if (openBatch) errorResponse(told && inTransaction ? inFailedTransaction() : error, writer);
  return { told: told || openBatch, openBatch };
}
