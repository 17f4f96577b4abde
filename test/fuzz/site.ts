// Where fuzzing and stress take place: a cluster of one member, a pgsteer in front of it with few servers, and, where asked for, a
// second pgsteer in front of a hostile server. Knows what must hold there when everybody has left.

import { readFileSync } from "node:fs";
import { z } from "zod";
import { topologySchema } from "../../src/admin/topology-document.ts";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import { waitFor } from "../support/time.ts";
import { HostileServer } from "./hostile-server.ts";
import { modelTables } from "./model.ts";
import { fuzzTables } from "./talker.ts";
import type { Tally } from "./tally.ts";

export interface SiteOptions {
  readonly servers: number;
  /** Null: no hostile server. */
  readonly hostile: { readonly seed: number; readonly tally: Tally } | null;
}

export interface Site {
  readonly cluster: Cluster;
  readonly pgsteer: Pgsteer;
  readonly hostile: { readonly server: HostileServer; readonly pgsteer: Pgsteer } | null;
  close(): Promise<void>;
}

/** Starts it all. What was started is stopped when something fails. */
export async function openSite(options: SiteOptions): Promise<Site> {
  const cluster = await startCluster({ members: 1 });
  let server: HostileServer | null = null;
  try {
    await cluster.sql("node1", `ALTER ROLE ${APPLICATION.user} SET TimeZone TO 'Etc/UTC'`);
    await cluster.sql(
      "node1",
      `${modelTables}; ${fuzzTables}; GRANT ALL ON model_log, fuzz_lines TO ${APPLICATION.user}`,
      [],
      APPLICATION.database,
    );
    const pool = {
      default_pool_size: options.servers,
      max_client_conn: 1000,
      query_wait_timeout: "30s",
      client_login_timeout: "10s",
      // Fewer than are in use, so that servers have to forget some.
      max_prepared_statements: 6,
    };
    const pgsteer = await startPgsteer(cluster, {
      ready: "sql",
      configure: (configuration) => void Object.assign(configuration.pool, pool),
    });
    if (options.hostile !== null) {
      server = new HostileServer(options.hostile.seed, options.hostile.tally);
      const hostile = await hostilePgsteer(cluster, server, pool);
      return site({ server, pgsteer: hostile });
    }
    return site(null);

    function site(hostile: Site["hostile"]): Site {
      const close = async (): Promise<void> => {
        hostile?.server.close();
        await cluster.remove();
      };
      return { cluster, pgsteer, hostile, close };
    }
  } catch (error) {
    server?.close();
    await cluster.remove();
    throw error;
  }
}

async function hostilePgsteer(
  cluster: Cluster,
  server: HostileServer,
  pool: Record<string, unknown>,
): Promise<Pgsteer> {
  const port = await freePort();
  await server.listen(port);
  return startPgsteer(cluster, {
    name: "hostile",
    configure: (configuration) => {
      Object.assign(configuration.pool, pool, { server_login_retry: "50ms", query_wait_timeout: "10s" });
      const probe = {
        ...z.record(z.string(), z.unknown()).parse(configuration.clusters["demo"]?.["probe"]),
        interval: "100ms",
      };
      configuration.clusters["demo"] = { source: "static", static: { hosts: [`127.0.0.1:${port}`] }, probe };
    },
  });
}

/** Resident memory of a process, MB. */
export function residentMegabytes(pid: number): number {
  try {
    const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"));
    return Math.round(Number(line?.[1] ?? 0) / 1024);
  } catch {
    return 0;
  }
}

/** What is left at a pgsteer: servers that are lent or being reset, clients, and how large its pools are. */
export async function leftAt(pgsteer: Pgsteer): Promise<string[]> {
  const answer = await fetch(`${pgsteer.httpUrl}/topology`, { signal: AbortSignal.timeout(5000) });
  const document = topologySchema.parse(await answer.json());
  const left: string[] = [];
  const note = (count: number, what: string) => {
    if (count > 0) left.push(`${count} ${what}`);
  };
  for (const { held_clients, pools } of document.clusters) {
    note(held_clients, "held clients");
    for (const { user, servers, waiting_clients } of pools) {
      note(servers.active, `active servers of ${user}`);
      note(servers.tested, `tested servers of ${user}`);
      note(waiting_clients, `waiting clients of ${user}`);
    }
  }
  for (const { name, clients } of document.listeners) {
    for (const [state, count] of Object.entries(clients)) note(count, `clients at ${name} in state ${state}`);
  }
  return left;
}

/** Connections that a pgsteer has in its pools. */
export async function poolSize(pgsteer: Pgsteer): Promise<number> {
  const answer = await fetch(`${pgsteer.httpUrl}/topology`, { signal: AbortSignal.timeout(5000) });
  const document = topologySchema.parse(await answer.json());
  const pools = document.clusters.flatMap((cluster) => cluster.pools).filter(({ user }) => user === APPLICATION.user);
  return Math.max(0, ...pools.map(({ servers }) => servers.active + servers.idle + servers.login + servers.tested));
}

/** Sessions of the application at PostgreSQL that do something, or stand in a transaction, or are too many. */
export async function busySessions(site: Site, max: number): Promise<string[]> {
  const { rows } = await site.cluster.sql(
    "node1",
    "SELECT state, left(query, 60) AS query FROM pg_stat_activity WHERE usename = $1",
    [APPLICATION.user],
  );
  const sessions = z.array(z.object({ state: z.string().nullable(), query: z.string() })).parse(rows);
  const busy = sessions.filter(({ state }) => state !== "idle").map(({ state, query: text }) => `${state}: ${text}`);
  return sessions.length > max ? [...busy, `${sessions.length} sessions, at most ${max}`] : busy;
}

/** Waits until nothing is left, and says what is if that does not come. */
export async function untilQuiet(look: () => Promise<string[]>, timeoutMs: number): Promise<string[]> {
  let left: string[] = ["never looked"];
  const quiet = async () => {
    left = await look();
    return left.length === 0;
  };
  await waitFor(quiet, { timeoutMs, what: "nobody is left" }).catch(() => {});
  return left;
}

/** Lines in a pgsteer's log that none should have. */
export function confessions(pgsteer: Pgsteer): string[] {
  const lines = readFileSync(pgsteer.log, "utf8").split("\n");
  return lines
    .filter((line) => /assert|uncaught|unhandled|TypeError|RangeError|"level":"?(?:60|fatal)/i.test(line))
    .slice(0, 5);
}
