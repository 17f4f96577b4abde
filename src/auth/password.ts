// What is done with a password itself: SASLprep by PostgreSQL's rule (src/common/saslprep.c: what cannot be prepared is
// used as it is), MD5 hashes (https://www.postgresql.org/docs/current/protocol-flow.html, AuthenticationMD5Password),
// and comparisons whose time does not tell how much was right.

import { isUtf8 } from "node:buffer";
import { createHash, timingSafeEqual } from "node:crypto";
import saslprep from "saslprep";

/** The bytes that SCRAM derives its keys from. Bytes that are not UTF-8 stay as they are. */
export function preparePassword(password: string | Buffer): Buffer {
  const raw = typeof password === "string" ? Buffer.from(password, "utf8") : password;
  if (!isUtf8(raw) || raw.every((byte) => byte < 0x80)) return raw;
  try {
    const prepared = saslprep(raw.toString("utf8"));
    return prepared === "" ? raw : Buffer.from(prepared, "utf8");
  } catch {
    return raw;
  }
}

function md5Hex(...parts: readonly (string | Buffer)[]): string {
  const hash = createHash("md5");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}

/** The hash that PostgreSQL keeps: `md5` and 32 hexadecimal digits. The user's name is its salt. */
export function md5Secret(password: string | Buffer, user: string): string {
  return `md5${md5Hex(password, user)}`;
}

/** What a client answers to AuthenticationMD5Password. `secret` is the kept hash, `salt` the request's four bytes. */
export function md5Response(secret: string, salt: Buffer): string {
  return `md5${md5Hex(secret.slice("md5".length), salt)}`;
}

/** Compares in a time that depends on neither text, not even on their lengths. */
export function equalSecrets(left: string | Buffer, right: string | Buffer): boolean {
  const digest = (value: string | Buffer) => createHash("sha256").update(value).digest();
  return timingSafeEqual(digest(left), digest(right));
}
