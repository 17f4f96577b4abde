import type { Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { keepAlive } from "../../../src/core/keepalive.ts";

/** What node:net is asked for. */
function asked(options: Parameters<typeof keepAlive>[1]): unknown[] {
  const calls: unknown[] = [];
  const setKeepAlive = function (this: Socket, ...args: unknown[]): Socket {
    calls.push(args);
    return this;
  };
  keepAlive({ setKeepAlive }, options);
  return calls;
}

describe("keepalive", () => {
  test("is asked for with what is configured, and no more", () => {
    expect(asked({ idleMs: 30_000, intervalMs: 5000, count: 3 })).toEqual([[true, 30_000, 5000, 3]]);
    expect(asked({ idleMs: 30_000, intervalMs: null, count: null })).toEqual([[true, 30_000, undefined, undefined]]);
    expect(asked(null)).toEqual([[false]]);
  });
});
