// Waits that take too long, on a clock of the test's own: each is told of once, when it is due, and no other.

import { beforeEach, describe, expect, test } from "vitest";
import { WaitDeadlines, type Waiting } from "../../../src/proxy/wait-deadlines.ts";
import { FakeClock } from "../../support/fake-clock.ts";

let clock: FakeClock;
let deadlines: WaitDeadlines;
let expired: string[];

const waiting = (name: string): Waiting => ({ waitExpired: () => expired.push(`${name} at ${clock.now()}`) });

beforeEach(() => {
  clock = new FakeClock();
  deadlines = new WaitDeadlines(clock, 100);
  expired = [];
});

describe("a wait", () => {
  test("expires when its time is over, whoever came before or after", async () => {
    expect(deadlines.add(waiting("first"))).toBe(0);
    await clock.advance(30);
    expect(deadlines.add(waiting("second"))).toBe(30);
    await clock.advance(69);
    expect(expired).toEqual([]);
    await clock.advance(100);
    expect(expired).toEqual(["first at 100", "second at 130"]);
  });

  test("that has ended does not expire, nor hasten the next", async () => {
    const first = waiting("first");
    deadlines.add(first);
    await clock.advance(40);
    deadlines.remove(first);
    await clock.advance(40);
    deadlines.add(waiting("second"));
    await clock.advance(500);
    expect(expired).toEqual(["second at 180"]);
  });

  test("that begins anew has all of its time again", async () => {
    const twice = waiting("twice");
    deadlines.add(twice);
    await clock.advance(90);
    deadlines.remove(twice);
    deadlines.add(twice);
    await clock.advance(200);
    expect(expired).toEqual(["twice at 190"]);
  });

  test("may begin while another expires", async () => {
    deadlines.add({
      waitExpired: () => {
        expired.push("first");
        deadlines.add(waiting("next"));
      },
    });
    await clock.advance(1000);
    expect(expired).toEqual(["first", "next at 200"]);
  });
});
