// What both sides know of a cell's user, from one source: the secret that PostgreSQL stores, the line of the userlist, the records of
// pg_hba.conf and pg_ident.conf. All that a router and PostgreSQL both read is given to both word for word.

import { createHash, randomBytes } from "node:crypto";
import { md5Secret } from "../../src/auth/password.ts";
import { deriveScramKeys } from "../../src/auth/scram.ts";
import type { Cell } from "./cell.ts";

/** A cell's user with all that follows from it. */
export interface Account {
  readonly cell: Cell;
  readonly password: string;
  /** What PostgreSQL stores where clients log in to it; null for nobody. */
  readonly storedAsked: string | null;
  /** What the PostgreSQL behind the router stores. */
  readonly storedBehind: string | null;
  /** What stands in the userlist; null for nobody, and for who is asked for by auth_query. */
  readonly listed: string | null;
}

/** A SCRAM secret as PostgreSQL writes it. */
function scramSecret(password: string, iterations: number): string {
  const salt = createHash("sha256").update(`salt of ${password}`).digest().subarray(0, 16);
  const { storedKey, serverKey } = deriveScramKeys(password, salt, iterations);
  const base64 = (bytes: Buffer): string => bytes.toString("base64");
  return `SCRAM-SHA-256$${iterations}:${base64(salt)}$${base64(storedKey)}:${base64(serverKey)}`;
}

export function accountOf(cell: Cell): Account {
  const password = `pw ${randomBytes(6).toString("hex")}`;
  const md5 = md5Secret(password, cell.user);
  const scram = scramSecret(password, cell.iterations);
  const storedBehind = cell.server === "md5" ? md5 : scram;
  const kinds = {
    // PostgreSQL keeps no password in clear: the hash that its own default makes.
    plain: { storedAsked: scram, listed: password },
    md5: { storedAsked: md5, listed: md5 },
    scram: { storedAsked: scram, listed: scram },
    query: { storedAsked: storedBehind, listed: null },
    unknown: { storedAsked: null, listed: null },
  } as const;
  const kind = kinds[cell.secret];
  return { cell, password, ...kind, storedBehind: cell.secret === "unknown" ? null : storedBehind };
}

/** Makes the roles that are known. */
export function rolesOf(accounts: readonly Account[], side: "storedAsked" | "storedBehind"): string {
  return accounts
    .filter((account) => account[side] !== null)
    .map(
      (account) =>
        `CREATE ROLE ${account.cell.user} ${account.cell.mayLogIn ? "LOGIN" : "NOLOGIN"} PASSWORD '${account[side]}';`,
    )
    .join("\n");
}

/** What PgBouncer's auth_file would say. */
export function userlistOf(accounts: readonly Account[]): string {
  return accounts
    .filter(({ listed }) => listed !== null)
    .map(({ cell, listed }) => `"${cell.user}" "${listed}"\n`)
    .join("");
}

const methodWords: Readonly<Record<Exclude<Cell["method"], "none">, string>> = {
  trust: "trust",
  reject: "reject",
  password: "password",
  md5: "md5",
  "scram-sha-256": "scram-sha-256",
  bound: "scram-sha-256",
  cert: "cert",
  "cert-map": "cert map=people",
  clientcert: "scram-sha-256 clientcert=verify-full",
};

/** The record by which a client is let in or not; read by PostgreSQL and by the router. */
export function clientRecords(accounts: readonly Account[]): string[] {
  return accounts.flatMap(({ cell }) =>
    cell.method === "none" ? [] : [`${cell.record} all ${cell.user} 127.0.0.1/32 ${methodWords[cell.method]}`],
  );
}

/** Who a mapped certificate is: half by name, half by a regular expression. */
export function clientMap(accounts: readonly Account[]): string[] {
  const mapped = accounts
    .filter(({ cell }) => cell.method === "cert-map")
    .map(({ cell }) => `people "Staff of ${cell.user}" ${cell.user}`);
  return [...mapped.filter((_, index) => index % 2 === 0), 'people "/^Staff of (.*)$" \\1'];
}

/** The record by which the router gets in on a cell's behalf. */
export function serverRecords(accounts: readonly Account[]): string[] {
  return accounts.map(({ cell }) => {
    const { user, server } = cell;
    if (server === "cert") return `hostssl all ${user} 127.0.0.1/32 cert map=routers`;
    if (server === "bound") return `hostssl all ${user} 127.0.0.1/32 scram-sha-256`;
    return `host all ${user} 127.0.0.1/32 ${server}`;
  });
}

export function serverMap(accounts: readonly Account[]): string[] {
  return accounts.filter(({ cell }) => cell.server === "cert").map(({ cell }) => `routers pgsteer ${cell.user}`);
}
