import { expect, test } from "vitest";
import { dimensions, pairedCells } from "./cell.ts";
import { pairsOf, pairwise } from "./pairs.ts";
import { overlap } from "./timing.ts";

const small = { a: ["1", "2", "3"], b: ["x", "y", "z"], c: ["p", "q"] } as const;

test("every pair of values that can be is in some row, and no row cannot be", () => {
  const possible = (row: { readonly a: string; readonly b: string }) => !(row.a === "1" && row.b === "x");
  const rows = pairwise(small, possible);
  const covered = new Set(rows.flatMap((row) => pairsOf(small, row)));
  // 3 × 3 + 3 × 2 + 3 × 2 pairs, of which one cannot be.
  expect(covered.size).toBe(20);
  expect(covered.has("a=1 b=x")).toBe(false);
  expect(rows.length).toBeLessThan(13);
});

test("rows are the same each time", () => {
  expect(pairwise(small, () => true)).toEqual(pairwise(small, () => true));
});

test("the matrix has each value of each dimension, beside each of every other where that can be", () => {
  const covered = new Set(pairedCells().flatMap((cell) => pairsOf(dimensions, cell)));
  for (const method of dimensions.method) {
    for (const secret of dimensions.secret) expect(covered).toContain(`method=${method} secret=${secret}`);
    for (const server of dimensions.server) expect(covered).toContain(`method=${method} server=${server}`);
    for (const sslmode of dimensions.sslmode) expect(covered).toContain(`method=${method} sslmode=${sslmode}`);
  }
  expect(covered).not.toContain("method=cert record=host");
});

test("two equal distributions overlap by half, two apart by nothing", () => {
  const numbers = Array.from({ length: 100 }, (_, index) => index);
  const odd = numbers.filter((each) => each % 2 === 1);
  const even = numbers.filter((each) => each % 2 === 0);
  expect(overlap(odd, even)).toBeCloseTo(0.5, 1);
  expect(overlap([3, 4], [1, 2])).toBe(1);
  expect(overlap([1, 2], [3, 4])).toBe(0);
});
