import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Crowd } from "../../../src/proxy/crowd.ts";

describe("a crowd", () => {
  test("names the origin that has most, and the one of it that came first", () => {
    const crowd = new Crowd<number>();
    expect([crowd.largest, crowd.eldest("a"), crowd.size]).toEqual([null, null, 0]);
    crowd.enter("honest", 1);
    for (const guest of [2, 3, 4]) crowd.enter("greedy", guest);
    expect([crowd.largest, crowd.eldest("greedy"), crowd.size]).toEqual(["greedy", 2, 4]);
    crowd.leave("greedy", 2);
    crowd.leave("greedy", 2);
    crowd.leave("nobody", 2);
    expect([crowd.eldest("greedy"), crowd.countOf("greedy"), crowd.size]).toEqual([3, 2, 3]);
  });

  test("counts like one that looks at everybody each time", () => {
    const step = fc.record({ enters: fc.boolean(), origin: fc.constantFrom("a", "b", "c", "d"), pick: fc.nat(5) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const crowd = new Crowd<number>();
        const model = new Map<string, number[]>();
        let next = 0;
        for (const { enters, origin, pick } of steps) {
          const guests = model.get(origin) ?? [];
          if (enters) {
            crowd.enter(origin, next);
            model.set(origin, [...guests, next++]);
          } else {
            const [gone] = guests.splice(pick % Math.max(1, guests.length), 1);
            crowd.leave(origin, gone ?? -1);
          }
          const counts = [...model.values()].map((each) => each.length);
          const most = Math.max(0, ...counts);
          expect(crowd.size).toBe(counts.reduce((sum, count) => sum + count, 0));
          expect(crowd.largest === null ? 0 : crowd.countOf(crowd.largest)).toBe(most);
          for (const [name, each] of model) expect(crowd.eldest(name)).toBe(each[0] ?? null);
        }
      }),
    );
  });
});
