// What is known about a user's password, in the three forms that PostgreSQL keeps in pg_authid.rolpassword
// (https://www.postgresql.org/docs/current/catalog-pg-authid.html): clear text, MD5 hash, SCRAM-SHA-256 verifier.

/** Names of the fields follow RFC 5802. `hash` is `md5` plus 32 hexadecimal digits: md5(password + user). */
export type Secret =
  | { readonly kind: "plain"; readonly password: string }
  | { readonly kind: "md5"; readonly hash: string }
  | {
      readonly kind: "scram";
      readonly iterations: number;
      readonly salt: Buffer;
      readonly storedKey: Buffer;
      readonly serverKey: Buffer;
    };

/** SCRAM-SHA-256: both keys are SHA-256 digests. */
const KEY_BYTES = 32;

/** Decodes canonical base64; null where Buffer.from would quietly skip what is not base64. */
export function decodeBase64(written: string): Buffer | null {
  const decoded = Buffer.from(written, "base64");
  return decoded.toString("base64") === written ? decoded : null;
}

/** PostgreSQL's rule: what does not look exactly like a hash or a verifier is a password in clear. */
export function parseSecret(text: string): Secret {
  if (/^md5[0-9a-f]{32}$/.test(text)) return { kind: "md5", hash: text };
  const match = /^SCRAM-SHA-256\$(\d{1,10}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$/.exec(text);
  const [, iterations, salt, storedKey, serverKey] = match ?? [];
  if (iterations === undefined || salt === undefined || storedKey === undefined || serverKey === undefined) {
    return { kind: "plain", password: text };
  }
  const decoded = { salt: decodeBase64(salt), storedKey: decodeBase64(storedKey), serverKey: decodeBase64(serverKey) };
  const count = Number(iterations);
  if (
    decoded.salt === null ||
    decoded.storedKey?.length !== KEY_BYTES ||
    decoded.serverKey?.length !== KEY_BYTES ||
    count < 1 ||
    count > 0x7fff_ffff
  ) {
    return { kind: "plain", password: text };
  }
  return {
    kind: "scram",
    iterations: count,
    salt: decoded.salt,
    storedKey: decoded.storedKey,
    serverKey: decoded.serverKey,
  };
}
