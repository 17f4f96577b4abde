// The text of a Query or Parse message, and how such a message is read.

import { STATEMENT_BYTES_MAX } from "../core/limits.ts";
import { Frontend, HEADER_BYTES } from "../protocol/constants.ts";
import { HEAD, type Verdict, WHOLE } from "../protocol/framer.ts";
import { MalformedBody } from "../protocol/reader.ts";

/** How a message with a text is read: as a whole, or where that is too long, its beginning. */
export const textVerdict = (length: number): Verdict => (length <= STATEMENT_BYTES_MAX ? WHOLE : HEAD);

/** Whether `buffer[start, end)` is all of a message of this length. */
export const isComplete = (length: number, start: number, end: number): boolean => end - start === length + 1;

/** Text of a Query or Parse, byte for byte (latin1), and the name that a Parse gives it; null for a Query. */
export function statementText(
  type: number,
  buffer: Buffer,
  start: number,
  end: number,
): { readonly name: string | null; readonly text: string } {
  const body = start + HEADER_BYTES;
  if (type === Frontend.Query) return { name: null, text: buffer.toString("latin1", body, end - 1) };
  const nameEnd = stringEnd(buffer, body, end);
  const textEnd = buffer.indexOf(0, nameEnd + 1);
  const last = textEnd < 0 || textEnd > end ? end : textEnd;
  return { name: buffer.toString("latin1", body, nameEnd), text: buffer.toString("latin1", nameEnd + 1, last) };
}

/** Position of the zero byte that ends the string at `from`. */
export function stringEnd(buffer: Buffer, from: number, end: number): number {
  const at = buffer.indexOf(0, from);
  if (at < 0 || at >= end) throw new MalformedBody("a name that does not end, or is too long");
  return at;
}
