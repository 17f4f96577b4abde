// One login as clients are told to make it, and what came of it: the form in which all drivers are asked and answer, so that two
// servers can be compared.

import { readFileSync } from "node:fs";
import { type ConnectionOptions, checkServerIdentity } from "node:tls";
import type { Cell } from "./cell.ts";

/** One login as a client is told to make it. */
export interface Target {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly sslmode: Cell["sslmode"];
  /** Whether SCRAM has to be bound to the connection. */
  readonly bound: boolean;
  /** File with the authorities whose servers are believed. */
  readonly ca: string;
  /** The client's own certificate and key. */
  readonly certificate: { readonly cert: string; readonly key: string } | null;
}

/** What came of it; SQLSTATE or the driver's own code, where it has any. */
export type Outcome =
  | { readonly kind: "in"; readonly as: string; readonly encrypted: boolean | null }
  | { readonly kind: "out"; readonly code: string | null; readonly message: string };

export const QUESTION = "SELECT session_user::text AS name";
export const DEADLINE_MS = 20_000;

/** The client's side of TLS as libpq means it. */
export function tlsOptions(target: Target): ConnectionOptions | null {
  const { host, sslmode, certificate, ca } = target;
  if (sslmode === "disable") return null;
  const verifies = sslmode === "verify-ca" || sslmode === "verify-full";
  return {
    rejectUnauthorized: verifies,
    ...(verifies ? { ca: readFileSync(ca, "utf8") } : {}),
    // Not every driver names the host where it is an address.
    checkServerIdentity: (_host, cert) => (sslmode === "verify-full" ? checkServerIdentity(host, cert) : undefined),
    ...(certificate === null
      ? {}
      : { cert: readFileSync(certificate.cert, "utf8"), key: readFileSync(certificate.key, "utf8") }),
  };
}

/** A driver's error in the common form. */
export function failure(error: unknown): Outcome {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : null;
  const message = error instanceof Error ? error.message : String(error);
  return { kind: "out", code: typeof code === "string" ? code : null, message: plain(message) };
}

/** Without what differs between two servers or two runs: ports, and where in OpenSSL an error came up. */
export function plain(message: string): string {
  return message
    .replaceAll(/connection to server at "[^"]*"(?: \([^)]*\))?, port \d+ failed: /g, "")
    .replaceAll(/\b[0-9A-F]{8,}:error:[0-9A-F]+:/g, "error:")
    .replaceAll(/:\.\.\/deps\/[^:]+:\d+:/g, ":")
    .replaceAll(/127\.0\.0\.1:\d+/g, "127.0.0.1")
    .replaceAll(/\s+/g, " ")
    .trim();
}
