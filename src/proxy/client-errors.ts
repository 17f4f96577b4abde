// What clients are told about their waits, settings and mode: the words of errors that need no more than a sentence.

import { ProxyError } from "../core/errors.ts";

/** `why`: a sentence. */
export const waitedTooLong = (why: string): ProxyError =>
  new ProxyError("query_wait_timeout", "query_wait_timeout", {
    detail: why,
    hint: "The statement was not executed.",
  });

export const waitCanceled = (): ProxyError =>
  new ProxyError("query_canceled", "canceling statement due to user request");

/** What was sent behind it ran with other settings, or not: nobody knows. */
export const settingsNotRestored = (message: string): ProxyError =>
  new ProxyError("outcome_unknown", "a statement was sent to a server with other settings", {
    detail: `Session settings could not be restored: ${message}.`,
  });

export const settingsLost = (): ProxyError =>
  new ProxyError("terminated", "terminating connection because its settings were lost");

/** In PgBouncer's words and with its SQLSTATE: drivers and applications know them. */
export const transactionRefused = (): ProxyError =>
  new ProxyError("protocol_violation", "transaction blocks not allowed in statement pooling mode");
