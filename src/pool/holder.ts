// Whoever a server is lent to, as the server sees it.

import type { ErrorFields } from "../protocol/messages.ts";
import type { LossCause } from "./loss.ts";

/** Who keeps account of a session's settings. */
export interface SessionListener {
  /** The server changed a reported parameter. Returns whether the client is told. */
  parameterChanged(name: string, value: string): boolean;
  /** A command was executed whose tag tells of a change to the session: SET, LOAD, DISCARD ALL, … */
  commandDone(tag: string): void;
  /** The server refused something of the client's. Returns what the client is told instead; null for the server's own words. */
  failed(fields: ErrorFields): Buffer | null;
  /** A request of our own changed one. Returns whether the client is told. */
  parameterRestored(name: string, value: string): boolean;
}

/** Who holds the lease. All calls are synchronous, in the order of the stream. */
export interface ServerHolder {
  /** Bytes of replies, valid only during the call unless flushed. */
  reply(buffer: Buffer, start: number, end: number): void;
  readonly session: SessionListener;
  /** A ReadyForQuery inside a transaction came: true where the holder allows none, and has ended. */
  refusesTransaction(): boolean;
  /** Whether nothing of all replies so far waits to be sent on: their memory is free. */
  readonly allSent: boolean;
  /** A ReadyForQuery with this status was handed over. The holder may release the server within this call. */
  ready(status: number): void;
  /** A request of our own (settings) failed: the server is not what the client expects. */
  ownRequestFailed(fields: ErrorFields): void;
  /** Everything that one read brought was handed over. */
  flushReplies(): void;
  /** The server takes bytes again. */
  serverDrained(): void;
  /** The server is gone; the lease with it. */
  lost(cause: LossCause): void;
}
