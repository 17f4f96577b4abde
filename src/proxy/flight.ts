// What a client has sent to its server since nothing was owed: kept, within a bound, so that a failure can say whether a COMMIT
// or a write was in flight, and so that a read can be run again. References to what was received, not copies.

import { FLIGHT_BYTES_MAX } from "../core/limits.ts";
import { Frontend, HEADER_BYTES } from "../protocol/constants.ts";
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

/** What the complete messages of a flight say. */
export interface FlightTexts {
  /** Texts of its Query and Parse messages. */
  readonly texts: readonly string[];
  /** Executes something that was parsed or bound before: its text is not here. */
  readonly unknown: boolean;
}

/** Reads a flight. A last message that is not complete counts with what there is of it. */
export function flightTexts(flight: Buffer): FlightTexts {
  const texts: string[] = [];
  let parsed = false;
  let unknown = false;
  for (let at = 0; at < flight.length; ) {
    const type = flight[at];
    const next = at + HEADER_BYTES <= flight.length ? at + 1 + flight.readInt32BE(at + 1) : flight.length;
    if (type === Frontend.Query || type === Frontend.Parse)
      texts.push(flight.toString("latin1", at + HEADER_BYTES, next));
    if (type === Frontend.Parse) parsed = true;
    const runs = type === Frontend.Bind || type === Frontend.Execute || type === Frontend.FunctionCall;
    if (runs && !parsed) unknown = true;
    at = next;
  }
  return { texts, unknown };
}

/** The text of a flight that is exactly one simple query; null for anything else. */
export function loneQuery(flight: Buffer): string | null {
  if (flight.length < 6 || flight[0] !== Frontend.Query || flight.readInt32BE(1) + 1 !== flight.length) return null;
  return flight.toString("latin1", 5, flight.length - 1);
}
