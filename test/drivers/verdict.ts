// From what the programs said to what it means: the cells that pass directly and fail through pgsteer, those of them that have
// a reason, and reasons that explain nothing any more; as tables for a terminal and for a Markdown file.

import Table from "cli-table3";
import { differenceFor, differences } from "./differences.ts";
import { type Mode, modes, type Outcome } from "./outcome.ts";

/** All three runs of one driver, or why there were none. */
export type DriverResult =
  | { readonly driver: string; readonly runs: Readonly<Record<Mode, readonly Outcome[]>> }
  | { readonly driver: string; readonly notRun: string };

/** A scenario that passes directly and fails in `mode`. */
export interface Broken {
  readonly driver: string;
  readonly mode: Mode;
  readonly scenario: string;
  readonly message: string;
  /** Why that is meant to be so; null when it is not. */
  readonly reason: string | null;
}

const statusOf = (outcomes: readonly Outcome[], scenario: string): Outcome["status"] | null =>
  outcomes.find((outcome) => outcome.scenario === scenario)?.status ?? null;

/** Scenarios that pass directly and do not through pgsteer; one that is skipped only there counts too. */
export function brokenBy(results: readonly DriverResult[]): Broken[] {
  const broken: Broken[] = [];
  for (const result of results) {
    if ("notRun" in result) continue;
    for (const mode of modes) {
      for (const { scenario, status, detail } of result.runs[mode]) {
        if (mode === "direct" || status === "passed") continue;
        if (statusOf(result.runs.direct, scenario) !== "passed") continue;
        const { driver } = result;
        const reason = differenceFor(driver, mode, scenario)?.reason ?? null;
        broken.push({ driver, mode, scenario, message: detail ?? status, reason });
      }
    }
  }
  return broken;
}

/** Rows of the list of differences whose cells have run, and none of them broke. */
export function idleDifferences(results: readonly DriverResult[]): string[] {
  const broken = brokenBy(results);
  return differences
    .filter(({ drivers, mode, scenario }) => {
      const concerned = results.filter(
        (result) =>
          "runs" in result &&
          (drivers?.includes(result.driver) ?? true) &&
          statusOf(result.runs.direct, scenario) === "passed",
      );
      return concerned.length > 0 && !broken.some((cell) => cell.mode === mode && cell.scenario === scenario);
    })
    .map(({ mode, scenario }) => `${scenario} in mode ${mode}`);
}

/** What fails directly: the driver's, or the program's own. */
export function failedDirectly(results: readonly DriverResult[]): string[] {
  return results.flatMap((result) =>
    "notRun" in result
      ? []
      : result.runs.direct
          .filter(({ status }) => status === "failed")
          .map(({ scenario, detail }) => `${result.driver}: ${scenario}: ${detail ?? ""}`),
  );
}

const cell = (outcomes: readonly Outcome[]): string => {
  const count = (status: string) => outcomes.filter((outcome) => outcome.status === status).length;
  return [count("passed"), count("failed"), count("skipped")].join("/");
};

const head = ["driver", ...modes];

function rows(results: readonly DriverResult[]): string[][] {
  return results.map((result) =>
    "notRun" in result
      ? [result.driver, ...modes.map(() => "not run")]
      : [result.driver, ...modes.map((mode) => cell(result.runs[mode]))],
  );
}

function sentences(results: readonly DriverResult[]): string[] {
  const broken = brokenBy(results);
  const line = ({ driver, mode, scenario, message }: Broken) => `${driver}, ${mode}, ${scenario}: ${message}`;
  const list = (title: string, lines: readonly string[]) =>
    lines.length === 0 ? [] : [title, ...lines.map((each) => `- ${each.replaceAll("\n", " ")}`), ""];
  return [
    ...list("Passes directly and fails through pgsteer:", broken.filter(({ reason }) => reason === null).map(line)),
    ...list(
      "Fails through pgsteer for a stated reason:",
      broken.filter(({ reason }) => reason !== null).map((each) => `${line(each)} (${each.reason})`),
    ),
    ...list("Stated as a difference, but passes:", idleDifferences(results)),
    ...list("Fails directly:", failedDirectly(results)),
    ...list(
      "Not run:",
      results.flatMap((result) => ("notRun" in result ? [`${result.driver}: ${result.notRun}`] : [])),
    ),
  ];
}

/** For a terminal. */
export function inWords(results: readonly DriverResult[]): string {
  const table = new Table({ head, style: { head: [], border: [] } });
  table.push(...rows(results));
  return [table.toString(), "passed/failed/skipped", "", ...sentences(results)].join("\n").trimEnd();
}

/** For a file: the same, and each scenario of each driver. */
export function inMarkdown(results: readonly DriverResult[]): string {
  const row = (cells: readonly string[]) => `| ${cells.map((each) => each.replaceAll("|", "\\|")).join(" | ")} |`;
  const table = (first: readonly string[], others: readonly (readonly string[])[]) =>
    [row(first), row(first.map(() => "---")), ...others.map(row)].join("\n");
  const details = results.flatMap((result) => {
    if ("notRun" in result) return [];
    const lines = result.runs.direct.map(({ scenario, detail, status }) => [
      scenario,
      ...modes.map((mode) => statusOf(result.runs[mode], scenario) ?? "absent"),
      status === "skipped" ? (detail ?? "").replaceAll("\n", " ") : "",
    ]);
    return [`## ${result.driver}\n\n${table(["scenario", ...modes, ""], lines)}\n`];
  });
  return [
    "# Drivers\n",
    `passed/failed/skipped\n\n${table(head, rows(results))}\n`,
    sentences(results).join("\n"),
    ...details,
  ].join("\n");
}
