import { describe, expect, test } from "vitest";
import { ORIGINS_MAX } from "../../../src/core/limits.ts";
import { Buckets } from "../../../src/proxy/buckets.ts";
import { FakeClock } from "../../support/fake-clock.ts";

const MINUTE_MS = 60_000;

describe("buckets", () => {
  test("are full at their capacity, and have room for one more when as much has run out", async () => {
    const clock = new FakeClock();
    const buckets = new Buckets(clock, 3, MINUTE_MS);
    expect([buckets.add("a"), buckets.add("a"), buckets.full("a"), buckets.add("a")]).toEqual([1, 2, false, 3]);
    expect([buckets.full("a"), buckets.full("b")]).toEqual([true, false]);
    // What does not fit is no longer debt.
    for (let count = 0; count < 100; count += 1) buckets.add("a");
    await clock.advance(19_000);
    expect(buckets.full("a")).toBe(true);
    await clock.advance(2_000);
    expect(buckets.full("a")).toBe(false);
    await clock.advance(60_000);
    expect(buckets.level("a")).toBe(0);
  });

  test("of capacity 0 count nothing, and may be given one later", () => {
    const buckets = new Buckets(new FakeClock(), 0, MINUTE_MS);
    expect([buckets.add("a"), buckets.full("a"), buckets.size]).toEqual([0, false, 0]);
    buckets.resize(1);
    expect([buckets.add("a"), buckets.full("a")]).toEqual([1, true]);
  });

  test("are bounded in number: the one that was still for longest is forgotten, or all that have run dry", async () => {
    const clock = new FakeClock();
    const buckets = new Buckets(clock, 2, MINUTE_MS);
    for (let index = 0; index < ORIGINS_MAX; index += 1) buckets.add(`${index}`);
    buckets.add("0");
    buckets.add("one more");
    expect(buckets.size).toBe(ORIGINS_MAX);
    expect([buckets.level("0"), buckets.level("1"), buckets.level("2")]).toEqual([2, 0, 1]);
    await clock.advance(MINUTE_MS);
    buckets.add("later");
    expect(buckets.size).toBe(1);
  });
});
