// What moving much costs: SELECT, COPY out and COPY in of the same bytes through every path, interleaved; throughput and processor
// time of the process in between. Rows and copied lines are of 1,000 bytes each.

import Table from "cli-table3";
import { frontend } from "../test/support/raw-client.ts";
import { queryOnce } from "../test/support/sql.ts";
import { now } from "../test/support/time.ts";
import { copyIn, rowsOf } from "./backpressure.ts";
import { BulkClient } from "./bulk-client.ts";
import { processorTimeOf } from "./processor-time.ts";
import { brief } from "./report.ts";
import { ratio, rotate, type Spread, spread } from "./statistics.ts";
import { PATH_NAMES, type Path, type PathName, type Testbed } from "./testbed.ts";

const WAYS = ["SELECT", "COPY out", "COPY in"] as const;
type Way = (typeof WAYS)[number];

const GB = 1_000_000_000;
const TABLE = "bulk_in";

/** One transfer. */
export interface Transfer {
  readonly megabytesPerSecond: number;
  /** Of the process in between, per GB; null where there is none. */
  readonly processorSeconds: number | null;
}

/** All rounds of one way through one path. */
export interface BulkCell {
  readonly way: Way;
  readonly path: PathName;
  readonly transfers: readonly Transfer[];
}

const secondsOf = ({ userUs, systemUs }: { userUs: number; systemUs: number }): number => (userUs + systemUs) / 1e6;

async function move(client: BulkClient, way: Way, size: number): Promise<void> {
  if (way === "COPY in") return copyIn(client, TABLE, size);
  await client.run(frontend.query(way === "SELECT" ? rowsOf(size) : `COPY (${rowsOf(size)}) TO STDOUT`));
}

async function transfer(path: Path, way: Way, size: number): Promise<Transfer> {
  const client = await BulkClient.login(path.login);
  try {
    const [started, before] = [now(), path.pid === null ? null : processorTimeOf(path.pid)];
    await move(client, way, size);
    const seconds = (now() - started) / 1000;
    const after = path.pid === null ? null : processorTimeOf(path.pid);
    const processor = before === null || after === null ? null : secondsOf(after) - secondsOf(before);
    return {
      megabytesPerSecond: size / 1e6 / seconds,
      processorSeconds: processor === null ? null : (processor / size) * GB,
    };
  } finally {
    client.destroy();
  }
}

/** Moves `size` bytes each way through each path, `rounds` times, after one small transfer each that does not count. */
export async function measureBulk(
  testbed: Testbed,
  { size, rounds }: { readonly size: number; readonly rounds: number },
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<BulkCell[]> {
  const pooling = { poolMode: "transaction", poolSize: 20, maxClients: 100 } as const;
  const paths = new Map<PathName, Path>();
  for (const name of PATH_NAMES) paths.set(name, await testbed.path(name, pooling));
  const direct = await testbed.path("direct", pooling);
  await queryOnce(direct.login, `CREATE UNLOGGED TABLE ${TABLE} (text text)`);
  for (const path of paths.values()) for (const way of WAYS) await transfer(path, way, size / 50);
  const cells = WAYS.flatMap((way) => PATH_NAMES.map((path) => ({ way, path, transfers: [] as Transfer[] })));
  for (let round = 0; round < rounds; round += 1) {
    for (const way of WAYS) {
      for (const cell of rotate(
        cells.filter((each) => each.way === way),
        round,
      )) {
        signal.throwIfAborted();
        const path = paths.get(cell.path);
        if (path !== undefined) cell.transfers.push(await transfer(path, way, size));
        await queryOnce(direct.login, `TRUNCATE ${TABLE}`, [], 30_000);
      }
    }
    say(`round ${round + 1}/${rounds} is done`);
  }
  return cells;
}

function inWords(values: Spread | null, times: number | null): string {
  if (values === null) return "–";
  const beside = times === null ? "" : ` ×${times.toFixed(2)}`;
  return `${brief(values.median)}${beside} [${brief(values.min)}–${brief(values.max)}]`;
}

/** Throughput beside the direct connection's, processor time beside PgBouncer's. */
export function bulkTable(cells: readonly BulkCell[]): string {
  const head = ["way", "path", "MB/s, × direct", "processor s/GB, × PgBouncer"];
  const table = new Table({ head, style: { head: [], border: [], compact: true } });
  for (const { way, path, transfers } of cells) {
    const beside = (name: PathName): readonly Transfer[] =>
      cells.find((each) => each.way === way && each.path === name)?.transfers ?? [];
    const speed = transfers.map(({ megabytesPerSecond }) => megabytesPerSecond);
    const processor = transfers.map(({ processorSeconds }) => processorSeconds);
    const speeds = beside("direct").map(({ megabytesPerSecond }) => megabytesPerSecond);
    const processors = beside("pgbouncer").map(({ processorSeconds }) => processorSeconds);
    table.push([
      path === PATH_NAMES[0] ? way : "",
      path,
      inWords(spread(speed), ratio(speed, speeds)),
      inWords(spread(processor), ratio(processor, processors)),
    ]);
  }
  return table.toString();
}
