// What SCRAM-SHA-256-PLUS binds a login to: the channel binding tls-server-end-point (RFC 5929, section 4), a hash of the server's
// certificate as both sides of the TLS connection see it, by the hash function of the certificate's own signature.

import { createHash } from "node:crypto";

/** The one type of channel binding that PostgreSQL knows. */
export const END_POINT = "tls-server-end-point";

const SEQUENCE = 0x30;
const OBJECT_IDENTIFIER = 0x06;

/** Signature algorithms by the DER of their object identifiers; MD5 and SHA-1 count as SHA-256. */
const hashes: Readonly<Record<string, string>> = {
  "2a864886f70d010104": "sha256",
  "2a864886f70d010105": "sha256",
  "2a864886f70d01010b": "sha256",
  "2a864886f70d01010c": "sha384",
  "2a864886f70d01010d": "sha512",
  "2a8648ce3d0401": "sha256",
  "2a8648ce3d040302": "sha256",
  "2a8648ce3d040303": "sha384",
  "2a8648ce3d040304": "sha512",
};

/** The binding's data for a certificate (DER); null where its signature has no hash function of its own, or one that we do not know. */
export function endPointBinding(certificate: Buffer): Buffer | null {
  const whole = element(certificate, 0, SEQUENCE);
  const signed = whole && element(certificate, whole.start, SEQUENCE);
  const algorithm = signed && element(certificate, signed.end, SEQUENCE);
  const identifier = algorithm && element(certificate, algorithm.start, OBJECT_IDENTIFIER);
  if (identifier === null) return null;
  const hash = hashes[certificate.toString("hex", identifier.start, identifier.end)];
  return hash === undefined ? null : createHash(hash).update(certificate).digest();
}

/** Where the content of the DER element at `at` begins and ends; null where it is not of this type, or not complete. */
function element(der: Buffer, at: number, type: number): { readonly start: number; readonly end: number } | null {
  const short = der[at + 1];
  if (der[at] !== type || short === undefined) return null;
  // A length of 128 and more stands in that many bytes behind this one.
  const more = short < 0x80 ? 0 : short - 0x80;
  const start = at + 2 + more;
  if (more > 4 || start > der.length) return null;
  const length = more === 0 ? short : der.readUIntBE(at + 2, more);
  return start + length <= der.length ? { start, end: start + length } : null;
}
