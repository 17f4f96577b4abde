// The ways to a cluster whose leader changes, all at once in front of the same one, each with a writer of its own.

import { APPLICATION, type Cluster } from "../test/support/cluster.ts";
import { startPgsteer } from "../test/support/pgsteer.ts";
import { queryOnce } from "../test/support/sql.ts";
import { Writer } from "../test/support/writer.ts";
import { type Pooling, startHaproxy, startPgBouncer } from "./peers.ts";

/** In the order of the tables. */
export const FAILOVER_PATHS = ["pgsteer", "haproxy", "haproxy-fast", "pgbouncer"] as const;

export type FailoverPath = (typeof FAILOVER_PATHS)[number];

/** What stands in between, for the reader of the table. */
export const PATH_WORDS: Readonly<Record<FailoverPath, string>> = {
  pgsteer: "write listener, transaction mode, defaults",
  haproxy: "Patroni's documented settings: inter 3s fall 3 rise 2, shutdown-sessions",
  "haproxy-fast": "inter 500ms fall 1 rise 1, shutdown-sessions",
  pgbouncer: "transaction mode, defaults, in front of HAProxy with Patroni's documented settings",
};

const POOLING: Pooling = { poolMode: "transaction", poolSize: 20, maxClients: 100 };

/** A path with its writer, whose rows are in a table of their own. */
export interface WrittenPath {
  readonly name: FailoverPath;
  readonly table: string;
  readonly writer: Writer;
}

async function portOf(cluster: Cluster, name: FailoverPath, logLevel: string): Promise<number> {
  const { maxClients } = POOLING;
  if (name === "haproxy") return (await startHaproxy(cluster, maxClients)).port;
  if (name === "haproxy-fast") return (await startHaproxy(cluster, maxClients, "inter 500ms fall 1 rise 1", name)).port;
  if (name === "pgbouncer") {
    const haproxy = await startHaproxy(cluster, maxClients, undefined, "haproxy-of-pgbouncer");
    return (await startPgBouncer(cluster, name, POOLING, haproxy.port)).port;
  }
  const configure = (configuration: { log: Record<string, unknown> }) => {
    configuration.log["level"] = logLevel;
  };
  return (await startPgsteer(cluster, { ready: "sql", configure })).ports.write;
}

/** Starts what stands in between, and a writer through it. Tables are made on the present leader. */
export async function startPath(
  cluster: Cluster,
  name: FailoverPath,
  periodMs: number,
  logLevel: string,
): Promise<WrittenPath> {
  const table = `writes_${name.replaceAll("-", "_")}`;
  // No primary key: what was written twice shall show as two rows, not as an error.
  const columns = "id bigint NOT NULL, client_time double precision NOT NULL";
  await queryOnce(cluster.login(await cluster.requireLeader(), APPLICATION), `CREATE TABLE ${table} (${columns})`);
  const port = await portOf(cluster, name, logLevel);
  const writer = new Writer({ host: "127.0.0.1", port, ...APPLICATION }, { periodMs, table });
  writer.start();
  return { name, table, writer };
}

/** Whether its last `quietMs` were without a failure, and it writes now. */
export function isSteady({ writer }: WrittenPath, at: number, quietMs: number): boolean {
  const recent = writer.attempts.filter(({ end }) => end > at - quietMs);
  const first = writer.attempts[0]?.start ?? at;
  const latest = recent.at(-1)?.end ?? 0;
  return first < at - quietMs && at - latest < 500 && recent.every(({ outcome }) => outcome === "ok");
}
