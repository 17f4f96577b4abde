// The failover benchmark for people: a summary by kind of event, and every single event.

import Table from "cli-table3";
import { EVENT_KINDS, type EventKind, errorCount, type FailoverEvent, type PathCost } from "./failover-account.ts";
import { FAILOVER_PATHS, type FailoverPath, PATH_WORDS } from "./failover-paths.ts";
import { median } from "./statistics.ts";

const KIND_WORDS: Readonly<Record<EventKind, string>> = {
  switchover: "switchover",
  postgres: "kill -9 of postgres",
  node: "kill -9 of the node",
};

/** `412 ms`, `5.43 s`. */
export function duration(ms: number): string {
  // Without `-0`.
  return Math.abs(ms) < 1000 ? `${Math.round(ms) + 0} ms` : `${(ms / 1000).toFixed(2)} s`;
}

function medianAndWorst(values: readonly number[]): string {
  return `${duration(median(values))} / ${duration(Math.max(...values))}`;
}

const sum = (values: readonly number[]): number => values.reduce((total, each) => total + each, 0);

function errorsInWords(costs: readonly PathCost[]): string {
  const codes = new Map<string, number>();
  for (const { errors } of costs) {
    for (const [code, count] of Object.entries(errors)) codes.set(code, (codes.get(code) ?? 0) + count);
  }
  if (codes.size === 0) return "0";
  const byCount = [...codes].sort((a, b) => b[1] - a[1]).map(([code, count]) => `${count} × ${code}`);
  return byCount.join("\n");
}

const quiet = { head: [], border: [], compact: true };

function rowOf(path: FailoverPath, costs: readonly PathCost[]): string[] {
  return [
    path,
    medianAndWorst(costs.map(({ gapMs }) => gapMs)),
    medianAndWorst(costs.map(({ beyondMs }) => beyondMs)),
    String(median(costs.map(errorCount))),
    errorsInWords(costs),
    `${sum(costs.map(({ acknowledged }) => acknowledged))} / ${sum(costs.map(({ lost }) => lost))}`,
    `${sum(costs.map(({ unknown }) => unknown))} / ${sum(costs.map(({ unknownThere }) => unknownThere))}`,
  ];
}

/** One row a path and kind: medians and worst over the events, everything else in all of them together. */
export function failoverTable(events: readonly FailoverEvent[]): string {
  const head = [
    "event",
    "path",
    "gap, median / worst",
    "beyond the floor",
    "errors, median",
    "errors, all",
    "acknowledged / lost",
    "unknown / there",
  ];
  const table = new Table({ head, style: quiet });
  for (const kind of EVENT_KINDS) {
    const those = events.filter((event) => event.kind === kind);
    if (those.length === 0) continue;
    const floor = medianAndWorst(those.map((event) => event.floor.gapMs));
    table.push([`${KIND_WORDS[kind]}, ${those.length}`, "floor: Patroni alone", floor, "", "", "", "", ""]);
    for (const path of FAILOVER_PATHS) {
      const costs = those.flatMap((event) => event.costs.filter((cost) => cost.path === path));
      if (costs.length > 0) table.push(["", ...rowOf(path, costs)]);
    }
  }
  return table.toString();
}

/** Every event: what it cost beyond the floor, and its errors. */
export function eventsTable(events: readonly FailoverEvent[]): string {
  const paths = FAILOVER_PATHS.filter((path) => events.some(({ costs }) => costs.some((cost) => cost.path === path)));
  const head = ["event", "leader", "floor", ...paths.map((path) => `beyond: ${path}`), "benchmark stalled"];
  const table = new Table({ head, style: quiet });
  for (const { kind, from, to, floor, costs, stalledMs } of events) {
    const cells = paths.map((path) => {
      const cost = costs.find((each) => each.path === path);
      if (cost === undefined) return "";
      const count = errorCount(cost);
      return `${duration(cost.beyondMs)}, ${count} ${count === 1 ? "error" : "errors"}`;
    });
    table.push([KIND_WORDS[kind], `${from} → ${to}`, duration(floor.gapMs), ...cells, duration(stalledMs)]);
  }
  return table.toString();
}

/** What must not be, in sentences; and what the columns mean. */
export function failoverNotes(events: readonly FailoverEvent[]): string[] {
  const costs = events.flatMap((event) => event.costs);
  const used = FAILOVER_PATHS.filter((path) => costs.some((cost) => cost.path === path));
  const wrong = used.flatMap((path) => {
    const own = costs.filter((cost) => cost.path === path);
    const [doubled, refused] = [sum(own.map((each) => each.doubled)), sum(own.map((each) => each.refusedThere))];
    return doubled + refused === 0
      ? []
      : [`WRONG: ${path}: ${doubled} rows are there twice, ${refused} are there although they were refused`];
  });
  return [
    ...wrong,
    "floor: the first write that the new leader took, directly (tried every 5 ms) or through the path that was first",
    "beyond: from there to the first write through this path",
    "lost: acknowledged and not there (replication is asynchronous: a node that is killed takes its last moments along)",
    ...used.map((path) => `${path}: ${PATH_WORDS[path]}`),
  ];
}
