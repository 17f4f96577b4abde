// SCRAM-SHA-256 (RFC 5802, RFC 7677), as PostgreSQL speaks it
// (https://www.postgresql.org/docs/current/sasl-authentication.html): the keys and the messages that both roles share.
// The roles are in scram-client.ts and scram-server.ts.

import { createHash, createHmac, pbkdf2Sync } from "node:crypto";
import { preparePassword } from "./password.ts";

/** The mechanism without channel binding. */
export const SCRAM_SHA_256 = "SCRAM-SHA-256";
/** The one with it: its `c=` attribute ends with the binding's data. */
export const SCRAM_SHA_256_PLUS = "SCRAM-SHA-256-PLUS";
/**
 * RFC 7677's minimum, PostgreSQL's default, and what verifiers made here have. A server that asks for less invites
 * guessing.
 */
export const SCRAM_ITERATIONS_MIN = 4096;
/**
 * A server could make us derive for minutes; this many take some tenths of a second, during which nothing else runs.
 */
export const SCRAM_ITERATIONS_MAX = 1_000_000;
/** As PostgreSQL's SCRAM_RAW_NONCE_LEN; sent in base64. */
export const NONCE_BYTES = 18;
/** As PostgreSQL's SCRAM_DEFAULT_SALT_LEN. */
export const SALT_BYTES = 16;
/** Length of every SHA-256 key, proof and signature. */
export const KEY_BYTES = 32;
/** Derived keys that are kept; one per user and salt. 96 bytes each, and the map's own. */
const DERIVATIONS_MAX = 4096;

/** What follows from a password, a salt and a number of iterations. */
export interface ScramKeys {
  readonly clientKey: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
}

export function hmacSha256(key: Buffer, text: string | Buffer): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

export function sha256(bytes: Buffer): Buffer {
  return createHash("sha256").update(bytes).digest();
}

/** Bytewise exclusive or of two keys. */
export function xorKeys(left: Buffer, right: Buffer): Buffer {
  return Buffer.from(left.map((byte, index) => byte ^ (right[index] ?? 0)));
}

/** RFC 5802, section 3. Takes about a millisecond per 4096 iterations. */
export function deriveScramKeys(password: string | Buffer, salt: Buffer, iterations: number): ScramKeys {
  const prepared = preparePassword(password);
  const salted = pbkdf2Sync(prepared, salt, iterations, KEY_BYTES, "sha256");
  // The caller's own bytes stay.
  if (prepared !== password) prepared.fill(0);
  const clientKey = hmacSha256(salted, "Client Key");
  const keys = { clientKey, storedKey: sha256(clientKey), serverKey: hmacSha256(salted, "Server Key") };
  salted.fill(0);
  return keys;
}

/** Derivations that were made before: the least recently used goes first. One for the whole process. */
export class ScramDerivations {
  readonly #keys = new Map<string, ScramKeys>();
  readonly #entriesMax: number;

  constructor(entriesMax: number = DERIVATIONS_MAX) {
    this.#entriesMax = entriesMax;
  }

  /** As deriveScramKeys. For known passwords only: what a client claims must not push them out. */
  derive(password: string, salt: Buffer, iterations: number): ScramKeys {
    const prefix = `${iterations}:${salt.toString("base64")}:`;
    const name = createHash("sha256").update(prefix).update(password).digest("base64");
    const known = this.#keys.get(name);
    const keys = known ?? deriveScramKeys(password, salt, iterations);
    this.#keys.delete(name);
    this.#keys.set(name, keys);
    const [oldest] = this.#keys.keys();
    if (this.#keys.size > this.#entriesMax && oldest !== undefined) this.#keys.delete(oldest);
    return keys;
  }

  /** Passwords may not be in use any more: what was derived from them is dropped. */
  clear(): void {
    this.#keys.clear();
  }

  /** How many are kept. */
  get size(): number {
    return this.#keys.size;
  }
}

/** A SCRAM message as text, one character a byte; null when it holds a zero byte, which none may. */
export function scramText(bytes: Buffer): string | null {
  return bytes.includes(0) ? null : bytes.toString("latin1");
}

/** Nonces are printable ASCII without comma. */
export function isNonce(text: string): boolean {
  return /^[\x21-\x2b\x2d-\x7e]+$/.test(text);
}

/** The text under both proofs: client-first-message-bare, server-first-message, client-final-message-without-proof. */
export function authMessage(clientFirstBare: string, serverFirst: string, finalWithoutProof: string): Buffer {
  return Buffer.from(`${clientFirstBare},${serverFirst},${finalWithoutProof}`, "latin1");
}
