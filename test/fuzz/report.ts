// The closing lines of a run.

import type { RunResult } from "./run.ts";
import { type Finding, listed } from "./tally.ts";

const SHOWN_MAX = 20;

export function report({ tally, sentinelAnswers, memory, seconds }: RunResult, seed: number): string[] {
  const count = (kind: Finding["kind"]) => tally.count(kind);
  return [
    ...tally.findings
      .slice(0, SHOWN_MAX)
      .map(
        ({ kind, target, conversation, what }) =>
          `FOUND ${kind} (${target}, conversation ${conversation ?? "none"}): ${what}`,
      ),
    `frames sent ${tally.frames} in ${seconds.toFixed(0)} s (${Math.round(tally.frames / seconds)} a second), conversations ${tally.conversations}`,
    `mutations: ${listed(tally.mutations)}`,
    `errors by SQLSTATE: ${listed(tally.errors)}`,
    `answers checked ${tally.answersChecked}, of sentinels ${sentinelAnswers}; without a mark, behind harmed statements ${tally.unmarked}`,
    `crashes ${count("crash")}, crossed bytes ${count("crossed")}, broken streams ${count("broken")}, wrong answers ${count("wrong")}, leaked servers ${count("leaked")}, stuck clients ${count("stuck")}, memory ${count("memory")}`,
    `resident memory of both pgsteers: ${memory.start} MB at start, ${memory.peak} MB peak, ${memory.end} MB end`,
    `seed ${seed}: ${tally.found === 0 ? "nothing found" : `${tally.found} findings`}`,
  ];
}
