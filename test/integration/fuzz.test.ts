// A small run of the fuzzer with a fixed seed; `npm run fuzz` makes long ones with others.

import { expect, test } from "vitest";
import { report } from "../fuzz/report.ts";
import { runFuzz } from "../fuzz/run.ts";

const SEED = 20_000;

test("20,000 frames from mutated clients and a hostile server disturb nobody", { timeout: 240_000 }, async () => {
  const result = await runFuzz({ seed: SEED, frames: 20_000, clients: [32, 16], only: null, say: () => {} });
  expect(result.tally.findings, report(result, SEED).join("\n")).toEqual([]);
  expect(result.tally.frames).toBeGreaterThanOrEqual(20_000);
  expect(result.tally.answersChecked).toBeGreaterThan(1000);
  expect(result.sentinelAnswers).toBeGreaterThan(100);
});
