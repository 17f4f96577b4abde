// What a client has sent to its server since nothing was owed: kept, within a bound, so that a failure can say whether a COMMIT
// or a write was in flight, and so that a read can be run again. References to what was received, not copies.

import { FLIGHT_BYTES_MAX } from "../core/limits.ts";
import { Frontend } from "../protocol/constants.ts";
import { Gather } from "../protocol/gather.ts";

export class Flight {
  readonly #gather = new Gather();
  #overflowed = false;

  add(buffer: Buffer, start: number, end: number): void {
    if (this.#overflowed) return;
    this.#gather.add(buffer, start, end);
    if (this.#gather.length > FLIGHT_BYTES_MAX) {
      this.#overflowed = true;
      this.#gather.clear();
    }
  }

  /** Nothing is owed any more. */
  clear(): void {
    this.#overflowed = false;
    this.#gather.clear();
  }

  /** All of it, and starts anew; null when it was too much to keep. */
  take(): Buffer | null {
    const overflowed = this.#overflowed;
    const bytes = this.#gather.take();
    this.#overflowed = false;
    return overflowed ? null : (bytes ?? Buffer.alloc(0));
  }
}

/** The text of a flight that is exactly one simple query; null for anything else. */
export function loneQuery(flight: Buffer): string | null {
  if (flight.length < 6 || flight[0] !== Frontend.Query || flight.readInt32BE(1) + 1 !== flight.length) return null;
  return flight.toString("latin1", 5, flight.length - 1);
}
