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

  /** Whether what is in flight may say this: only where it came in one piece is it known not to. */
  mayName(words: RegExp): boolean {
    const bytes = this.#overflowed ? null : this.#gather.peek();
    return bytes === null || words.test(bytes.toString("latin1"));
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

/** Reads a flight; `textOf` knows what was prepared before it. A last message that is not complete counts with what there is of it. */
export function flightTexts(flight: Buffer, textOf: (name: string) => string | null): FlightTexts {
  const texts: string[] = [];
  const statements = new Set<string>();
  const portals = new Set<string>();
  let unknown = false;
  for (let at = 0; at + HEADER_BYTES <= flight.length; ) {
    const type = flight[at];
    const body = flight.subarray(at + HEADER_BYTES, at + 1 + flight.readInt32BE(at + 1));
    if (type === Frontend.Query || type === Frontend.Parse) texts.push(body.toString("latin1"));
    const [first, second] = names(body);
    if (type === Frontend.Parse) statements.add(first);
    else if (type === Frontend.Bind && statements.has(second)) portals.add(first);
    else if (type === Frontend.Bind && textOf(second) !== null) {
      texts.push(textOf(second) ?? "");
      portals.add(first);
    } else if (type === Frontend.Bind || (type === Frontend.Execute && !portals.has(first))) unknown = true;
    if (type === Frontend.FunctionCall) unknown = true;
    at += 1 + flight.readInt32BE(at + 1);
  }
  return { texts, unknown };
}

/** The first two strings of a body, as far as they go. */
function names(body: Buffer): readonly [string, string] {
  const first = body.indexOf(0);
  const second = first < 0 ? -1 : body.indexOf(0, first + 1);
  return [
    body.toString("latin1", 0, Math.max(0, first)),
    body.toString("latin1", first + 1, Math.max(first + 1, second)),
  ];
}

/** The text of a flight that is exactly one simple query; null for anything else. */
export function loneQuery(flight: Buffer): string | null {
  if (flight.length < 6 || flight[0] !== Frontend.Query || flight.readInt32BE(1) + 1 !== flight.length) return null;
  return flight.toString("latin1", 5, flight.length - 1);
}
