// First come, first served, bounded.

import { describe, expect, test } from "vitest";
import { millis } from "../../../src/core/units.ts";
import { WaitQueue } from "../../../src/pool/wait-queue.ts";

describe("WaitQueue", () => {
  test("serves in the order of arrival, whoever leaves in between", () => {
    const queue = new WaitQueue<string>(10);
    for (const name of ["a", "b", "c", "d"]) expect(queue.add(name, millis(0))).toBeNull();
    expect(queue.remove("b")).toBe(true);
    expect(queue.remove("b")).toBe(false);
    expect(queue.shift()).toBe("a");
    queue.add("b", millis(0));
    expect([queue.shift(), queue.shift(), queue.shift(), queue.shift()]).toEqual(["c", "d", "b", null]);
  });

  test("refuses the one too many, in words that say what to do, and takes it when there is room", () => {
    const queue = new WaitQueue<string>(2);
    queue.add("a", millis(0));
    queue.add("b", millis(0));
    expect(queue.add("c", millis(0))).toMatchObject({ code: "wait_queue_full", sqlstate: "53300" });
    expect(queue.size).toBe(2);
    queue.shift();
    expect(queue.add("c", millis(0))).toBeNull();
  });

  test("empties at once, oldest first", () => {
    const queue = new WaitQueue<string>(3);
    for (const name of ["a", "b"]) queue.add(name, millis(0));
    expect(queue.drain()).toEqual(["a", "b"]);
    expect([queue.size, queue.shift()]).toEqual([0, null]);
  });

  test("knows since when the oldest waits, and how many are late", () => {
    const queue = new WaitQueue<string>(9);
    expect(queue.oldest).toBeNull();
    for (const [index, name] of ["a", "b", "c", "d"].entries()) queue.add(name, millis(index * 10));
    expect(queue.overdue(10, 9)).toEqual({ count: 2, next: 20 });
    expect(queue.overdue(10, 1)).toEqual({ count: 1, next: null });
    queue.remove("a");
    expect([queue.oldest, queue.overdue(100, 9)]).toEqual([10, { count: 3, next: null }]);
  });
});
