// What it costs pgsteer when one side is faster than the other: resident memory above that of the idle process, at its peak, while
// readers are slow or stand still, servers do, or everything is large. And whether a bystander notices.

import { readFileSync } from "node:fs";
import Table from "cli-table3";
import { type Pgsteer, startPgsteer } from "../test/support/pgsteer.ts";
import { signal as sendSignal } from "../test/support/procfs.ts";
import { frontend, RawClient } from "../test/support/raw-client.ts";
import { type Login, queryOnce } from "../test/support/sql.ts";
import { now, sleep } from "../test/support/time.ts";
import { BulkClient } from "./bulk-client.ts";
import { Bystander, type Seen } from "./bystander.ts";
import { parseResidentBytes } from "./processor-time.ts";
import { BenchError, type Testbed } from "./testbed.ts";

/** Peak above idle that no scenario may exceed, in MB. */
export const BOUND_MB = 32;
const MB = 1_000_000;
const SAMPLE_MS = 25;
/** Rows of this many bytes make up what is large. */
const ROW_BYTES = 1000;

const rows = (bytes: number): string => `generate_series(1, ${Math.ceil(bytes / ROW_BYTES)})`;
/** SQL that gives `bytes` bytes in rows. */
export const rowsOf = (bytes: number): string => `SELECT repeat('x', ${ROW_BYTES}) FROM ${rows(bytes)}`;

/** One thing that happens to pgsteer. `size` is the bytes of something large, `pause` how long somebody stands still, in ms. */
interface Scenario {
  readonly name: string;
  run(login: Login, size: number, pauseMs: number): Promise<void>;
}

/** What came of it. */
export interface Outcome {
  readonly name: string;
  readonly idleMb: number;
  readonly peakAboveMb: number;
  readonly seconds: number;
  readonly bystander: Seen;
}

export interface BackpressureOptions {
  /** Bytes of what is large; 1 GB is what the names say. */
  readonly size: number;
  readonly pauseMs: number;
  /** Part of the names of the scenarios to run; all by default. */
  readonly only: string | null;
}

async function withClient(login: Login, work: (client: BulkClient) => Promise<void>): Promise<void> {
  const client = await BulkClient.login(login);
  try {
    await work(client);
  } finally {
    client.destroy();
  }
}

/** Reads an answer slowly for a while, then as fast as it comes. */
async function slowThenFast(client: BulkClient, query: string, rate: number, pauseMs: number): Promise<void> {
  const target = client.received.ready + 1;
  client.pace(rate);
  await client.send(frontend.query(query));
  await sleep(pauseMs);
  client.pace(null);
  await client.untilReady(target);
}

const slowReader: Scenario = {
  name: "1 GB of rows, read at 1 MB/s, then at full speed",
  run: (login, size, pauseMs) => withClient(login, (client) => slowThenFast(client, rowsOf(size), MB, 2 * pauseMs)),
};

const hugeRow: Scenario = {
  name: "one row of 900 MB",
  run: (login, size) =>
    withClient(login, async (client) => {
      const wanted = Math.floor(size * 0.9);
      const received = await client.run(frontend.query(`SELECT repeat('x', ${wanted})`));
      if (received < wanted) throw new BenchError(`${received} bytes of ${wanted}`);
    }),
};

const smallPortions: Scenario = {
  name: "100,000 rows, fetched 10 at a time",
  run: async (login) => {
    const client = await RawClient.login(login);
    try {
      client.send(frontend.parse("SELECT generate_series(1, 100000)"), frontend.bind());
      for (let ended = false; !ended; ) {
        client.send(frontend.execute(10), frontend.flush());
        for (let next = await client.next(); ; next = await client.next()) {
          if (next === null || next.type === "E") throw new BenchError("the portal failed");
          if (next.type === "C") ended = true;
          if (next.type === "C" || next.type === "s") break;
        }
      }
      client.send(frontend.sync());
      await client.untilReady();
    } finally {
      client.destroy();
    }
  },
};

/** Sends COPY data of `size` bytes as fast as it is taken. */
export async function copyIn(client: BulkClient, table: string, size: number): Promise<void> {
  const target = client.received.ready + 1;
  await client.send(frontend.query(`COPY ${table} FROM STDIN`));
  const line = Buffer.from(`${"x".repeat(ROW_BYTES - 1)}\n`);
  const data = frontend.copyData(Buffer.concat(Array.from({ length: 60 }, () => line)));
  for (let sent = 0; sent < size; sent += 60 * ROW_BYTES) await client.send(data);
  await client.send(frontend.copyDone());
  await client.untilReady(target);
}

const slowServer: Scenario = {
  name: "COPY of 1 GB into a server that stands still",
  run: async (login, size, pauseMs) => {
    const table = "copied_slowly";
    await queryOnce(login, `CREATE UNLOGGED TABLE ${table} (text text)`);
    await withClient(login, async (client) => {
      const backends = `SELECT pid FROM pg_stat_activity WHERE query LIKE 'COPY ${table}%' AND state = 'active'`;
      const copying = copyIn(client, table, size);
      await sleep(1000);
      const { rows: found } = await queryOnce(login, backends);
      const pids = found.map(({ pid }) => Number(pid));
      if (pids.length === 0) throw new BenchError("the copy has ended already");
      try {
        for (const pid of pids) sendSignal(pid, "SIGSTOP");
        await sleep(pauseMs / 2);
      } finally {
        for (const pid of pids) sendSignal(pid, "SIGCONT");
      }
      await copying;
    });
    await queryOnce(login, `DROP TABLE ${table}`, [], 30_000);
  },
};

const stoppedReader: Scenario = {
  name: "COPY of 1 GB to a reader that stands still, then reads",
  run: (login, size, pauseMs) =>
    withClient(login, (client) => slowThenFast(client, `COPY (${rowsOf(size)}) TO STDOUT`, 0, pauseMs)),
};

const SLOW_READERS = 100;

const manySlowReaders: Scenario = {
  name: `${SLOW_READERS} slow readers of 50 MB each`,
  run: async (login, size, pauseMs) => {
    const query = rowsOf(size / 20);
    const read = (client: BulkClient) => slowThenFast(client, query, MB / 5, pauseMs);
    await Promise.all(Array.from({ length: SLOW_READERS }, () => withClient(login, read)));
  },
};

const PIPELINED = 100_000;

/** Sends everything, reads nothing for a while, then reads it all. */
function unreadPipeline(name: string, message: Buffer): Scenario {
  return {
    name,
    run: (login, _size, pauseMs) =>
      withClient(login, async (client) => {
        client.pace(0);
        client.push(Buffer.concat(Array.from({ length: PIPELINED }, () => message)));
        await sleep(pauseMs / 2);
        client.pace(null);
        await client.untilReady(PIPELINED);
      }),
  };
}

const unreadAnswers: Scenario = {
  name: "a query of 50 kB every millisecond, unread",
  run: (login, _size, pauseMs) =>
    withClient(login, async (client) => {
      const query = frontend.query("SELECT repeat('x', 50000)");
      client.pace(0);
      const until = now() + pauseMs / 2;
      let sent = 0;
      for (; now() < until; sent += 1) {
        client.push(query);
        await sleep(1);
      }
      client.pace(null);
      await client.untilReady(sent);
    }),
};

const scenarios: readonly Scenario[] = [
  slowReader,
  hugeRow,
  smallPortions,
  slowServer,
  stoppedReader,
  manySlowReaders,
  unreadPipeline(`${PIPELINED} small queries, answers unread for a while`, frontend.query("SELECT 1")),
  unreadPipeline(`${PIPELINED} extended queries, answers unread for a while`, frontend.extended("SELECT 1")),
  unreadAnswers,
];

const residentMb = (pid: number): number => parseResidentBytes(readFileSync(`/proc/${pid}/status`, "latin1")) / MB;

/** Some hundred queries, so that what any work makes the process grow by does not count. */
async function warmUp(login: Login): Promise<void> {
  await withClient(login, async (client) => {
    for (let count = 0; count < 300; count += 1) await client.run(frontend.extended("SELECT 1"));
    for (let count = 0; count < 20; count += 1) await client.run(frontend.query(rowsOf(MB)));
  });
  await sleep(500);
}

async function measure(
  directory: string,
  pgsteer: Pgsteer,
  scenario: Scenario,
  { size, pauseMs }: BackpressureOptions,
): Promise<Outcome> {
  const login = pgsteer.login("write");
  await warmUp(login);
  const idleMb = residentMb(pgsteer.pid);
  const bystander = await Bystander.start(directory, login.port);
  let peak = idleMb;
  const timer = setInterval(() => {
    peak = Math.max(peak, residentMb(pgsteer.pid));
  }, SAMPLE_MS);
  const before = now();
  try {
    await scenario.run(login, size, pauseMs);
  } finally {
    clearInterval(timer);
  }
  const seconds = (now() - before) / 1000;
  return {
    name: scenario.name,
    idleMb,
    peakAboveMb: peak - idleMb,
    seconds,
    bystander: await bystander.stop(),
  };
}

/** Runs the scenarios, each with a pgsteer of its own. */
export async function measureBackpressure(
  testbed: Testbed,
  options: BackpressureOptions,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const [index, scenario] of scenarios.entries()) {
    if (options.only !== null && !scenario.name.includes(options.only)) continue;
    signal.throwIfAborted();
    const pgsteer = await startPgsteer(testbed.cluster, {
      name: `backpressure-${index}`,
      ready: "sql",
      configure: ({ pool }) => {
        pool["default_pool_size"] = SLOW_READERS + 10;
        pool["max_client_conn"] = 2 * SLOW_READERS;
      },
    });
    try {
      const outcome = await measure(testbed.cluster.directory, pgsteer, scenario, options);
      outcomes.push(outcome);
      say(`${outcome.name}: ${outcome.peakAboveMb.toFixed(1)} MB above ${outcome.idleMb.toFixed(0)}`);
    } finally {
      await pgsteer.stop();
    }
  }
  return outcomes;
}

export function backpressureTable(outcomes: readonly Outcome[]): string {
  const head = ["scenario", "idle MB", "peak MB above", "seconds", "bystander: queries", "p99 ms", "max ms"];
  const table = new Table({ head, style: { head: [], border: [], compact: true } });
  for (const { name, idleMb, peakAboveMb, seconds, bystander } of outcomes) {
    const { queries, p99Ms, maxMs } = bystander;
    const peak = `${peakAboveMb.toFixed(1)}${peakAboveMb > BOUND_MB ? ` > ${BOUND_MB}` : ""}`;
    const latencies = [p99Ms === null ? "–" : p99Ms.toFixed(1), maxMs.toFixed(1)];
    table.push([name, idleMb.toFixed(0), peak, seconds.toFixed(1), String(queries), ...latencies]);
  }
  return table.toString();
}
