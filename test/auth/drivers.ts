// The clients that log in: libpq by psql and by its own functions, which name the SQLSTATE, node-postgres and postgres.js; each told the
// same in its own words.

import { Client } from "pg";
import { runProgram } from "../support/programs.ts";
import { byLibpq } from "./libpq.ts";
import { postgresJs } from "./postgres-js.ts";
import { DEADLINE_MS, failure, type Outcome, plain, QUESTION, type Target, tlsOptions } from "./target.ts";

export interface Driver {
  readonly name: string;
  /** Whether the driver can be told to log in like this. */
  can(target: Target): boolean;
  login(target: Target): Promise<Outcome>;
}

const NO_FILE = "/nonexistent";

/** libpq as Debian has it; `environment` says more to it. */
export async function byPsql(target: Target, environment: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  const env = {
    PGHOST: target.host,
    PGPORT: String(target.port),
    PGUSER: target.user,
    PGPASSWORD: target.password,
    PGDATABASE: target.database,
    PGSSLMODE: target.sslmode,
    PGSSLROOTCERT: /^verify/.test(target.sslmode) ? target.ca : NO_FILE,
    PGSSLCERT: target.certificate?.cert ?? NO_FILE,
    PGSSLKEY: target.certificate?.key ?? NO_FILE,
    PGCHANNELBINDING: target.bound ? "require" : "prefer",
    PGCONNECT_TIMEOUT: "15",
    PGGSSENCMODE: "disable",
    PGPASSFILE: NO_FILE,
    ...environment,
  };
  const args = ["-X", "-A", "-t", "-q", "-w", "-c", QUESTION, "-c", "\\conninfo"];
  const { code, stdout, stderr } = await runProgram("psql", args, { env, timeoutMs: DEADLINE_MS });
  if (code !== 0) return { kind: "out", code: null, message: plain(stderr) };
  return { kind: "in", as: stdout.split("\n")[0] ?? "", encrypted: stdout.includes("SSL connection") };
}

async function byNodePostgres(target: Target): Promise<Outcome> {
  const { host, port, user, password, database, bound } = target;
  const client = new Client({
    host,
    port,
    user,
    password,
    database,
    ssl: tlsOptions(target) ?? false,
    enableChannelBinding: bound,
    connectionTimeoutMillis: DEADLINE_MS,
  });
  client.on("error", () => {});
  try {
    await client.connect();
    const { rows } = await client.query<{ name: string }>(QUESTION);
    return { kind: "in", as: rows[0]?.name ?? "", encrypted: target.sslmode !== "disable" };
  } catch (error) {
    return failure(error);
  } finally {
    await client.end().catch(() => {});
  }
}

const onlyFixed = ({ sslmode }: Target): boolean => sslmode !== "allow" && sslmode !== "prefer";

export const drivers: readonly Driver[] = [
  { name: "psql", can: () => true, login: (target) => byPsql(target) },
  { name: "libpq", can: () => true, login: byLibpq },
  // Neither falls back from TLS, or to it; binding can be asked for, not demanded.
  { name: "node-postgres", can: onlyFixed, login: byNodePostgres },
  { name: "postgres.js", can: (target) => onlyFixed(target) && !target.bound, login: (target) => postgresJs(target) },
];
