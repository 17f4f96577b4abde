// The closing lines of a run, for people: what was done, what clients saw of it, and what is wrong.

import type { Verdict } from "./checker.ts";
import { properties } from "./checker.ts";
import type { History, Operation } from "./history.ts";

const SHOWN_MAX = 20;

function counted(list: readonly string[]): [string, number][] {
  const counts = new Map<string, number>();
  for (const each of list) counts.set(each, (counts.get(each) ?? 0) + 1);
  return [...counts].toSorted((a, b) => b[1] - a[1]);
}

function inWords(counts: readonly [string, number][]): string {
  return counts.length === 0 ? "none" : counts.map(([what, count]) => `${what} ${count}`).join(", ");
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string[] {
  const lines = [head, ...rows].map((line) => line.map(String));
  const widths = head.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? "").length)));
  return lines.map((line) =>
    line
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}

/** SQLSTATE, or the beginning of what a failure without one says; PostgreSQL's own 40001 apart from pgsteer's. */
function named({ code, message }: Operation): string {
  if (code === "40001" && message?.startsWith("could not serialize") === true) return "40001 (concurrent update)";
  return (code ?? "none").slice(0, 40);
}

/** The longest time within a span in which no write was acknowledged through either pgsteer. */
function longestGap(acknowledged: readonly number[], from: number, to: number): number {
  let longest = 0;
  let last = from;
  for (const at of acknowledged) {
    if (at < from) continue;
    longest = Math.max(longest, Math.min(at, to) - last);
    last = at;
    if (at >= to) return longest;
  }
  return Math.max(longest, to - last);
}

function faultTable({ faults, operations }: History): string[] {
  const acknowledged = operations
    .filter(({ outcome, kind }) => outcome === "ok" && kind !== "read")
    .map(({ completedAt }) => completedAt)
    .toSorted((a, b) => a - b);
  const byName = Map.groupBy(faults, ({ name }) => name);
  const rows = [...byName].map(([name, list]) => {
    const during = (each: Operation) =>
      list.some(
        ({ beganAt, healedAt, endedAt }) => each.completedAt >= beganAt && each.invokedAt <= (healedAt ?? endedAt),
      );
    const hit = operations.filter((each) => each.outcome !== "ok" && during(each));
    const gaps = list.map(({ beganAt, healedAt, endedAt }) => longestGap(acknowledged, beganAt, healedAt ?? endedAt));
    const codes = inWords(counted(hit.map(named)).slice(0, 5));
    const unknown = hit.filter(({ outcome }) => outcome === "unknown").length;
    return [name, list.length, Math.max(...gaps), hit.length - unknown, unknown, codes];
  });
  return table(["fault", "times", "longest gap ms", "errors", "unknown", "by SQLSTATE"], rows);
}

/** How many on each timeline, and where that was left. */
function lossesInWords({ contents }: History, lost: readonly Operation[]): string {
  const places = lost.map(({ place }) => {
    const fork = contents?.forks.find(({ timeline }) => timeline === place?.timeline);
    const end = fork === undefined ? "which nobody followed" : `whose successor began at ${fork.lsn}`;
    return `on timeline ${place?.timeline} (begun at ${place?.origin}, ${end})`;
  });
  return inWords(counted(places));
}

export function summary(history: History, { violations, lostByReplication, longestWaitMs }: Verdict): string[] {
  const { operations, run, faults } = history;
  const failed = operations.filter(({ outcome }) => outcome !== "ok");
  const count = (outcome: Operation["outcome"]) => operations.filter((each) => each.outcome === outcome).length;
  const kinds = [...Map.groupBy(operations, ({ kind }) => kind)].map(([kind, list]) => [
    kind,
    list.length,
    list.filter(({ outcome }) => outcome === "ok").length,
    list.filter(({ outcome }) => outcome === "fail").length,
    list.filter(({ outcome }) => outcome === "unknown").length,
    Math.max(...list.map((each) => each.completedAt - each.invokedAt)),
  ]);
  const helped = faults.filter(({ note }) => note !== "").length;
  const found = inWords(counted(violations.map(({ property }) => property)));
  return [
    ...table(["operations", "all", "acknowledged", "failed", "unknown", "longest ms"], kinds),
    "",
    ...faultTable(history),
    "",
    ...violations.slice(0, SHOWN_MAX).map(({ property, text }) => `VIOLATION ${properties[property]}: ${text}`),
    `faults ${faults.length}, clusters that had to be helped ${helped}; synchronous_mode ${run.sync ? "on" : "off"}`,
    `acknowledged and lost with a timeline, as asynchronous replication may: ${lossesInWords(history, lostByReplication)}`,
    `longest time a client could have been served and was not: ${longestWaitMs} ms (at most ${run.stuckMs} allowed)`,
    `${operations.length} operations, ${count("ok")} acknowledged, ${count("unknown")} unknown, ${count("fail")} errors by SQLSTATE: ${inWords(counted(failed.map(named)))}; violations: ${found}`,
  ];
}
