// Names come out as they went in, whatever was read before.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NameTable } from "../../../src/protocol/name-table.ts";

describe("a table of names", () => {
  test("reads every name as its bytes say, known or not, whatever else has its place", () => {
    const name = fc.string({ unit: fc.constantFrom("a", "b", "\xe9", "_", "1"), maxLength: 70 });
    fc.assert(
      fc.property(fc.array(name, { maxLength: 60 }), (names) => {
        const table = new NameTable();
        for (const each of [...names, ...names]) {
          const bytes = Buffer.from(`x${each}x`, "latin1");
          if (table.read(bytes, 1, bytes.length - 1) !== each) return false;
        }
        return true;
      }),
    );
  });

  test("gives the same string for a name that it knows, and forgets one for another at its place", () => {
    const table = new NameTable();
    const read = (text: string): string => table.read(Buffer.from(text, "latin1"), 0, text.length);
    expect([read("a1b"), read("a2b"), read("a1b"), read(""), read("\xff")]).toEqual(["a1b", "a2b", "a1b", "", "\xff"]);
  });
});
