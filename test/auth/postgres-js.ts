// postgres.js (https://github.com/porsager/postgres) as a client: installed on first use, and known here by the little of it that is
// called.

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { z } from "zod";
import { installed } from "./packages.ts";
import { DEADLINE_MS, failure, type Outcome, QUESTION, type Target, tlsOptions } from "./target.ts";

const VERSION = "3.4.9";

interface Sql {
  unsafe(text: string): Promise<unknown>;
  end(options: { readonly timeout: number }): Promise<void>;
}
type Postgres = (options: object) => Sql;

let loading: Promise<Postgres> | null = null;

/** Only the function is known of a module that comes without our types. */
async function load(): Promise<Postgres> {
  const file = join(installed("postgres", VERSION), "src", "index.js");
  const module: unknown = await import(pathToFileURL(file).href);
  const found = z.object({ default: z.function() }).parse(module);
  return found.default as unknown as Postgres;
}

export async function postgresJs(target: Target): Promise<Outcome> {
  loading ??= load();
  const postgres = await loading;
  const { host, port, user, password, database } = target;
  const sql = postgres({
    host,
    port,
    user,
    pass: password,
    database,
    ssl: tlsOptions(target) ?? false,
    max: 1,
    fetch_types: false,
    connect_timeout: DEADLINE_MS / 1000,
    onnotice: () => {},
  });
  try {
    const rows = z.array(z.object({ name: z.string() })).parse(await sql.unsafe(QUESTION));
    return { kind: "in", as: rows[0]?.name ?? "", encrypted: target.sslmode !== "disable" };
  } catch (error) {
    return failure(error);
  } finally {
    await sql.end({ timeout: 0 }).catch(() => {});
  }
}
