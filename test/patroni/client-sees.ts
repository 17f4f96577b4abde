// The client-sees table, run: every row by every driver at once, while the leader is switched over, while its node dies, and, for reads,
// while the replica dies that they run on. Prints a table row × driver.

import Table from "cli-table3";
import { APPLICATION } from "../support/cluster.ts";
import { freePort } from "../support/ports.ts";
import { type Login, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";
import { type Held, type Row, rows, type Told } from "./client-sees-rows.ts";
import { check } from "./expect.ts";
import type { Scenario, Setup, Site } from "./site.ts";
import { type Driver, drivers, LOST, type Talker } from "./talkers.ts";
import type { Traffic } from "./traffic.ts";

let sessionPort = 0;

const crowded: Setup = {
  name: "pools for the client-sees table",
  async pgsteer() {
    sessionPort = await freePort();
    return {
      configure: ({ listeners, pool }) => {
        listeners.push({
          name: "session",
          address: "127.0.0.1",
          port: sessionPort,
          route: "write",
          pool_mode: "session",
        });
        // Each of them keeps a server.
        pool["default_pool_size"] = 80;
      },
    };
  },
};

/** One driver in one row. */
interface Cell {
  readonly row: Row;
  readonly driver: string;
  readonly mark: string;
  readonly talker: Talker;
  /** Null where the driver cannot. */
  readonly held: Held | null;
  failure: string | null;
}

const COMMON = `DROP TABLE IF EXISTS seen, slow;
  CREATE TABLE seen (who text);
  CREATE TABLE slow (who text);
  CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(120); RETURN NULL; END';
  CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION dawdle();`;

function loginOf(site: Site, { door }: Row): Login {
  return door === "session" ? { host: "127.0.0.1", port: sessionPort, ...APPLICATION } : site.pgsteer.login(door);
}

/** Brings every driver into every situation of `chosen`. */
async function assemble(site: Site, chosen: readonly Row[], cells: Cell[]): Promise<void> {
  for (const [place, row] of chosen.entries()) {
    for (const driver of drivers) {
      const talker = await driver.open(loginOf(site, row));
      const mark = `${driver.name} ${place}`;
      const held = await row.begin(talker, mark);
      // Asked for later; nobody may be left to ask when something else went wrong before.
      held?.answer?.catch(() => {});
      cells.push({ row, driver: driver.name, mark, talker, held, failure: null });
    }
  }
}

/**
 * What a driver makes of last words, found out with PostgreSQL itself: by PQexec, libpq 15 keeps the last result alone, and that
 * says no more than that the connection is gone.
 */
async function toldBy({ cluster }: Site, driver: Driver, leader: string): Promise<Told> {
  const talker = await driver.open(cluster.login(leader, APPLICATION));
  try {
    const pid = await talker.query("SELECT pg_backend_pid()");
    check(pid.ok, "no pid");
    await cluster.sql(leader, `SELECT pg_terminate_backend(${pid.ok ? pid.rows[0] : 0}, 5000)`);
    const answer = await talker.query("SELECT 1");
    check(!answer.ok, "the connection was not ended");
    return !answer.ok && answer.code === LOST ? () => LOST : (code) => code;
  } finally {
    talker.end();
  }
}

/** Waits until so many statements of the application run on `members`, the scenario's own traffic left out. */
async function busy(site: Site, members: readonly string[], count: number): Promise<void> {
  const statement = `SELECT count(*)::int AS n FROM pg_stat_activity WHERE state = 'active' AND usename = '${APPLICATION.user}'
    AND (query LIKE '%pg_sleep%' OR query LIKE 'COPY%' OR query LIKE 'COMMIT%')`;
  let sum = 0;
  const look = async (): Promise<boolean> => {
    sum = 0;
    for (const member of members) sum += Number((await site.cluster.sql(member, statement)).rows[0]?.["n"]);
    return sum === count;
  };
  await waitFor(look, { timeoutMs: 20_000, what: "see the number" }).catch((cause: unknown) => {
    throw new Error(`${sum} statements are in flight on ${members.join(", ")}, expected ${count}`, { cause });
  });
}

async function attempt(cell: Cell, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    cell.failure ??= error instanceof Error ? error.message : String(error);
  }
}

/** Those who wait ask once the leader is away. */
async function askMeanwhile(traffic: Traffic, cells: readonly Cell[]): Promise<void> {
  const waiting = cells.filter(({ row }) => row.meanwhile !== undefined);
  if (waiting.length === 0) return;
  await traffic.watch.until("no leader that takes writes", ({ writable }) => !writable);
  await Promise.all(
    waiting.map((cell) =>
      attempt(cell, async () => {
        const answer = await cell.row.meanwhile?.(cell.talker, cell.mark);
        check(answer?.ok === true, () => `the statement that waited: ${JSON.stringify(answer)}`);
      }),
    ),
  );
}

/** Every cell's expectations, then the rows that are there. */
async function judge(site: Site, cells: readonly Cell[], told: ReadonlyMap<string, Told>): Promise<void> {
  await Promise.all(
    cells.map((cell) =>
      attempt(cell, async () => {
        const hears = told.get(cell.driver) ?? ((code: string) => code);
        if (cell.held !== null) await cell.row.after(cell.talker, cell.held, cell.mark, hears);
      }),
    ),
  );
  const leader = await site.cluster.requireLeader();
  const both = "SELECT who FROM seen UNION ALL SELECT who FROM slow";
  const found = await queryOnce(site.cluster.login(leader, APPLICATION), both);
  for (const cell of cells) {
    if (cell.held === null) continue;
    const count = found.rows.filter((row) => row["who"] === cell.mark).length;
    if (count !== cell.row.rows) cell.failure ??= `${count} rows are there, expected ${cell.row.rows}`;
  }
}

function print(title: string, chosen: readonly Row[], cells: readonly Cell[]): void {
  const head = [title, ...drivers.map(({ name }) => name)];
  const table = new Table({ head, style: { head: [], border: [], compact: true } });
  const shown = (cell: Cell | undefined): string =>
    cell?.held === null ? "cannot" : cell?.failure === null ? "ok" : "FAILED";
  for (const row of chosen) {
    const cellOf = (name: string) => cells.find((cell) => cell.row === row && cell.driver === name);
    table.push([row.name, ...drivers.map(({ name }) => shown(cellOf(name)))]);
  }
  console.log(table.toString());
}

async function table(site: Site, traffic: Traffic, title: string, disturb: Disturbance): Promise<string> {
  const { cluster } = site;
  const leader = await cluster.requireLeader();
  await queryOnce(cluster.login(leader, APPLICATION), COMMON);
  await cluster.waitHealthy();
  const told = new Map<string, Told>();
  for (const driver of drivers) told.set(driver.name, await toldBy(site, driver, leader));
  const cells: Cell[] = [];
  try {
    await assemble(site, disturb.rows, cells);
    const inFlight = (door: (cell: Cell) => boolean): number =>
      cells.filter((cell) => cell.row.busy && cell.held !== null && door(cell)).length;
    await busy(
      site,
      [leader],
      inFlight(({ row }) => row.door !== "read"),
    );
    const done = disturb.run(site, leader, traffic);
    await askMeanwhile(traffic, cells);
    await done;
    await judge(site, cells, told);
  } finally {
    for (const { talker } of cells) talker.end();
  }
  print(`${site.program.version}, ${title}`, disturb.rows, cells);
  const failed = cells.filter(({ failure }) => failure !== null);
  check(failed.length === 0, () =>
    failed.map(({ row, driver, failure }) => `${row.name}, ${driver}: ${failure}`).join("\n"),
  );
  return `${cells.filter(({ held }) => held !== null).length} cells, all as written`;
}

/** What happens to the cluster, and which rows it is for. */
interface Disturbance {
  readonly rows: readonly Row[];
  run(site: Site, leader: string, traffic: Traffic): Promise<unknown>;
}

const scenario = (
  title: string,
  disturbance: Disturbance,
  settled: (site: Site, old: string) => Promise<unknown>,
): Scenario => ({
  name: `client-sees: ${title}`,
  setup: crowded,
  async run(site, traffic) {
    const old = await site.cluster.requireLeader();
    const seen = await table(site, traffic, title, disturbance);
    await settled(site, old);
    await site.settle(traffic);
    await traffic.writer.nextAcknowledged();
    return seen;
  },
});

/** Kills one replica's PostgreSQL, and once it is back that of the other, where all the reads run by then: each dies under all. */
async function killReplicas(site: Site, traffic: Traffic): Promise<void> {
  const [first = "", second = ""] = await site.cluster.replicas();
  await busy(site, [first, second], drivers.length);
  await site.cluster.killPostgres(first);
  await busy(site, [second], drivers.length);
  await traffic.watch.until(`${first} readable`, ({ members }) =>
    members.some(({ name, readable }) => name === first && readable),
  );
  await site.cluster.killPostgres(second);
}

export const clientSees: readonly Scenario[] = [
  scenario("in a switchover", { rows, run: (site) => site.cluster.switchover() }, async () => {}),
  scenario(
    "when the leader's node is killed",
    { rows, run: (site, leader) => site.cluster.killNode(leader) },
    (site, old) => site.cluster.startMember(old),
  ),
  scenario(
    "when the replicas are killed in turn",
    { rows: rows.filter(({ door }) => door === "read"), run: (site, _leader, traffic) => killReplicas(site, traffic) },
    async () => {},
  ),
];
