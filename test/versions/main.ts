// `npm run test:versions [-- --only 17,18]`: pgsteer in front of a primary and a replica of every major version of PostgreSQL, one
// common list of checks, a table of what came out. Exits with 1 when anything failed.

import Table from "cli-table3";
import { Command } from "commander";
import { someOf } from "../support/options.ts";
import { clusterChecks } from "./cluster-checks.ts";
import { hbaChecks } from "./hba-checks.ts";
import { loginChecks } from "./login-checks.ts";
import { binariesOf, MAJORS, obstacle } from "./packages.ts";
import { protocolChecks } from "./protocol-checks.ts";
import { sessionChecks } from "./session-checks.ts";
import { type Check, Trial } from "./trial.ts";

/** In the order in which they run: the last one leaves the pair without its primary. */
const checks: readonly Check[] = [...loginChecks, ...hbaChecks, ...protocolChecks, ...sessionChecks, ...clusterChecks];
/** Lines of a failure that are shown: two lists of settings would hide everything else. */
const SHOWN_LINES = 24;
/** No check takes longer on a machine that works. */
const CHECK_TIMEOUT_MS = 120_000;

type Outcome =
  | { readonly kind: "passed" | "not there"; readonly text: string }
  | { readonly kind: "failed"; readonly why: string };

async function outcomeOf(check: Check, trial: Trial): Promise<Outcome> {
  if (trial.major < (check.since ?? 0)) return { kind: "not there", text: `since ${check.since}` };
  let timer: NodeJS.Timeout | null = null;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error("did not end in time")), CHECK_TIMEOUT_MS);
  });
  try {
    return { kind: "passed", text: (await Promise.race([check.run(trial), late])) ?? "ok" };
  } catch (error) {
    return { kind: "failed", why: error instanceof Error ? error.message : String(error) };
  } finally {
    if (timer !== null) clearTimeout(timer);
    trial.tidy();
  }
}

/** Runs all checks on one major; those that a failed start leaves undone have failed. */
async function outcomesOf(major: number): Promise<Map<Check, Outcome>> {
  const outcomes = new Map<Check, Outcome>();
  let trial: Trial | null = null;
  try {
    trial = await Trial.start(major, binariesOf(major));
    for (const check of checks) {
      const outcome = await outcomeOf(check, trial);
      outcomes.set(check, outcome);
      if (outcome.kind !== "failed") continue;
      console.error(`${major}: ${check.name}: ${outcome.why.split("\n").slice(0, SHOWN_LINES).join("\n")}`);
      console.error(`pgsteer's log ends:\n${trial.pgsteer.process.tail(6)}`);
    }
    if (!trial.pgsteer.process.alive()) throw new Error(`pgsteer has ended:\n${trial.pgsteer.process.tail()}`);
  } catch (error) {
    console.error(`${major}:`, error);
    for (const check of checks) {
      if (!outcomes.has(check)) outcomes.set(check, { kind: "failed", why: "PostgreSQL or pgsteer did not start" });
    }
    const last = checks.at(-1);
    if (last !== undefined) outcomes.set(last, { kind: "failed", why: "see above" });
  } finally {
    await trial?.remove();
  }
  return outcomes;
}

/** The majors that the command line names; all by default. */
function chosen(): number[] {
  const names = MAJORS.map(String);
  const { only } = new Command("npm run test:versions --")
    .description("What clients see through pgsteer on every supported version of PostgreSQL.")
    .option("--only <majors>", `some of ${names.join(",")}`, someOf(names), names)
    .parse()
    .opts<{ only: readonly string[] }>();
  return only.map(Number);
}

async function main(): Promise<number> {
  const hindrance = obstacle();
  if (hindrance !== null) {
    console.error(hindrance);
    return 1;
  }
  const majors = chosen();
  const columns: Map<Check, Outcome>[] = [];
  for (const major of majors) {
    console.error(`PostgreSQL ${major}`);
    columns.push(await outcomesOf(major));
  }
  const head = ["check", ...majors.map(String)];
  const table = new Table({ head, style: { head: [], border: [], compact: true } });
  const shown = (outcome: Outcome | undefined): string =>
    outcome === undefined || outcome.kind === "failed" ? "FAILED" : outcome.text;
  for (const check of checks) table.push([check.name, ...columns.map((column) => shown(column.get(check)))]);
  console.log(table.toString());
  const all = columns.flatMap((column) => [...column.values()]);
  const count = (kind: Outcome["kind"]): number => all.filter((outcome) => outcome.kind === kind).length;
  const failed = count("failed");
  console.log(`${count("passed")} passed, ${failed} failed, ${count("not there")} about what a version lacks`);
  return failed > 0 ? 1 : 0;
}

process.exit(await main());
