// The comparison for people, as a table, and for programs, as JSON in .state/bench.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Table from "cli-table3";
import { projectRoot } from "../test/support/pgsteer.ts";
import type { Cell, Load, Sample } from "./comparison.ts";
import type { Disturbance } from "./processor-time.ts";
import { ratio, type Spread, spread } from "./statistics.ts";

/** One measure of one cell. */
export interface Measure {
  readonly spread: Spread | null;
  /** To PgBouncer's, the median of the rounds' ratios. */
  readonly ratio: number | null;
}

const MEASURES = ["tps", "latencyMs", "p99Ms", "userUs", "systemUs", "processorUs"] as const;

/** A cell with its rounds put together. */
export interface SummedCell extends Cell {
  readonly measures: Readonly<Record<(typeof MEASURES)[number], Measure>>;
}

/** Puts the rounds together and beside PgBouncer's. */
export function sumUp(cells: readonly Cell[]): SummedCell[] {
  return cells.map((cell) => {
    const peer = cells.find(({ load, path }) => load === cell.load && path === "pgbouncer");
    const measureOf = (key: keyof Sample): Measure => {
      const values = cell.samples.map((sample) => sample[key]);
      const references = peer?.samples.map((sample) => sample[key]) ?? [];
      return { spread: spread(values), ratio: ratio(values, references) };
    };
    const [tps, latencyMs, p99Ms] = [measureOf("tps"), measureOf("latencyMs"), measureOf("p99Ms")];
    const [userUs, systemUs] = [measureOf("userUs"), measureOf("systemUs")];
    return { ...cell, measures: { tps, latencyMs, p99Ms, userUs, systemUs, processorUs: measureOf("processorUs") } };
  });
}

/** Three significant digits, which is more than the noise leaves: `12.3k`, `987`, `1.24`. */
export function brief(value: number): string {
  if (value >= 1000) return `${brief(value / 1000)}k`;
  if (value >= 99.95) return value.toFixed(0);
  return value >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}

function measureInWords({ spread: values, ratio: times }: Measure): string {
  if (values === null) return "–";
  const beside = times === null ? "" : ` ×${times.toFixed(2)}`;
  return `${brief(values.median)}${beside} [${brief(values.min)}–${brief(values.max)}]`;
}

function processorInWords({ measures }: SummedCell): string {
  const { userUs, systemUs, processorUs } = measures;
  if (userUs.spread === null || systemUs.spread === null) return "–";
  return `${brief(userUs.spread.median)} + ${brief(systemUs.spread.median)} = ${measureInWords(processorUs)}`;
}

function loadInWords({ protocol, clients, reconnect }: Load): string {
  return reconnect ? `connect ${clients}` : `${protocol} ${clients}`;
}

/** Whether every cell of `measure` is empty, so that its column would say nothing. */
function isEmpty(cells: readonly SummedCell[], measure: keyof SummedCell["measures"]): boolean {
  return cells.every(({ measures }) => measures[measure].spread === null);
}

/** The table: one row a path, `median ×ratio to PgBouncer [min–max over rounds]`. */
export function comparisonTable(cells: readonly SummedCell[]): string {
  const hasP99 = !isEmpty(cells, "p99Ms");
  const head = ["load", "path", "transactions/s", "mean ms", ...(hasP99 ? ["p99 ms"] : []), "processor µs/transaction"];
  const table = new Table({ head, style: { head: [], border: [], compact: true } });
  for (const [index, cell] of cells.entries()) {
    const { tps, latencyMs, p99Ms } = cell.measures;
    const isFirst = cells[index - 1]?.load !== cell.load;
    table.push([
      isFirst ? loadInWords(cell.load) : "",
      cell.path,
      measureInWords(tps),
      measureInWords(latencyMs),
      ...(hasP99 ? [measureInWords(p99Ms)] : []),
      processorInWords(cell),
    ]);
  }
  return table.toString();
}

/** The widest range of a measure in per cent of its median, with the cell that has it. */
function widest(cells: readonly SummedCell[], measure: "tps" | "processorUs"): { share: number; where: string } {
  return cells.reduce(
    (found, cell) => {
      const range = cell.measures[measure].spread;
      const share = range === null ? 0 : ((range.max - range.min) / range.median) * 100;
      return share > found.share ? { share, where: `${cell.path}, ${loadInWords(cell.load)}` } : found;
    },
    { share: 0, where: "" },
  );
}

/** How far to trust the table. */
export function noiseInWords(cells: readonly SummedCell[], { stolen, others }: Disturbance): string {
  const rounds = Math.max(0, ...cells.map(({ samples }) => samples.length));
  const [other, host] = [others, stolen].map((share) => `${(share * 100).toFixed(0)} %`);
  const disturbed = `of the machine's processor time other processes took ${other}, its host ${host}`;
  if (rounds < 2) return `one round only: no range, so differences below some ten per cent mean nothing; ${disturbed}`;
  const [tps, processor] = [widest(cells, "tps"), widest(cells, "processorUs")];
  return (
    `noise over ${rounds} rounds, max − min in per cent of the median: transactions/s up to ${tps.share.toFixed(0)} % (${tps.where}), ` +
    `processor time up to ${processor.share.toFixed(0)} % (${processor.where}); ${disturbed}`
  );
}

/** What the table does not show. */
export function footnotes(cells: readonly SummedCell[]): string[] {
  const notes = [
    "×: to PgBouncer's in the same round, median over the rounds. Processor time: of the process in between alone, user + system.",
  ];
  const transaction = cells.some(({ path, pooling }) => path === "pgsteer" && pooling.poolMode === "transaction");
  if (transaction && cells.some(({ load }) => load.protocol === "prepared")) {
    notes.push(
      "prepared: PgBouncer 1.18 has no named prepared statements in transaction mode and runs in session mode here; it and pgsteer" +
        " (in transaction mode, where named statements follow their client) have a server for each client.",
    );
  }
  if (cells.some(({ load }) => load.reconnect)) {
    notes.push(
      "connect: one transaction is connect + SCRAM + one query + disconnect, and mean ms is that of all of it.",
    );
  }
  return notes;
}

function stamp(at: string): string {
  return at.replaceAll(/[:.]/g, "-");
}

/** A new directory .state/bench/<name>-<time>. */
export function reportDirectory(name: string): string {
  const directory = join(projectRoot, ".state", "bench", `${name}-${stamp(new Date().toISOString())}`);
  mkdirSync(directory, { recursive: true });
  return directory;
}

/** Writes `report` to .state/bench/<kind>-<time>.json and returns the file's path. */
export function writeReport(kind: string, report: object): string {
  const directory = join(projectRoot, ".state", "bench");
  mkdirSync(directory, { recursive: true });
  const at = new Date().toISOString();
  const file = join(directory, `${kind}-${stamp(at)}.json`);
  writeFileSync(file, `${JSON.stringify({ kind, at, ...report }, null, 2)}\n`);
  return file;
}
