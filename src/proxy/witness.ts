// What a change of leader does to clients and server connections, told to whoever keeps the record of it (metrics/). One witness per
// cluster. Nothing here is called for a message; the one question that is asked per transaction is a boolean.

import type { ErrorCode } from "../core/errors.ts";

export interface Witness {
  /** Whether the next answer to a write is to be told by `answered`. */
  readonly awaitsAnswer: boolean;
  /** A client that wants the leader waits, because there is none that takes writes. Said again while it waits, it is the same wait. */
  held(seeker: object): void;
  /** Whoever waited for a server has got one. Not only those who were held. */
  granted(seeker: object): void;
  /** It waits no longer and has got nothing: refused, timed out, gone. */
  gaveUp(seeker: object): void;
  /** Server connections were cut, because their member leads no longer or its leadership is another one. */
  cut(connections: number): void;
  /** A client was given this error; `broken_off`: its connection was closed in the middle of an answer. */
  gave(error: ErrorCode | "broken_off"): void;
  /** What was in flight goes to another server, and its client sees nothing of it. */
  reran(): void;
  /** A transaction on the leader was answered. */
  answered(): void;
}

/** For who keeps no record. */
export const noWitness: Witness = {
  awaitsAnswer: false,
  held: () => {},
  granted: () => {},
  gaveUp: () => {},
  cut: () => {},
  gave: () => {},
  reran: () => {},
  answered: () => {},
};
