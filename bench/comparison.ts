// Measures one load through all paths, interleaved: in each round each path is measured once per load, in a rotating order,
// so that what disturbs the machine for a while disturbs all of them.

import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Pooling, PoolMode } from "./peers.ts";
import { parseLatencies, parseSummary } from "./pgbench-output.ts";
import { processorTimeOf } from "./processor-time.ts";
import { percentile, rotate } from "./statistics.ts";
import {
  BenchError,
  type Path,
  type PathName,
  pgbenchThreads,
  SERVER_CONNECTIONS_MAX,
  type Testbed,
} from "./testbed.ts";

export type Protocol = "simple" | "extended" | "prepared";

/** What clients do. */
export interface Load {
  readonly protocol: Protocol;
  readonly clients: number;
  /** Connects and logs in for each transaction. */
  readonly reconnect: boolean;
}

export interface ComparisonOptions {
  readonly seconds: number;
  readonly rounds: number;
  readonly loads: readonly Load[];
  readonly paths: readonly PathName[];
  readonly poolMode: PoolMode;
  readonly poolSize: number;
  /** Transactions per second at which all paths are driven; null: as fast as each can. */
  readonly rate: number | null;
}

/** One run of pgbench through one path. */
export interface Sample {
  readonly tps: number;
  readonly latencyMs: number;
  /** Of a sample of the transactions; null where pgbench's log does not have it. */
  readonly p99Ms: number | null;
  /** Processor time per transaction of the process in between, in microseconds; null for the direct path. */
  readonly userUs: number | null;
  readonly systemUs: number | null;
  readonly processorUs: number | null;
}

/** All rounds of one path under one load, in their order. */
export interface Cell {
  readonly load: Load;
  readonly path: PathName;
  readonly pooling: Pooling;
  readonly samples: readonly Sample[];
}

/** Share of the transactions that pgbench logs one by one: enough for a 99th percentile, too little to slow it down. */
const LOGGED_SHARE = 0.1;
/** Transactions per client before anything is measured: connections are made, the hot code is compiled. */
const WARM_UP_TRANSACTIONS = 400;
const WARM_UP_CONNECTIONS = 100;

/**
 * How a path pools under a load. Named prepared statements tie a client of PgBouncer 1.18 (session mode is all it has for
 * them) and of pgsteer to a server of its own: then both get as many servers as there are clients.
 */
export function poolingFor(path: PathName, load: Load, options: ComparisonOptions): Pooling {
  const clientsMax = Math.max(...options.loads.map(({ clients }) => clients));
  const maxClients = clientsMax + 100;
  const ties = load.protocol === "prepared" || options.poolMode === "session";
  return {
    poolMode: ties && path === "pgbouncer" ? "session" : options.poolMode,
    poolSize: ties ? Math.max(options.poolSize, clientsMax) : options.poolSize,
    maxClients,
  };
}

/** Throws where all paths together would need more server connections than the testbed's PostgreSQL has. */
export function checkSize({ loads, poolSize }: ComparisonOptions): void {
  const clientsMax = Math.max(...loads.map(({ clients }) => clients));
  // The shared pools of two poolers; a server for each client through all four paths; probes and Patroni.
  const servers = 2 * poolSize + 4 * clientsMax + 20;
  if (servers <= SERVER_CONNECTIONS_MAX) return;
  throw new BenchError(
    `${clientsMax} clients and pools of ${poolSize} need up to ${servers} server connections, there are ${SERVER_CONNECTIONS_MAX}`,
  );
}

function loadArguments(load: Load): string[] {
  const { protocol, clients, reconnect } = load;
  const threads = String(pgbenchThreads(clients));
  return ["-n", "-S", "-M", protocol, "-c", String(clients), "-j", threads, ...(reconnect ? ["-C"] : [])];
}

/** The latencies that pgbench logged, whose files are gone afterwards. */
function takeLatencies(directory: string, prefix: string): number[] {
  const files = readdirSync(directory).filter((file) => file.startsWith(`${prefix}.`));
  return files.flatMap((file) => {
    const path = join(directory, file);
    const latencies = parseLatencies(readFileSync(path, "latin1"));
    rmSync(path);
    return latencies;
  });
}

async function measure(
  testbed: Testbed,
  path: Path,
  load: Load,
  options: ComparisonOptions,
  signal: AbortSignal,
): Promise<Sample> {
  const prefix = "transactions";
  // Of a transaction that connects first, the log has the time after connecting alone: no use here.
  const logging = load.reconnect ? [] : ["-l", `--log-prefix=${prefix}`, `--sampling-rate=${LOGGED_SHARE}`];
  const pace = options.rate === null ? [] : ["-R", String(options.rate)];
  const before = path.pid === null ? null : processorTimeOf(path.pid);
  const args = [...loadArguments(load), "-T", String(options.seconds), ...pace, ...logging];
  const summary = parseSummary(await testbed.pgbench(path, args, signal));
  const after = path.pid === null ? null : processorTimeOf(path.pid);
  if (summary.failed > 0) throw new BenchError(`${summary.failed} transactions failed through ${path.name}`);
  const latencies = takeLatencies(testbed.cluster.directory, prefix);
  const { tps, latencyMs, transactions } = summary;
  const measured = { tps, latencyMs, p99Ms: percentile(latencies, 0.99) };
  if (before === null || after === null) return { ...measured, userUs: null, systemUs: null, processorUs: null };
  const userUs = (after.userUs - before.userUs) / transactions;
  const systemUs = (after.systemUs - before.systemUs) / transactions;
  return { ...measured, userUs, systemUs, processorUs: userUs + systemUs };
}

async function warmUp(testbed: Testbed, cells: readonly Cell[], signal: AbortSignal): Promise<void> {
  const done = new Set<string>();
  for (const { load, path, pooling } of cells) {
    const key = JSON.stringify([path, pooling, load.protocol]);
    if (done.has(key)) continue;
    done.add(key);
    const count = load.reconnect ? WARM_UP_CONNECTIONS : WARM_UP_TRANSACTIONS;
    const args = [...loadArguments(load), "-t", String(count)];
    await testbed.pgbench(await testbed.path(path, pooling), args, signal);
  }
}

/** Runs the whole comparison. `say` hears of each line of measurements; an aborted `signal` ends it with an error. */
export async function compare(
  testbed: Testbed,
  options: ComparisonOptions,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<Cell[]> {
  const rows = options.loads.map((load) =>
    options.paths.map((path) => {
      const samples: Sample[] = [];
      return { load, path, pooling: poolingFor(path, load, options), samples };
    }),
  );
  await warmUp(testbed, rows.flat(), signal);
  for (let round = 0; round < options.rounds; round += 1) {
    for (const [index, row] of rows.entries()) {
      for (const cell of rotate(row, round + index)) {
        const path = await testbed.path(cell.path, cell.pooling);
        cell.samples.push(await measure(testbed, path, cell.load, options, signal));
      }
      const tps = row.map(({ path, samples }) => `${path} ${(samples.at(-1)?.tps ?? 0).toFixed(0)}`);
      const load = options.loads[index];
      say(`round ${round + 1}/${options.rounds}, ${load?.protocol}, ${load?.clients} clients: ${tps.join(" · ")} tps`);
    }
  }
  return rows.flat();
}
