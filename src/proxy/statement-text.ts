// The text of a Query or Parse message, and how such a message is read.

import { STATEMENT_BYTES_MAX } from "../core/limits.ts";
import { Frontend, HEADER_BYTES } from "../protocol/constants.ts";
import { HEAD, type Verdict, WHOLE } from "../protocol/framer.ts";
import { MalformedBody } from "../protocol/reader.ts";

/** As far as it is quicker to look at each byte than to call the runtime. */
const NEAR_BYTES = 32;

/** How a message with a text is read: as a whole, or where that is too long, its beginning. */
export const textVerdict = (length: number): Verdict => (length <= STATEMENT_BYTES_MAX ? WHOLE : HEAD);

/** Whether `buffer[start, end)` is all of a message of this length. */
export const isComplete = (length: number, start: number, end: number): boolean => end - start === length + 1;

/** Where the text of a Query or Parse begins. Throws MalformedBody. */
export function textStart(type: number, buffer: Buffer, start: number, end: number): number {
  const body = start + HEADER_BYTES;
  return type === Frontend.Query ? body : stringEnd(buffer, body, end) + 1;
}

/** Text of a Query or Parse, byte for byte (latin1). Throws MalformedBody. */
export function statementText(type: number, buffer: Buffer, start: number, end: number): string {
  const from = textStart(type, buffer, start, end);
  if (type === Frontend.Query) return buffer.toString("latin1", from, end - 1);
  const at = buffer.indexOf(0, from);
  return buffer.toString("latin1", from, at < 0 || at > end ? end : at);
}

/** The name that a Parse gives; null for a Query, which gives none. */
export function parsedName(type: number, buffer: Buffer, start: number, end: number): string | null {
  const body = start + HEADER_BYTES;
  return type === Frontend.Query ? null : buffer.toString("latin1", body, stringEnd(buffer, body, end));
}

/** Position of the zero byte that ends the string at `from`. */
export function stringEnd(buffer: Buffer, from: number, end: number): number {
  // Names are short, and mostly empty.
  const near = Math.min(end, from + NEAR_BYTES);
  for (let at = from; at < near; at++) if (buffer[at] === 0) return at;
  const at = buffer.indexOf(0, near);
  if (at < 0 || at >= end) throw new MalformedBody("a name that does not end, or is too long");
  return at;
}
