import { describe, expect, test } from "vitest";
import { Handshakes } from "../../../src/proxy/handshakes.ts";
import { FakeClock } from "../../support/fake-clock.ts";

function setUp(perSecond: number) {
  const clock = new FakeClock();
  const handshakes = new Handshakes(clock, perSecond);
  const begun: string[] = [];
  const ask = (origin: string, name = origin): (() => void) => handshakes.ask(origin, () => begun.push(name));
  return { clock, handshakes, begun, ask };
}

describe("TLS handshakes", () => {
  test("begin at once while there are few, and wait for their turn beyond that", async () => {
    const { clock, handshakes, begun, ask } = setUp(100);
    for (let index = 0; index < 15; index += 1) ask("a", `${index}`);
    expect([begun.length, handshakes.size]).toEqual([10, 5]);
    await clock.advance(30);
    expect([begun.length, handshakes.size]).toEqual([13, 2]);
    await clock.advance(1_000);
    expect(begun).toEqual(Array.from({ length: 15 }, (_, index) => `${index}`));
    expect(handshakes.size).toBe(0);
  });

  test("are never more than so many in a second, however many ask", async () => {
    const { clock, begun, ask } = setUp(50);
    for (let index = 0; index < 1_000; index += 1) ask("a");
    await clock.advance(10_000);
    expect(begun.length).toBeLessThanOrEqual(505);
    expect(begun.length).toBeGreaterThanOrEqual(495);
  });

  test("of one that asks for thousands do not make another one wait: origins take turns", async () => {
    const { clock, begun, ask } = setUp(10);
    for (let index = 0; index < 500; index += 1) ask("greedy");
    ask("honest");
    await clock.advance(300);
    expect(begun).toContain("honest");
  });

  test("that are given up are not begun", async () => {
    const { clock, handshakes, begun, ask } = setUp(1);
    ask("a", "first");
    const giveUp = ask("a", "second");
    ask("a", "third");
    giveUp();
    giveUp();
    expect(handshakes.size).toBe(1);
    await clock.advance(5_000);
    expect(begun).toEqual(["first", "third"]);
  });

  test("may be any number, also when it is said later", async () => {
    const { begun, ask, handshakes } = setUp(0);
    for (let index = 0; index < 100; index += 1) ask("a");
    expect(begun.length).toBe(100);
    handshakes.resize(1);
    for (let index = 0; index < 10; index += 1) ask("a");
    handshakes.resize(0);
    expect([begun.length, handshakes.size]).toEqual([110, 0]);
  });
});
