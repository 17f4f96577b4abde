// Why a server connection ended, and what that says about its member.

import type { ErrorFields } from "../protocol/messages.ts";

/** Why a server connection ended. */
export type LossCause =
  /** `ours`: closed in good order; `fenced`: cut by us because the member was deposed, or cannot be reached; `closed`: the connection broke;
   * `violation`: the server does not keep to the protocol. */
  | { readonly kind: "ours" | "fenced" | "closed" | "violation"; readonly reason: string }
  /** The server said so: its last words, decoded and as they came. */
  | { readonly kind: "fatal"; readonly reason: string; readonly fields: ErrorFields; readonly message: Buffer };

/** SQLSTATEs of a server that was stopped, crashed or is starting. */
const shutdownStates = new Set(["57P01", "57P02", "57P03"]);

/** Whether an error says that the server as a whole does not serve now. */
export const isShutdown = (fields: ErrorFields): boolean => shutdownStates.has(fields.sqlstate);

/** Whether a loss says something about the member, not only about this connection. */
export function memberIsGoing(cause: LossCause): boolean {
  return cause.kind === "closed" || (cause.kind === "fatal" && isShutdown(cause.fields));
}

/** Whether the server was told to end: all of it, or this session alone. The words are the same. */
export const byAdministrator = (cause: LossCause): boolean =>
  cause.kind === "fatal" && cause.fields.sqlstate === "57P01";

/** The loss as an error, for those who wait for an answer. */
export function lossFields(cause: LossCause): ErrorFields {
  if (cause.kind === "fatal") return cause.fields;
  return { severity: "FATAL", sqlstate: "08006", message: cause.reason, detail: null, hint: null };
}

/** What becomes of a server that comes back to a pool which is fenced. */
export const deposed: LossCause = { kind: "fenced", reason: "the member was deposed" };
