// First come, first served, bounded.

import { describe, expect, test } from "vitest";
import { WaitQueue } from "../../../src/pool/wait-queue.ts";

describe("WaitQueue", () => {
  test("serves in the order of arrival, whoever leaves in between", () => {
    const queue = new WaitQueue<string>(10);
    for (const name of ["a", "b", "c", "d"]) expect(queue.add(name)).toBeNull();
    expect(queue.remove("b")).toBe(true);
    expect(queue.remove("b")).toBe(false);
    expect(queue.shift()).toBe("a");
    queue.add("b");
    expect([queue.shift(), queue.shift(), queue.shift(), queue.shift()]).toEqual(["c", "d", "b", null]);
  });

  test("refuses the one too many, in words that say what to do, and takes it when there is room", () => {
    const queue = new WaitQueue<string>(2);
    queue.add("a");
    queue.add("b");
    expect(queue.add("c")).toMatchObject({ code: "wait_queue_full", sqlstate: "53300" });
    expect(queue.size).toBe(2);
    queue.shift();
    expect(queue.add("c")).toBeNull();
  });

  test("empties at once, oldest first", () => {
    const queue = new WaitQueue<string>(3);
    for (const name of ["a", "b"]) queue.add(name);
    expect(queue.drain()).toEqual(["a", "b"]);
    expect([queue.size, queue.shift()]).toEqual([0, null]);
  });
});
