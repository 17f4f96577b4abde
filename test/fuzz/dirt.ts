// What clients left behind at the servers of a pool: looked for by fresh clients, which take all of them at once.

import { APPLICATION } from "../support/cluster.ts";
import { type Connection, connect, type Login, query } from "../support/sql.ts";
import { sleep } from "../support/time.ts";
import { poolSize, type Site } from "./site.ts";

const PATIENCE_MS = 60_000;

// Nobody shall be able to hide it: the fresh clients set nothing but what npm's pg sets at its start.

/** Everything that the fresh client itself did not ask for. */
const question = `SELECT 'setting ' || name || ' = ' || setting AS what FROM pg_settings WHERE source = 'session'
  AND name NOT IN ('application_name', 'client_encoding') AND name !~ '^transaction_(isolation|read_only|deferrable)$'
  UNION ALL SELECT 'temporary table ' || relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'
  UNION ALL SELECT 'advisory lock ' || objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
  UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE name <> ''
  UNION ALL SELECT 'channel ' || c FROM pg_listening_channels() c
  UNION ALL SELECT 'prepared ' || name FROM pg_prepared_statements WHERE from_sql OR name !~ '^pgsteer_'
  UNION ALL SELECT 'role ' || current_user WHERE current_user <> '${APPLICATION.user}'`;

async function dirtAt(client: Connection): Promise<{ readonly pid: unknown; readonly dirty: string[] }> {
  await query(client, "BEGIN", [], PATIENCE_MS);
  const pid = (await query(client, "SELECT pg_backend_pid() AS pid")).rows[0]?.["pid"];
  const { rows } = await query(client, question);
  return { pid, dirty: rows.map(({ what }) => `server ${pid}: ${what}`) };
}

/** Comes, looks at whatever server it gets, and goes, until `over`. Returns how often, and what it found. */
export async function inspectOften(login: Login, over: () => boolean): Promise<{ looks: number; dirty: string[] }> {
  const dirty: string[] = [];
  let looks = 0;
  while (!over()) {
    const client = await connect(login, PATIENCE_MS);
    try {
      dirty.push(...(await dirtAt(client)).dirty);
      await query(client, "ROLLBACK");
      looks += 1;
    } finally {
      client.destroy();
    }
    await sleep(20);
  }
  return { looks, dirty };
}

/** Takes every server of the pool with fresh clients at once. `looked`: how many there were. */
export async function dirtOnServers(site: Site): Promise<{ readonly looked: number; readonly dirty: string[] }> {
  const count = await poolSize(site.pgsteer);
  const clients = await Promise.all(Array.from({ length: count }, () => connect(site.pgsteer.login("write"))));
  try {
    const found = [];
    for (const client of clients) found.push(await dirtAt(client));
    for (const client of clients) await query(client, "ROLLBACK");
    return { looked: new Set(found.map(({ pid }) => pid)).size, dirty: found.flatMap(({ dirty }) => dirty) };
  } finally {
    for (const client of clients) client.destroy();
  }
}
