// Gathered ranges come out as one buffer with the same bytes, copied only where they must be.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Gather } from "../../../src/protocol/gather.ts";

describe("Gather", () => {
  test("gives neighbouring ranges of one buffer back without a copy", () => {
    const gather = new Gather();
    const buffer = Buffer.from("abcdef");
    gather.add(buffer, 1, 3);
    gather.add(buffer, 3, 5);
    const taken = gather.take();
    expect(taken?.toString()).toBe("bcde");
    expect(taken?.buffer).toBe(buffer.buffer);
    expect(gather.take()).toBeNull();
  });

  test("gives any ranges of any buffers back in order, and counts them", () => {
    const buffers = [Buffer.from("0123456789"), Buffer.from("abcdefghij")] as const;
    const range = fc.tuple(fc.constantFrom(...buffers), fc.nat(10), fc.nat(10));
    fc.assert(
      fc.property(fc.array(range, { maxLength: 8 }), fc.nat(8), (ranges, clearAt) => {
        const gather = new Gather();
        let want = "";
        ranges.forEach(([buffer, a, b], index) => {
          if (index === clearAt) {
            gather.clear();
            want = "";
          }
          const [start, end] = [Math.min(a, b), Math.max(a, b)];
          gather.add(buffer, start, end);
          want += buffer.toString("latin1", start, end);
          expect(gather.length).toBe(want.length);
        });
        expect(gather.take()?.toString() ?? "").toBe(want);
        expect(gather.length).toBe(0);
      }),
      { seed: 3 },
    );
  });
});
