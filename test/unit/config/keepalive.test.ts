import { expect, test } from "vitest";
import { checkKeepAlive, resolveKeepAlive } from "../../../src/config/keepalive.ts";
import { poolSchema } from "../../../src/config/schema.ts";

function reported(settings: Readonly<Record<string, unknown>>, settable: boolean): string[] {
  const said: string[] = [];
  const say = (kind: string) => (path: readonly (string | number)[], message: string) =>
    said.push(`${kind} ${path.join(".")} ${message.split(":")[0]}`);
  const report = { problem: say("problem"), warning: say("warning") };
  checkKeepAlive(poolSchema.parse(settings), report, settable);
  return said;
}

test("interval and count are taken where Node.js can set them, and refused where it cannot", () => {
  const both = { tcp_keepintvl: 5, tcp_keepcnt: 3 };
  expect(reported(both, true)).toEqual([]);
  expect(reported(both, false)).toEqual([
    "problem pool.tcp_keepintvl cannot be set",
    "problem pool.tcp_keepcnt cannot be set",
  ]);
  expect(reported({}, false)).toEqual([]);
  expect(reported({ tcp_keepalive: false, tcp_keepcnt: 3 }, true)).toEqual(["warning pool.tcp_keepcnt is not used"]);
  expect(resolveKeepAlive(poolSchema.parse(both))).toEqual({ idleMs: 30_000, intervalMs: 5000, count: 3 });
});
