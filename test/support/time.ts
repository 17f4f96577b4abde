// Time in tests and scripts: one clock for everything that is compared, and polling with a deadline.

import { setTimeout as delay } from "node:timers/promises";

/** Milliseconds since 1970 with a fraction, from the monotonic clock: comparable between all records of one process. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}

export function sleep(ms: number): Promise<void> {
  return delay(Math.max(0, ms));
}

interface WaitOptions {
  readonly timeoutMs: number;
  /** Pause between two looks; 50 by default. */
  readonly intervalMs?: number;
  /** What is waited for, in words, for the error. */
  readonly what: string;
}

/**
 * Looks until `look` gives something other than null, undefined or false, and returns that. A look that throws counts as
 * "not yet"; the last error is the cause of the one that is thrown at the deadline.
 */
export async function waitFor<T>(
  look: () => Promise<T | null | undefined | false> | T | null | undefined | false,
  options: WaitOptions,
): Promise<T> {
  const deadline = now() + options.timeoutMs;
  let failure: unknown;
  for (;;) {
    try {
      const seen = await look();
      if (seen !== null && seen !== undefined && seen !== false) return seen;
      failure = undefined;
    } catch (error) {
      failure = error;
    }
    if (now() >= deadline) {
      throw new Error(`not within ${options.timeoutMs} ms: ${options.what}`, { cause: failure });
    }
    await sleep(options.intervalMs ?? 50);
  }
}
