// Messages of the extended protocol that name a statement: reading the name, putting another one in its place, and those that are
// sent for statements in a client's name (https://www.postgresql.org/docs/current/protocol-message-formats.html).

import { Buffer } from "node:buffer";
import { ProxyError } from "../core/errors.ts";
import { SERVER_NAME_PREFIX } from "../pool/statements.ts";
import { Backend, Frontend, HEADER_BYTES } from "../protocol/constants.ts";
import { errorResponse } from "../protocol/messages.ts";
import { MalformedBody } from "../protocol/reader.ts";
import { MessageWriter } from "../protocol/writer.ts";
import { stringEnd } from "./statement-text.ts";

const STATEMENT = "S".charCodeAt(0);
/** The name of no statement on any server. */
export const NOBODY = `${SERVER_NAME_PREFIX}0`;

/** The statement that a Describe or Close names; null where it names a portal. */
export function statementName(length: number, buffer: Buffer, start: number, end: number): string | null {
  if (end - start !== length + 1) throw new MalformedBody("a name that is too long");
  const from = start + HEADER_BYTES + 1;
  if (stringEnd(buffer, from, end) !== end - 1) throw new MalformedBody("bytes behind the name");
  return buffer[from - 1] === STATEMENT ? nameIn(buffer, start, end) : null;
}

/** The name in a whole Describe or Close, be it a statement's or a portal's. */
export const nameIn = (buffer: Buffer, start: number, end: number): string =>
  buffer.toString("latin1", start + HEADER_BYTES + 1, end - 1);

/** A message up to the end of its statement name, which stands in `buffer[nameStart, nameEnd)`, with another name. */
export function renamedFront(
  buffer: Buffer,
  start: number,
  nameStart: number,
  nameEnd: number,
  length: number,
  name: string,
): Buffer {
  const front = Buffer.allocUnsafe(nameStart - start + name.length + 1);
  // A few bytes are moved sooner than the runtime is called.
  for (let at = start; at < nameStart; at++) front[at - start] = buffer[at] as number;
  front.writeInt32BE(length + name.length - (nameEnd - nameStart), 1);
  for (let at = 0; at < name.length; at++) front[nameStart - start + at] = name.charCodeAt(at);
  front[front.length - 1] = 0;
  return front;
}

const naming = (type: number, name: string): Buffer =>
  new MessageWriter().message(type).byte(STATEMENT).string(name, "latin1").finish();

export const closeMessage = (name: string): Buffer => naming(Frontend.Close, name);
export const describeMessage = (name: string): Buffer => naming(Frontend.Describe, name);
export const flushMessage = (): Buffer => new MessageWriter().message(Frontend.Flush).finish();

/** What a client is told that gives a name a second time. */
export function duplicate(name: string): Buffer {
  const error = new ProxyError("statement_exists", `prepared statement "${name}" already exists`);
  return errorResponse(error).finish();
}

/**
 * What a client is told whose statement has come to look different, word for word PostgreSQL's; drivers know it by the routine that
 * raises it. `parameters`: what a Describe is told first, the body of its ParameterDescription.
 */
export function changedShape(parameters: Buffer | null): Buffer {
  const writer = new MessageWriter();
  if (parameters !== null) writer.message(Backend.ParameterDescription).bytes(parameters);
  const error = new ProxyError("cached_plan_changed", "cached plan must not change result type");
  return errorResponse(error, writer, "RevalidateCachedQuery").finish();
}
