import { describe, expect, test } from "vitest";
import { median, percentile, ratio, rotate, spread } from "../../../bench/statistics.ts";

describe("the statistics of a benchmark", () => {
  test("take the middle of an odd and the mean of the middle two of an even number of values", () => {
    expect(median([10, 2, 9])).toBe(9);
    expect(median([10, 2, 9, 1])).toBe(5.5);
  });

  test("have no median of nothing", () => {
    expect(() => median([])).toThrow("the median of nothing");
  });

  test("find a percentile by nearest rank, in any order of the values", () => {
    const values = Array.from({ length: 200 }, (_, index) => 200 - index);
    expect(percentile(values, 0.99)).toBe(198);
    expect(percentile([7], 0.99)).toBe(7);
    expect(percentile([3, 4], 0)).toBe(3);
    expect(percentile([], 0.99)).toBeNull();
  });

  test("give median and range over rounds, and nothing when a round has no value", () => {
    expect(spread([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3 });
    expect(spread([3, null, 2])).toBeNull();
    expect(spread([])).toBeNull();
  });

  test("compare each round with the same round of the other, so that a slow round does not matter", () => {
    // Half as fast in each round, although the medians of all values would say otherwise.
    expect(ratio([50, 5, 500], [100, 10, 1000])).toBe(0.5);
    expect(ratio([50, null], [100, 10])).toBeNull();
    expect(ratio([50, 5], [100])).toBeNull();
    expect(ratio([50], [0])).toBeNull();
  });

  test("rotate an order without losing anything", () => {
    expect(rotate(["a", "b", "c"], 0)).toEqual(["a", "b", "c"]);
    expect(rotate(["a", "b", "c"], 4)).toEqual(["b", "c", "a"]);
    expect(rotate([], 3)).toEqual([]);
  });
});
