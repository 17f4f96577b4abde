// A client's connection inside TLS, and who its certificate says that it is. Does for a bare TLSSocket what node:tls does by itself only
// for sockets of a tls.Server: ends one that breaks the protocol after its handshake, and asks OpenSSL what it thinks of the client's
// certificate. Both by names that Node.js does not document and has not changed in ten years; tests hold them fast.

import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { PeerCertificateFacts } from "../auth/access.ts";
import { endPointBinding } from "../auth/channel-binding.ts";
import type { ClientTls } from "../auth/client-tls.ts";
import { ALPN_POSTGRESQL } from "../auth/tls-options.ts";
import { assert } from "../core/assert.ts";

/** Begins the handshake on `raw`, whose first bytes may be there already. `secured` is called when it is over, if it succeeds. */
export function secureSocket(
  raw: Socket,
  tls: ClientTls & { kind: "on" },
  early: Buffer,
  secured: (socket: TLSSocket) => void,
): TLSSocket {
  if (early.length > 0) raw.pause().unshift(early);
  const { contextFor } = tls;
  const socket = new TLSSocket(raw, {
    isServer: true,
    secureContext: tls.context,
    ALPNProtocols: [ALPN_POSTGRESQL],
    requestCert: tls.certificates !== "ignored",
    ...(contextFor === null ? {} : { SNICallback: (name, answer) => answer(null, contextFor(name)) }),
  });
  let established = false;
  socket.once("secure", () => {
    established = true;
    secured(socket);
  });
  // Before that it is destroyed anyway, with the error.
  socket.on("_tlsError", (error: Error) => {
    if (established) socket.destroy(error);
  });
  return socket;
}

/** Null when the client has shown no certificate, or none that our authorities vouch for. */
export function peerCertificate(socket: Socket): PeerCertificateFacts | null {
  if (!(socket instanceof TLSSocket)) return null;
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined || verifyError(socket) !== null) return null;
  const names: unknown = certificate.toLegacyObject().subject?.CN;
  const name: unknown = Array.isArray(names) ? names[0] : names;
  // A zero in a name is there to make it look like another.
  const commonName = typeof name === "string" && name !== "" && !name.includes("\0") ? name : null;
  return { commonName, distinguishedName: distinguishedName(certificate.subject) };
}

/**
 * Whether the client may go on with what it has shown. As in PostgreSQL and PgBouncer a certificate that is not valid is worse than
 * none, also where nobody asks for one.
 */
export function isAcceptable(socket: TLSSocket, { certificates }: ClientTls & { kind: "on" }): boolean {
  if (socket.getPeerX509Certificate() === undefined) return certificates !== "demanded";
  return certificates === "ignored" || verifyError(socket) === null;
}

/** What OpenSSL has against the certificate; null: nothing. */
function verifyError(socket: TLSSocket): unknown {
  const handle: unknown = Reflect.get(socket, "ssl");
  assert(typeof handle === "object" && handle !== null, "a TLS socket has its OpenSSL object");
  const ask: unknown = Reflect.get(handle, "verifyError");
  assert(typeof ask === "function", "a TLS socket can be asked about its peer's certificate");
  const found: unknown = Reflect.apply(ask, handle, []);
  return found ?? null;
}

/**
 * Node.js writes a name line by line from the top on, its parts escaped already; RFC 2253 has it in one line from the bottom up, with
 * what is not ASCII as its bytes.
 */
function distinguishedName(subject: string | undefined): string {
  const parts = (subject ?? "").split("\n").filter((line) => line !== "");
  const reversed = parts.toReversed().map((part) => part.split(" + ").toReversed().join("+"));
  const bytesOf = (letter: string): string =>
    Array.from(Buffer.from(letter), (byte) => `\\${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
  return reversed.join(",").replaceAll(/[^\0-\x7f]/gu, bytesOf);
}

/** What ties a login to our certificate, as the client sees it. */
export function channelBinding(socket: Socket): Buffer | null {
  const certificate = socket instanceof TLSSocket ? socket.getX509Certificate() : undefined;
  return certificate === undefined ? null : endPointBinding(certificate.raw);
}

/** OpenSSL's own words, without their place in its sources. */
export function handshakeReason(error: Error | null): string {
  if (error === null) return "the client has broken it off";
  const reason: unknown = "reason" in error ? error.reason : undefined;
  return typeof reason === "string" ? reason : error.message;
}
