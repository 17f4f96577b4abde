// The bounds of what a client may send after login, by message type (PostgreSQL's SocketBackend()).

import { MESSAGE_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX } from "../core/limits.ts";
import { Frontend } from "../protocol/constants.ts";

/** Longest length word by type byte; 0 for a type that no client sends. */
const lengthMax = new Int32Array(256);
for (const type of [
  Frontend.Query,
  Frontend.FunctionCall,
  Frontend.Parse,
  Frontend.Bind,
  Frontend.CopyData,
  Frontend.CopyFail,
]) {
  lengthMax[type] = MESSAGE_BYTES_MAX;
}
for (const type of [
  Frontend.Close,
  Frontend.Describe,
  Frontend.Execute,
  Frontend.Sync,
  Frontend.Terminate,
  Frontend.CopyDone,
]) {
  lengthMax[type] = SMALL_MESSAGE_BYTES_MAX;
}

// PostgreSQL answers a Flush with a body by an error, and skips everything up to the next Sync: no ledger could follow that.
lengthMax[Frontend.Flush] = 4;

/** Null when a message of this type may have this length, otherwise what is wrong, in PostgreSQL's words. */
export function refuseMessage(type: number, length: number): string | null {
  const max = lengthMax[type] as number;
  if (length <= max) return null;
  return max === 0 ? `invalid frontend message type ${type}` : "invalid message length";
}
