// Delays between attempts, with chance as a parameter.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Backoff } from "../../../src/core/backoff.ts";

const delays = (backoff: Backoff, count: number): number[] => Array.from({ length: count }, () => backoff.next());

describe("Backoff", () => {
  test("doubles its ceiling up to its bound, and draws from the upper half", () => {
    const options = { initialMs: 10, maxMs: 100 };
    expect(delays(new Backoff(options, () => 0), 6)).toEqual([5, 10, 20, 40, 50, 50]);
    expect(delays(new Backoff(options, () => 1), 6)).toEqual([10, 20, 40, 80, 100, 100]);
  });

  test("begins anew after a success", () => {
    const backoff = new Backoff({ initialMs: 10, maxMs: 1_000 }, () => 0.5);
    const first = delays(backoff, 3);
    backoff.reset();
    expect(delays(backoff, 3)).toEqual(first);
  });

  test("never leaves its bounds, however often it is asked", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1_000 }),
        fc.integer({ min: 1, max: 100_000 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (initialMs, maxMs, chance) => {
          const backoff = new Backoff({ initialMs, maxMs }, () => chance);
          for (const delay of delays(backoff, 1_200)) {
            expect(delay).toBeGreaterThanOrEqual(Math.min(initialMs, maxMs) / 2);
            expect(delay).toBeLessThanOrEqual(maxMs);
          }
        },
      ),
      { numRuns: 40, seed: 10 },
    );
  });
});
