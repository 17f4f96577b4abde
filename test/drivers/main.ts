// `npm run test:drivers [-- --only psycopg3,asyncpg] [--markdown FILE] [--keep]`: the drivers that applications use, each run
// directly, in session mode and in transaction mode; SCENARIOS.md says what is run and by which contract. Exits with 1 when
// something works directly and not through pgsteer without a stated reason, when a program does not work directly, and when
// a driver could not be installed (unless that is allowed).

import { writeFileSync } from "node:fs";
import { Command } from "commander";
import { someOf } from "../support/options.ts";
import { runProgram } from "../support/programs.ts";
import { allDrivers, type Driver, prepare } from "./catalogue.ts";
import { completed, type Mode, modes, type Outcome, outcomesOf, scenarios } from "./outcome.ts";
import { type Surroundings, startSurroundings } from "./surroundings.ts";
import { brokenBy, type DriverResult, failedDirectly, idleDifferences, inMarkdown, inWords } from "./verdict.ts";

/** All scenarios at their bound of 20 s would be longer; a program that needs half of that is broken. */
const PROGRAM_TIMEOUT_MS = 400_000;

const say = (line: string): void => console.error(line);
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

interface Flags {
  readonly only?: readonly string[];
  readonly scenarios?: readonly string[];
  readonly markdown?: string;
  readonly keep?: true;
  readonly allowMissing?: true;
}

/** Prepares each driver; the reason for each that cannot be, by name. */
async function prepareAll(chosen: readonly Driver[]): Promise<Map<string, string>> {
  const missing = new Map<string, string>();
  for (const driver of chosen) {
    try {
      await prepare(driver);
    } catch (error) {
      missing.set(driver.name, messageOf(error));
      say(`${driver.name} cannot be run: ${messageOf(error)}`);
    }
  }
  return missing;
}

async function runOnce(
  driver: Driver,
  mode: Mode,
  asked: readonly string[],
  surroundings: Surroundings,
): Promise<Outcome[]> {
  const schema = `drv_${driver.name}_${mode}`.replaceAll(/[^a-z0-9_]/g, "_");
  const [command, ...args] = driver.run;
  const { code, stdout, stderr } = await runProgram(command, args, {
    cwd: driver.cwd,
    env: {
      ...surroundings.environment(mode),
      BUILD: driver.build,
      SCHEMA: schema,
      ...(asked.length < scenarios.length && { ONLY: asked.join() }),
    },
    timeoutMs: PROGRAM_TIMEOUT_MS,
  });
  await surroundings.dropSchema(schema);
  const ended = `the program ended with ${code ?? "a signal"}: ${stderr.trim().split("\n").slice(-3).join(" ")}`;
  const outcomes = completed(asked, outcomesOf(stdout), ended);
  if (code !== 0) say(`${driver.name}, ${mode}: ${ended}`);
  const failed = outcomes.filter(({ status }) => status === "failed").map(({ scenario }) => scenario);
  say(
    `${driver.name}, ${mode}: ${outcomes.length - failed.length} of ${outcomes.length}${failed.length > 0 ? `; failed: ${failed.join(", ")}` : ""}`,
  );
  return outcomes;
}

async function runDriver(driver: Driver, asked: readonly string[], surroundings: Surroundings): Promise<DriverResult> {
  const runs: Partial<Record<Mode, readonly Outcome[]>> = {};
  try {
    for (const mode of modes) runs[mode] = await runOnce(driver, mode, asked, surroundings);
  } catch (error) {
    return { driver: driver.name, notRun: messageOf(error) };
  }
  const { direct = [], session = [], transaction = [] } = runs;
  return { driver: driver.name, runs: { direct, session, transaction } };
}

async function untilInterrupted(): Promise<never> {
  await new Promise<void>((resolve) => {
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(name, () => resolve());
  });
  throw new Error("interrupted");
}

async function runAll(flags: Flags): Promise<boolean> {
  const chosen = drivers.filter(({ name }) => flags.only?.includes(name) ?? true);
  const asked = flags.scenarios ?? scenarios;
  const missing = await prepareAll(chosen);
  const surroundings = await startSurroundings();
  say(surroundings.description);
  const interrupted = untilInterrupted();
  const results: DriverResult[] = [];
  try {
    for (const driver of chosen) {
      const reason = missing.get(driver.name);
      const running = reason === undefined ? runDriver(driver, asked, surroundings) : null;
      const result =
        running === null ? { driver: driver.name, notRun: reason ?? "" } : await Promise.race([running, interrupted]);
      results.push(result);
    }
    console.log(inWords(results));
    if (flags.markdown !== undefined) writeFileSync(flags.markdown, inMarkdown(results));
    if (flags.keep === true) {
      say("everything keeps running until Ctrl-C");
      await interrupted.catch(() => {});
    }
  } finally {
    await surroundings.remove();
  }
  const unexplained = brokenBy(results).filter(({ reason }) => reason === null);
  const complete = results.every((result) => "runs" in result) || flags.allowMissing === true;
  const idle = flags.only === undefined ? idleDifferences(results) : [];
  return complete && unexplained.length === 0 && failedDirectly(results).length === 0 && idle.length === 0;
}

const drivers = allDrivers();
const program = new Command("test:drivers")
  .description("drivers and ORMs directly, in session mode and in transaction mode")
  .option(
    "--only <names>",
    `drivers: ${drivers.map(({ name }) => name).join(",")}`,
    someOf(drivers.map(({ name }) => name)),
  )
  .option("--scenarios <names>", "scenarios, as in SCENARIOS.md", someOf(scenarios))
  .option("--markdown <file>", "write the report to this file too")
  .option("--keep", "leave the servers running until Ctrl-C")
  .option("--allow-missing", "a driver that cannot be installed is no failure")
  .action(async (flags: Flags) => {
    try {
      process.exitCode = (await runAll(flags)) ? 0 : 1;
    } catch (error) {
      say(messageOf(error));
      process.exitCode = 1;
    }
  });
await program.parseAsync();
// What was interrupted may still wait for a program.
process.exit();
