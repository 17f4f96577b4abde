// The startup phase, before messages have types: SSLRequest, GSSENCRequest, CancelRequest, StartupMessage
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP).

import { ProxyError } from "../core/errors.ts";
import { CANCEL_KEY_BYTES_MAX, STARTUP_PACKET_BYTES_MAX } from "../core/limits.ts";
import { MINOR_NEWEST, PROTOCOL_3_0, RequestCode } from "./constants.ts";
import { BodyReader, MalformedBody } from "./reader.ts";
import { MessageWriter } from "./writer.ts";

/** One packet of the startup phase, decoded. */
export type StartupPacket =
  | { readonly kind: "ssl" }
  | { readonly kind: "gssenc" }
  | { readonly kind: "cancel"; readonly pid: number; readonly key: Buffer }
  | {
      readonly kind: "startup";
      /** The minor version that it asks for. */
      readonly minor: number;
      /** Names as sent, values byte for byte (latin1); `user` and `database` are UTF-8 text. */
      readonly parameters: ReadonlyMap<string, string>;
      /** Protocol extensions that it asks for (`_pq_.…`), none of which we know. */
      readonly extensions: readonly string[];
    };

const violation = (message: string, detail?: string): ProxyError =>
  new ProxyError("protocol_violation", message, detail === undefined ? {} : { detail });

/**
 * Length of the packet that begins with these bytes, once its length word is complete; null before that.
 * Throws ProxyError 08P01 for a length that no startup packet has.
 */
export function startupPacketLength(buffer: Buffer): number | null {
  if (buffer.length < 4) return null;
  const length = buffer.readInt32BE(0);
  if (length < 8 || length > STARTUP_PACKET_BYTES_MAX) {
    const http = /^[A-Z]{3,4}/.test(buffer.toString("latin1", 0, 4));
    throw violation(
      "invalid length of startup packet",
      http ? "The bytes look like HTTP; this port speaks the PostgreSQL protocol." : undefined,
    );
  }
  return length;
}

/** What is said of a packet with this code, where it is no request that can be answered. */
export function unsupportedProtocol(code: number): ProxyError {
  const version = `${code >>> 16}.${code & 0xffff}`;
  const message = `unsupported frontend protocol ${version}: server supports 3.0 to 3.${MINOR_NEWEST}`;
  return new ProxyError("unsupported_protocol", message);
}

/** What is said where bytes came behind a request for encryption, before it was answered. */
export function inClear(request: string): ProxyError {
  return new ProxyError("protocol_violation", `received unencrypted data after ${request}`, {
    detail: "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
  });
}

/** Decodes one complete packet, length word included. Throws ProxyError as PostgreSQL would answer. */
export function decodeStartup(packet: Buffer): StartupPacket {
  const code = packet.readInt32BE(4);
  switch (code) {
    case RequestCode.Ssl:
      return { kind: "ssl" };
    case RequestCode.Gssenc:
      return { kind: "gssenc" };
    case RequestCode.Cancel:
      if (packet.length < 16 || packet.length > 12 + CANCEL_KEY_BYTES_MAX) {
        throw violation("invalid length of cancel request packet");
      }
      return { kind: "cancel", pid: packet.readInt32BE(8), key: Buffer.from(packet.subarray(12)) };
  }
  const major = code >>> 16;
  const minor = code & 0xffff;
  if (major !== 3) {
    throw unsupportedProtocol(code);
  }
  return { kind: "startup", minor, ...decodeParameters(packet) };
}

/**
 * The minor version in which we answer a client that asks for `minor`: the newest that we speak and that is no newer than its own.
 * There never was a 3.1 (https://www.postgresql.org/docs/current/protocol.html#PROTOCOL-VERSIONS).
 */
export const spokenMinor = (minor: number): number => (minor >= MINOR_NEWEST ? MINOR_NEWEST : 0);

function decodeParameters(packet: Buffer): { parameters: Map<string, string>; extensions: string[] } {
  const parameters = new Map<string, string>();
  const extensions: string[] = [];
  try {
    const reader = new BodyReader(packet, 8, packet.length);
    for (let name = reader.string("latin1"); name !== ""; name = reader.string("latin1")) {
      const text = name === "user" || name === "database";
      const value = reader.string(text ? "utf8" : "latin1");
      if (name.startsWith("_pq_.")) extensions.push(name);
      else parameters.set(name, value);
    }
    if (reader.remaining > 0) throw new MalformedBody("bytes behind the last parameter");
  } catch (error) {
    if (!(error instanceof MalformedBody)) throw error;
    throw violation("invalid startup packet layout: expected terminator as last byte");
  }
  return { parameters, extensions };
}

/**
 * StartupMessage 3.0. Servers are asked for no newer version: all that 3.2 adds is the longer cancel key, which nobody but the server
 * and us ever sees, and old servers, and poolers in front of servers, refuse a version that they do not know.
 * byte for byte (latin1), but for `user` and `database`.
 */
export function startupMessage(parameters: Iterable<readonly [string, string]>): Buffer {
  const writer = new MessageWriter().packet().int32(PROTOCOL_3_0);
  for (const [name, value] of parameters) {
    writer.string(name, "latin1").string(value, name === "user" || name === "database" ? "utf8" : "latin1");
  }
  return writer.byte(0).finish();
}

/** SSLRequest. */
export function sslRequest(): Buffer {
  return new MessageWriter().packet().int32(RequestCode.Ssl).finish();
}

/** CancelRequest with the key that BackendKeyData gave. */
export function cancelRequest(pid: number, key: Buffer): Buffer {
  return new MessageWriter().packet().int32(RequestCode.Cancel).int32(pid).bytes(key).finish();
}
