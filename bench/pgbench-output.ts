// Reads what pgbench 15 says at the end of a run, and its log of single transactions
// (https://www.postgresql.org/docs/15/pgbench.html).

/** The end of a run. */
export interface PgbenchSummary {
  readonly transactions: number;
  readonly failed: number;
  /** Without the initial connections; with `--connect`, including all of them. */
  readonly tps: number;
  /** Mean, in milliseconds; with `--connect` it includes connecting. */
  readonly latencyMs: number;
}

function numberAfter(text: string, pattern: RegExp): number | null {
  const written = pattern.exec(text)?.[1];
  return written === undefined ? null : Number(written);
}

/** Throws when the text is not the end of a complete run. */
export function parseSummary(text: string): PgbenchSummary {
  const transactions = numberAfter(text, /^number of transactions actually processed: (\d+)/m);
  const tps = numberAfter(text, /^tps = (\d+(?:\.\d+)?) /m);
  const latencyMs = numberAfter(text, /^latency average = (\d+(?:\.\d+)?) ms/m);
  const failed = numberAfter(text, /^number of failed transactions: (\d+)/m) ?? 0;
  if (transactions === null || tps === null || latencyMs === null) {
    throw new Error(`this is not what pgbench says at the end of a run:\n${text}`);
  }
  return { transactions, failed, tps, latencyMs };
}

/**
 * Latencies in milliseconds from a log: one transaction a line, the third field in microseconds, or a word where it failed.
 * An incomplete last line, as a run that was ended leaves it, does not count.
 */
export function parseLatencies(log: string): number[] {
  const complete = log.slice(0, log.lastIndexOf("\n") + 1);
  return [...complete.matchAll(/^\d+ \d+ (\d+) /gm)].map((match) => Number(match[1]) / 1000);
}
