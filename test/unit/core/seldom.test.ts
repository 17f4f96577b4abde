import { expect, test } from "vitest";
import { Seldom } from "../../../src/core/seldom.ts";
import { millis } from "../../../src/core/units.ts";
import { FakeClock } from "../../support/fake-clock.ts";

test("lets one through at once, then one every so often, and tells how many it stands for", async () => {
  const clock = new FakeClock();
  const seldom = new Seldom(clock, millis(1000));
  expect([seldom.due(), seldom.due(), seldom.due()]).toEqual([1, null, null]);
  await clock.advance(999);
  expect(seldom.due()).toBe(null);
  await clock.advance(1);
  expect([seldom.due(), seldom.due()]).toEqual([4, null]);
});
