// Positions in PostgreSQL's text form, there and back.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatLsn, lsn, parseLsn } from "../../../src/core/units.ts";

describe("a log position", () => {
  test.each([
    ["0/0", 0n],
    ["16/B374D848", 0x16_b374_d848n],
    ["16/b374d848", 0x16_b374_d848n],
    ["FFFFFFFF/FFFFFFFF", 0xffff_ffff_ffff_ffffn],
    ["1/2", 0x1_0000_0002n],
  ])("is read from %s", (text, position) => {
    expect(parseLsn(text)).toBe(position);
  });

  test.each([
    "",
    "/",
    "1/",
    "/1",
    "0x1/2",
    "1/2/3",
    " 1/2",
    "1/2 ",
    "1/2\n",
    "123456789/0",
    "0/123456789",
    "g/0",
    "-1/0",
  ])("is not read from %j", (text) => {
    expect(parseLsn(text)).toBeNull();
  });

  test("is written as PostgreSQL does, and read back", () => {
    expect(formatLsn(lsn(0x16_0374_d848n))).toBe("16/374D848");
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }), (position) => {
        expect(parseLsn(formatLsn(lsn(position)))).toBe(position);
      }),
      { seed: 9 },
    );
  });
});
