// Statements that are refused because of what they would leave in their session (`on_session_state: refuse`). In such a statement's
// place the server gets one that fails, so that everything that follows from an error follows: the transaction fails, a batch is
// skipped up to its Sync. The client hears our words in place of the server's.

import { ProxyError } from "../core/errors.ts";
import { Frontend } from "../protocol/constants.ts";
import { type ErrorFields, errorResponse, query } from "../protocol/messages.ts";
import { MessageWriter } from "../protocol/writer.ts";
import type { Pin } from "../routing/session-effects.ts";

/** Stands in the server's log beside the error. */
const mark = "pgsteer refused session state";

export class Refusals {
  readonly #count: (pin: Pin) => void;
  readonly #pending: Pin[] = [];

  /** `count` hears of each one that the client is told. */
  constructor(count: (pin: Pin) => void) {
    this.#count = count;
  }

  /** What the server gets in place of a Query, or of a Parse to `name`. */
  inPlaceOf(pin: Pin, name: string | null): Buffer {
    // The place in the list leads back to what was refused.
    const sql = `SELECT '${mark}: ${pin.cause} ${this.#pending.push(pin) - 1}'::pg_catalog.int4`;
    if (name === null) return query(sql);
    return new MessageWriter().message(Frontend.Parse).string(name, "latin1").string(sql).byte(0).byte(0).finish();
  }

  /** Nothing is owed any more. */
  clear(): void {
    if (this.#pending.length > 0) this.#pending.length = 0;
  }

  /** What the client hears in place of the server's error; null for the server's own words. */
  wordsFor(fields: ErrorFields): Buffer | null {
    if (this.#pending.length === 0) return null;
    const place = fields.message.split(`${mark}: `)[1]?.match(/^\w+ (\d+)/)?.[1];
    const pin = place === undefined ? undefined : this.#pending[Number(place)];
    if (pin === undefined) return null;
    this.#count(pin);
    const error = new ProxyError("session_state_refused", "session state is not allowed in transaction pooling", {
      detail: `The statement would leave something in its session: ${pin.object}.`,
      hint: "Connect to a listener with pool_mode session, or have on_session_state set to pin.",
    });
    return errorResponse(error).finish();
  }
}
