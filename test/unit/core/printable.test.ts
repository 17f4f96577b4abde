import { expect, test } from "vitest";
import { printable } from "../../../src/core/printable.ts";

test.each([
  ["alice", "alice"],
  ["Zoë 漢字 😀", "Zoë 漢字 😀"],
  ["a\nb\rc\td\u0000\u001b[31m\u009b", "a?b?c?d??[31m?"],
  ["\u202eevil\u2028\ufeff", "?evil??"],
  ["x".repeat(81), `${"x".repeat(80)}…`],
])("%j is shown as %j", (text, shown) => {
  expect(printable(text)).toBe(shown);
});
