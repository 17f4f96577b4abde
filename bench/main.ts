// `npm run bench -- pgbench | connect | idle | …`: pgsteer beside PgBouncer, HAProxy and no router at all, in one run on one
// machine. README.md says what is measured and how to read it.

import { Command, Option } from "commander";
import { APPLICATION } from "../test/support/cluster.ts";
import { someOf, wholeNumber } from "../test/support/options.ts";
import { backpressureTable, measureBackpressure } from "./backpressure.ts";
import { bulkTable, measureBulk } from "./bulk.ts";
import { serveBystander } from "./bystander.ts";
import { type ComparisonOptions, checkSize, compare, type Load, type Protocol } from "./comparison.ts";
import { measureFailover } from "./failover.ts";
import { EVENT_KINDS, type EventKind, type FailoverEvent } from "./failover-account.ts";
import { FAILOVER_PATHS, type FailoverPath } from "./failover-paths.ts";
import { eventsTable, failoverNotes, failoverTable } from "./failover-report.ts";
import { idleCost, idleTable } from "./idle.ts";
import { serveIdleClients } from "./idle-clients.ts";
import { describeSurroundings, surroundingsInWords } from "./machine.ts";
import type { PoolMode } from "./peers.ts";
import { disturbance, machineTime } from "./processor-time.ts";
import { profilesInWords } from "./profile.ts";
import { comparisonTable, footnotes, noiseInWords, reportDirectory, sumUp, writeReport } from "./report.ts";
import { BenchError, PATH_NAMES, type PathName, Testbed } from "./testbed.ts";

const say = (line: string): void => console.error(line);

const PROTOCOLS: readonly Protocol[] = ["simple", "extended", "prepared"];

const count = wholeNumber();

function counts(written: string): number[] {
  return written.split(",").map(count);
}

/** Aborted by Ctrl-C; the second one ends the process at once, and the servers' reaper ends the rest. */
function untilInterrupted(): AbortSignal {
  const stopping = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, () => stopping.abort());
  return stopping.signal;
}

/** Starts a testbed for `work`; it is removed afterwards, or, after a failure, stopped with its logs left where it says. */
async function withTestbed(
  scale: number,
  profiles: string | null,
  work: (testbed: Testbed, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const signal = untilInterrupted();
  say("starting PostgreSQL");
  const interrupted = () => new BenchError("interrupted; everything is stopped");
  const testbed = await Testbed.start(scale, profiles, signal).catch((error) => {
    throw signal.aborted ? interrupted() : error;
  });
  try {
    await work(testbed, signal);
  } catch (error) {
    if (signal.aborted) {
      await testbed.remove();
      throw interrupted();
    }
    await testbed.stop();
    say(`the servers' logs are in ${testbed.cluster.directory}`);
    throw error;
  }
  await testbed.remove();
}

async function runComparison(
  kind: string,
  flags: { readonly scale: number; readonly cpuProf?: true },
  options: ComparisonOptions,
): Promise<void> {
  checkSize(options);
  const { scale } = flags;
  const surroundings = describeSurroundings();
  const profiles = flags.cpuProf === true ? reportDirectory(`${kind}-profile`) : null;
  await withTestbed(scale, profiles, async (testbed, signal) => {
    const { directory } = testbed.cluster;
    const before = machineTime(directory);
    const cells = sumUp(await compare(testbed, options, say, signal));
    const disturbed = disturbance(before, machineTime(directory));
    const { seconds, rounds, poolMode, poolSize, rate } = options;
    const pace = rate === null ? "as fast as each can" : `${rate} transactions/s`;
    const parameters = `${rounds} rounds of ${seconds} s, ${pace}, scale ${scale}, ${poolMode} mode, pool size ${poolSize}`;
    const noise = noiseInWords(cells, disturbed);
    const file = writeReport(kind, {
      ...surroundings,
      parameters: { scale, ...options },
      disturbance: disturbed,
      cells,
    });
    const notes = footnotes(cells).map((note) => `  ${note}`);
    const header = surroundingsInWords(surroundings);
    for (const line of [...header, parameters, comparisonTable(cells), noise, ...notes, file]) console.log(line);
    if (profiles === null) return;
    await testbed.stopPeers();
    for (const line of profilesInWords(profiles)) console.log(line);
  });
}

interface CommonFlags {
  readonly seconds: number;
  readonly rounds: number;
  readonly clients: number[];
  readonly paths: PathName[];
  readonly poolMode: PoolMode;
  readonly poolSize: number;
  readonly scale: number;
  readonly cpuProf?: true;
}

interface PgbenchFlags extends CommonFlags {
  readonly protocols: Protocol[];
  readonly rate?: number;
  readonly quick?: true;
}

async function pgbench(flags: PgbenchFlags): Promise<void> {
  const quick = flags.quick === true;
  const clients = quick ? flags.clients.slice(0, 1) : flags.clients;
  const loads = flags.protocols.flatMap((protocol) =>
    clients.map((each): Load => ({ protocol, clients: each, reconnect: false })),
  );
  const { seconds, rounds, paths, poolMode, poolSize } = flags;
  const length = quick ? { seconds: 1, rounds: 2 } : { seconds, rounds };
  await runComparison("pgbench", flags, { ...length, loads, paths, poolMode, poolSize, rate: flags.rate ?? null });
}

async function connect(flags: CommonFlags): Promise<void> {
  const { seconds, rounds, clients, paths, poolMode, poolSize } = flags;
  const loads = clients.map((each): Load => ({ protocol: "simple", clients: each, reconnect: true }));
  await runComparison("connect", flags, { seconds, rounds, loads, paths, poolMode, poolSize, rate: null });
}

async function idle({ clients }: { clients: number }): Promise<void> {
  const surroundings = describeSurroundings();
  await withTestbed(0, null, async (testbed, signal) => {
    const costs = [];
    for (const name of ["pgbouncer", "pgsteer"] as const) {
      say(`opening ${clients} clients through ${name}`);
      const pooling = { poolMode: "transaction", poolSize: 20, maxClients: clients + 100 } as const;
      costs.push(await idleCost(testbed, await testbed.path(name, pooling), clients, signal));
    }
    const file = writeReport("idle", { ...surroundings, costs });
    for (const line of [...surroundingsInWords(surroundings), idleTable(costs), file]) console.log(line);
  });
}

async function backpressure(flags: { megabytes: number; seconds: number; only?: string }): Promise<void> {
  const surroundings = describeSurroundings();
  const options = { size: flags.megabytes * 1_000_000, pauseMs: flags.seconds * 1000, only: flags.only ?? null };
  await withTestbed(0, null, async (testbed, signal) => {
    const outcomes = await measureBackpressure(testbed, options, say, signal);
    const file = writeReport("backpressure", { ...surroundings, parameters: options, outcomes });
    for (const line of [...surroundingsInWords(surroundings), backpressureTable(outcomes), file]) console.log(line);
  });
}

async function bulk({ megabytes, rounds }: { megabytes: number; rounds: number }): Promise<void> {
  const surroundings = describeSurroundings();
  const options = { size: megabytes * 1_000_000, rounds };
  await withTestbed(0, null, async (testbed, signal) => {
    const before = machineTime(testbed.cluster.directory);
    const cells = await measureBulk(testbed, options, say, signal);
    const { others } = disturbance(before, machineTime(testbed.cluster.directory));
    const file = writeReport("bulk", { ...surroundings, parameters: options, others, cells });
    const noise = `of the machine's processor time other processes took ${(others * 100).toFixed(0)} %`;
    for (const line of [...surroundingsInWords(surroundings), bulkTable(cells), noise, file]) console.log(line);
  });
}

interface FailoverFlags {
  readonly events: number;
  readonly kinds: EventKind[];
  readonly paths: FailoverPath[];
  readonly period: number;
  readonly ttl: number;
  readonly loopWait: number;
  readonly logLevel: string;
  readonly keep?: true;
}

/** What was measured until then is told also after a failure or Ctrl-C. */
async function failover({ period, keep, ...flags }: FailoverFlags): Promise<void> {
  const surroundings = describeSurroundings();
  const events: FailoverEvent[] = [];
  const options = { ...flags, periodMs: period, keep: keep === true };
  const begun = Date.now();
  const tell = (noise: string): void => {
    if (events.length === 0) return;
    const file = writeReport("failover", { ...surroundings, parameters: options, noise, events });
    const { ttl, loopWait } = flags;
    const minutes = ((Date.now() - begun) / 60_000).toFixed(1);
    const parameters = `three members, ttl ${ttl} s, loop_wait ${loopWait} s; each path a write every ${period} ms; ${minutes} minutes`;
    const lines = [...surroundingsInWords(surroundings), `${parameters}; ${noise}`];
    const notes = failoverNotes(events).map((note) => `  ${note}`);
    for (const line of [...lines, failoverTable(events), eventsTable(events), ...notes, file]) console.log(line);
  };
  try {
    const { others, stolen } = await measureFailover(options, say, (event) => events.push(event), untilInterrupted());
    const [other, host] = [others, stolen].map((share) => `${(share * 100).toFixed(0)} %`);
    tell(`of the machine's processor time other processes took ${other}, its host ${host}`);
  } catch (error) {
    tell("not finished");
    throw error;
  }
}

const program = new Command("bench").description("pgsteer beside PgBouncer, HAProxy and a direct connection");

function comparisonCommand(name: string, description: string, defaults: { clients: number[]; scale: number }): Command {
  const mode = new Option("--pool-mode <mode>", "of PgBouncer and pgsteer").choices(["transaction", "session"]);
  return program
    .command(name)
    .description(description)
    .option("--seconds <n>", "length of one run", count, 3)
    .option("--rounds <n>", "runs of each path under each load", count, 3)
    .option("--clients <n,…>", "clients of pgbench", counts, defaults.clients)
    .option("--paths <p,…>", "ways to PostgreSQL", someOf(PATH_NAMES), [...PATH_NAMES])
    .addOption(mode.default("transaction"))
    .option("--pool-size <n>", "servers of a pool", count, 20)
    .option("--scale <n>", "of pgbench's tables", count, defaults.scale)
    .option("--cpu-prof", "profile pgsteer, which slows it, and say where its time goes");
}

comparisonCommand("pgbench", "select-only transactions", { clients: [16, 64], scale: 10 })
  .option("--protocols <p,…>", "query protocols", someOf(PROTOCOLS), [...PROTOCOLS])
  .option("--rate <n>", "transactions per second for every path, to compare latency at equal load", count)
  .option("--quick", "the first client count alone, in 40 seconds")
  .action(pgbench);
comparisonCommand("connect", "connect, log in, one query, disconnect", { clients: [8], scale: 1 }).action(connect);
program
  .command("idle")
  .description("memory per idle client")
  .option("--clients <n>", "idle clients", count, 1000)
  .action(idle);
program
  .command("backpressure")
  .description("memory while one side is slower than the other")
  .option("--megabytes <n>", "of what is large", count, 1000)
  .option("--seconds <n>", "that somebody stands still", count, 10)
  .option("--only <text>", "the scenarios whose names have it")
  .action(backpressure);
program
  .command("bulk")
  .description("SELECT and COPY of 1 GB, through every path")
  .option("--megabytes <n>", "that are moved at a time", count, 1000)
  .option("--rounds <n>", "transfers of each kind through each path", count, 3)
  .action(bulk);
program
  .command("failover")
  .description("what a change of leader costs, through pgsteer, HAProxy and PgBouncer at once")
  .option("--events <n>", "of each kind", count, 5)
  .option("--kinds <k,…>", "what is done to the leader", someOf(EVENT_KINDS), [...EVENT_KINDS])
  .option("--paths <p,…>", "ways to the leader", someOf(FAILOVER_PATHS), [...FAILOVER_PATHS])
  .option("--period <ms>", "between two writes through a path", count, 10)
  .option("--ttl <s>", "of the leader key; Patroni takes 20 or more", count, 20)
  .option("--loop-wait <s>", "of Patroni", count, 1)
  .option("--log-level <level>", "of pgsteer", "info")
  .option("--keep", "leave the servers' logs behind")
  .action(failover);
program
  .command("bystander", { hidden: true })
  .argument("<port>", "where to connect", count)
  .action((port: number) => serveBystander({ host: "127.0.0.1", port, ...APPLICATION }));
program
  .command("idle-clients", { hidden: true })
  .argument("<port>", "where to connect", count)
  .action((port: number) => serveIdleClients({ host: "127.0.0.1", port, ...APPLICATION }));

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof BenchError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
// What keeps an event loop alive here is over: idle HTTP connections of health checks.
process.exit();
