// The messages that a router itself has to send, and the few that it has to read, beyond startup.

import type { ProxyError } from "../core/errors.ts";
import { Backend, Frontend, PROTOCOL_3_0 } from "./constants.ts";
import { BodyReader } from "./reader.ts";
import { MessageWriter } from "./writer.ts";

/** ErrorResponse in PostgreSQL's field order; `routine`: where PostgreSQL raises it, for drivers that look at that. */
export function errorResponse(
  error: ProxyError,
  writer: MessageWriter = new MessageWriter(),
  routine: string | null = null,
): MessageWriter {
  writer.message(Backend.ErrorResponse);
  field(writer, "S", error.severity);
  field(writer, "V", error.severity);
  field(writer, "C", error.sqlstate);
  field(writer, "M", error.message);
  if (error.detail !== null) field(writer, "D", error.detail);
  if (error.hint !== null) field(writer, "H", error.hint);
  if (routine !== null) field(writer, "R", routine);
  return writer.byte(0);
}

function field(writer: MessageWriter, code: string, value: string): void {
  writer.byte(code.charCodeAt(0)).string(value);
}

/** ReadyForQuery; `status` is one of TransactionStatus. */
export function readyForQuery(status: number, writer: MessageWriter = new MessageWriter()): MessageWriter {
  return writer.message(Backend.ReadyForQuery).byte(status);
}

/** An Authentication message: its request code and what belongs to it. */
export function authentication(code: number, payload: Uint8Array, writer = new MessageWriter()): MessageWriter {
  return writer.message(Backend.Authentication).int32(code).bytes(payload);
}

export function parameterStatus(name: string, value: string, writer: MessageWriter): MessageWriter {
  return writer.message(Backend.ParameterStatus).string(name, "latin1").string(value, "latin1");
}

export function backendKeyData(pid: number, key: Buffer, writer = new MessageWriter()): MessageWriter {
  return writer.message(Backend.BackendKeyData).int32(pid).bytes(key);
}

/** NegotiateProtocolVersion: we speak 3.`minor` and know none of these extensions. */
export function negotiateProtocolVersion(
  minor: number,
  extensions: readonly string[],
  writer: MessageWriter,
): MessageWriter {
  writer
    .message(Backend.NegotiateProtocolVersion)
    .int32(PROTOCOL_3_0 + minor)
    .int32(extensions.length);
  for (const name of extensions) writer.string(name, "latin1");
  return writer;
}

export function commandComplete(tag: string, writer: MessageWriter): MessageWriter {
  return writer.message(Backend.CommandComplete).string(tag);
}

/** A simple Query. Text byte for byte (latin1). */
export function query(text: string): Buffer {
  return new MessageWriter().message(Frontend.Query).string(text, "latin1").finish();
}

/** PasswordMessage, SASLInitialResponse or SASLResponse: they share a type and differ in `body`. */
export function passwordMessage(body: Uint8Array): Buffer {
  return new MessageWriter().message(Frontend.Password).bytes(body).finish();
}

export function terminate(): Buffer {
  return new MessageWriter().message(Frontend.Terminate).finish();
}

/** What a router looks at in a server's ErrorResponse. */
export interface ErrorFields {
  /** `ERROR`, `FATAL` or `PANIC`, never translated; empty from servers before 9.6. */
  readonly severity: string;
  readonly sqlstate: string;
  readonly message: string;
  readonly detail: string | null;
  readonly hint: string | null;
}

/** Reads an ErrorResponse or NoticeResponse body at `buffer[start, end)`. Throws MalformedBody. */
export function decodeError(buffer: Buffer, start: number, end: number): ErrorFields {
  const reader = new BodyReader(buffer, start, end);
  const fields = new Map<string, string>();
  for (let code = reader.byte(); code !== 0; code = reader.byte()) {
    fields.set(String.fromCharCode(code), reader.string());
  }
  return {
    severity: fields.get("V") ?? fields.get("S") ?? "",
    sqlstate: fields.get("C") ?? "",
    message: fields.get("M") ?? "",
    detail: fields.get("D") ?? null,
    hint: fields.get("H") ?? null,
  };
}

/** Whether such an error ends the connection. */
export const isFatal = (fields: ErrorFields): boolean => fields.severity === "FATAL" || fields.severity === "PANIC";

/** Reads a ParameterStatus body. Throws MalformedBody. */
export function decodeParameterStatus(buffer: Buffer, start: number, end: number): { name: string; value: string } {
  const reader = new BodyReader(buffer, start, end);
  const name = reader.string("latin1");
  return { name, value: reader.string("latin1") };
}

/** The values of a DataRow byte for byte (latin1), null for SQL NULL. Throws MalformedBody. */
export function decodeDataRow(buffer: Buffer, start: number, end: number): (string | null)[] {
  const reader = new BodyReader(buffer, start, end);
  const count = (reader.byte() << 8) | reader.byte();
  const values: (string | null)[] = [];
  for (let column = 0; column < count; column++) {
    const length = reader.int32();
    values.push(length < 0 ? null : reader.bytes(length).toString("latin1"));
  }
  return values;
}
