// A change of leader in words: what the application saw through pgsteer beside what Patroni made possible.

import type { LeaderChange } from "../test/support/leadership.ts";
import type { Attempt, Gap } from "../test/support/writer.ts";

const ms = (value: number): string => `${value.toFixed(0)} ms`;

/** `+1234 ms`, counted from `origin`; `not seen` for null. */
function offset(at: number | null, origin: number): string {
  if (at === null) return "not seen";
  return `${at >= origin ? "+" : "−"}${ms(Math.abs(at - origin))}`;
}

function failuresInWords(failures: readonly Attempt[]): string {
  if (failures.length === 0) return "no error";
  const words = failures.map(
    ({ outcome, code }) => `${outcome === "refused" ? "refused" : "outcome unknown"} (${code})`,
  );
  return `${failures.length} not acknowledged: ${[...new Set(words)].join(", ")}`;
}

function shareInWords(beyond: number): string {
  // The direct poller itself looks only every few milliseconds, so either can come first.
  if (Math.abs(beyond) < 1) return "together with the first direct one";
  return `${ms(Math.abs(beyond))} ${beyond > 0 ? "after" : "before"} the first direct one`;
}

/** Lines that tell one change of leader. Moments count from the last write that the old leader accepted. */
export function describeChange(change: LeaderChange, gap: Gap): string[] {
  const origin = change.lastWriteOld ?? gap.from;
  const row = (label: string, value: string) => `  ${label.padEnd(48)} ${value.padStart(10)}`;
  const lines = [row(`Patroni: ${change.from} takes its last write`, "0 ms")];
  if (change.keyDeleted !== null || change.keyPut !== null) {
    lines.push(row("Patroni: leader key deleted", offset(change.keyDeleted, origin)));
    lines.push(row(`Patroni: leader key names ${change.to}`, offset(change.keyPut, origin)));
  } else {
    lines.push(row("Patroni: leader key", "unchanged"));
  }
  lines.push(row(`Patroni: ${change.to} takes its first write, directly`, offset(change.firstWriteNew, origin)));
  lines.push(row("pgsteer: first write acknowledged through it", offset(gap.to, origin)));
  lines.push(
    `  the application went ${ms(gap.ms)} without an acknowledged write, ${failuresInWords(gap.failures)};`,
    `  pgsteer's share: its first write came ${shareInWords(gap.to - change.firstWriteNew)}`,
  );
  return lines;
}
