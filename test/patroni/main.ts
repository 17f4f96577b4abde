// `npm run test:patroni [-- --patroni 3|4] [--only NAME]`: pgsteer in front of real clusters under Patroni 3.0.2 and 4.x, one scenario
// after the other, and a table of what came out. `--only` takes parts of names, separated by commas. Exits with 1 when anything failed.

import Table from "cli-table3";
import { Command, InvalidArgumentError } from "commander";
import { someOf } from "../support/options.ts";
import { projectRoot } from "../support/pgsteer.ts";
import { barrierFor } from "../support/processes.ts";
import { scenarios } from "./catalogue.ts";
import { MAJORS, type Major, type PatroniProgram, programOf } from "./programs.ts";
import { type Scenario, Site } from "./site.ts";

/** No scenario takes longer on a machine that works. */
const SCENARIO_TIMEOUT_MS = 240_000;
/** Lines of a failure that are shown. */
const SHOWN_LINES = 12;

type Outcome =
  | { readonly kind: "passed" | "skipped"; readonly text: string }
  | { readonly kind: "failed"; readonly why: string };

/** Runs `work`, which is given up after a while: its site is then of no use to anybody. */
async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | null = null;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error("did not end in time")), SCENARIO_TIMEOUT_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    if (timer !== null) clearTimeout(timer);
  }
}

async function perform(scenario: Scenario, site: Site): Promise<string> {
  const traffic = await site.traffic();
  try {
    const seen = await scenario.run(site, traffic);
    if (!site.pgsteer.process.alive()) throw new Error("pgsteer has ended");
    return seen;
  } catch (error) {
    const told = traffic.watch.leaders().slice(-8).join(" → ");
    const causes = error instanceof Error && error.cause instanceof Error ? `\n${error.cause.message}` : "";
    throw new Error(`${error instanceof Error ? error.message : error}${causes}\n/topology: ${told}`);
  } finally {
    await traffic.stop();
  }
}

/** All scenarios with one version, each on a cluster that it may share with the one before. */
async function outcomesOf(program: PatroniProgram, chosen: readonly Scenario[]): Promise<Map<Scenario, Outcome>> {
  const outcomes = new Map<Scenario, Outcome>();
  let site: Site | null = null;
  const leave = async (): Promise<void> => {
    const left = site;
    site = null;
    await left?.remove();
  };
  try {
    for (const scenario of chosen) {
      const { only } = scenario;
      if (only !== undefined && !only.majors.includes(program.major)) {
        outcomes.set(scenario, { kind: "skipped", text: only.why });
        continue;
      }
      if (site !== null && site.setup !== scenario.setup) await leave();
      try {
        site ??= await Site.start(program, scenario.setup);
        const text = await inTime(perform(scenario, site));
        outcomes.set(scenario, { kind: "passed", text });
        console.error(`${program.version} · ${scenario.name}: ${text}`);
        if (scenario.spoils === true) await leave();
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        outcomes.set(scenario, { kind: "failed", why });
        console.error(
          `${program.version} · ${scenario.name}: FAILED: ${why.split("\n").slice(0, SHOWN_LINES).join("\n")}`,
        );
        if (site !== null) console.error(`pgsteer's log ends:\n${site.pgsteer.process.tail(6)}`);
        await leave();
      }
    }
  } finally {
    await leave();
  }
  return outcomes;
}

interface Choice {
  readonly majors: readonly Major[];
  readonly chosen: readonly Scenario[];
}

/** What the command line asks for. */
function choice(): Choice {
  const names = MAJORS.map(String);
  const values = new Command("npm run test:patroni --")
    .description("pgsteer in front of real clusters under Patroni 3.0.2 and 4.x, one scenario after the other.")
    .option("--patroni <majors>", `some of ${names.join(",")}`, someOf(names), names)
    .option("--only <words>", "scenarios with one of these in their name, separated by commas", matching)
    .parse()
    .opts<{ patroni: readonly string[]; only?: readonly Scenario[] }>();
  return { majors: MAJORS.filter((major) => values.patroni.includes(String(major))), chosen: values.only ?? scenarios };
}

function matching(written: string): readonly Scenario[] {
  const words = written.split(",");
  const chosen = scenarios.filter(({ name }) => words.some((word) => name.includes(word)));
  if (chosen.length > 0) return chosen;
  throw new InvalidArgumentError(`none of: ${scenarios.map(({ name }) => name).join(", ")}`);
}

/** In lines of a table's cell. */
function wrapped(text: string, width = 44): string {
  return text.replaceAll(new RegExp(`(.{1,${width}})(?:\\s+|$)`, "g"), "$1\n").trimEnd();
}

function shown(outcome: Outcome | undefined): string {
  if (outcome === undefined) return "";
  if (outcome.kind === "failed") return wrapped(`FAILED: ${outcome.why.split("\n")[0]}`);
  return wrapped(outcome.kind === "passed" ? `pass: ${outcome.text}` : `not there: ${outcome.text}`);
}

async function main(): Promise<number> {
  const { majors, chosen } = choice();
  const barrier = barrierFor(projectRoot);
  if (barrier !== null) {
    console.error(`PostgreSQL runs as the user postgres, whom ${barrier} does not let pass`);
    return 1;
  }
  let programs: PatroniProgram[];
  try {
    programs = majors.map(programOf);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return 1;
  }
  const columns: Map<Scenario, Outcome>[] = [];
  for (const program of programs) {
    console.error(`Patroni ${program.version} (${program.command})`);
    columns.push(await outcomesOf(program, chosen));
  }
  const head = ["scenario", ...programs.map(({ version }) => `Patroni ${version}`)];
  const table = new Table({ head, style: { head: [], border: [] } });
  for (const scenario of chosen)
    table.push([wrapped(scenario.name, 34), ...columns.map((column) => shown(column.get(scenario)))]);
  console.log(table.toString());
  const all = columns.flatMap((column) => [...column.values()]);
  const count = (kind: Outcome["kind"]): number => all.filter((outcome) => outcome.kind === kind).length;
  const failed = count("failed");
  console.log(`${count("passed")} passed, ${failed} failed, ${count("skipped")} skipped`);
  return failed > 0 ? 1 : 0;
}

process.exit(await main());
