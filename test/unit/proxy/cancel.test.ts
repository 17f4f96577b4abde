// Cancel keys: how long they are, and who is let through with which.

import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { CancelKeys, type Cancellable } from "../../../src/proxy/cancel.ts";
import { FakeClock } from "../../support/fake-clock.ts";

/** A client that waits for a server, and counts how often that wait was cancelled. */
function waiting(): Cancellable & { cancelled: number } {
  return {
    server: null,
    cancelled: 0,
    cancelWait() {
      this.cancelled += 1;
    },
    flushReplies() {},
  };
}

const keys = (): CancelKeys => new CancelKeys(new FakeClock(), randomBytes);

describe("cancel keys", () => {
  test.each([
    [0, 4],
    [2, 32],
  ])("for protocol 3.%i have %i bytes, and a pid that SQL takes", (minor, length) => {
    const issued = keys().issue(waiting(), minor);
    expect(issued.key).toHaveLength(length);
    expect(issued.pid).toBeGreaterThan(0);
    expect(issued.pid).toBeLessThanOrEqual(0x7fff_ffff);
  });

  test("let in exactly those who know all of them", () => {
    const cancels = keys();
    const [short, long] = [waiting(), waiting()];
    const [one, other] = [cancels.issue(short), cancels.issue(long, 2)];
    const changed = Buffer.from(other.key);
    changed[31] = (changed[31] ?? 0) ^ 1;
    const wrong: readonly (readonly [number, Buffer])[] = [
      [one.pid, other.key],
      [other.pid, one.key],
      [other.pid, other.key.subarray(0, 4)],
      [other.pid, other.key.subarray(0, 31)],
      [other.pid, Buffer.concat([other.key, Buffer.alloc(1)])],
      [other.pid, Buffer.concat([other.key, other.key])],
      [other.pid, changed],
      [one.pid, Buffer.alloc(0)],
    ];
    for (const [pid, key] of wrong) cancels.cancel(pid, key, (passedOn) => expect(passedOn).toBe(false));
    expect([short.cancelled, long.cancelled]).toEqual([0, 0]);
    cancels.cancel(one.pid, one.key, () => {});
    cancels.cancel(other.pid, other.key, () => {});
    expect([short.cancelled, long.cancelled]).toEqual([1, 1]);
    cancels.revoke(other.pid, long);
    cancels.cancel(other.pid, other.key, () => {});
    expect(long.cancelled).toBe(1);
  });
});
