// The time limits of a client, to the millisecond, on a clock that the test moves.

import { describe, expect, test } from "vitest";
import { type ClientTimeouts, ClientTimes } from "../../../src/proxy/client-times.ts";
import { FakeClock } from "../../support/fake-clock.ts";

const never: ClientTimeouts = {
  queryTimeoutMs: 0,
  transactionTimeoutMs: 0,
  idleTransactionTimeoutMs: 0,
  clientIdleTimeoutMs: 0,
};

function timesOf(limits: Partial<ClientTimeouts>): { clock: FakeClock; times: ClientTimes } {
  const clock = new FakeClock();
  const times = ClientTimes.of(clock, { ...never, ...limits });
  if (times === null) throw new Error("nothing is limited");
  return { clock, times };
}

describe("the times of a client", () => {
  test("are not taken where nothing is limited", () => {
    expect(ClientTimes.of(new FakeClock(), never)).toBe(null);
  });

  test.each([
    ["queryTimeoutMs", "query", "57014"],
    ["idleTransactionTimeoutMs", "transaction", "25P03"],
    ["clientIdleTimeoutMs", "idle", "57P01"],
    ["transactionTimeoutMs", "query", "25P04"],
    ["transactionTimeoutMs", "transaction", "25P04"],
  ] as const)("are over by %s in phase %s, and only there", async (limit, phase, sqlstate) => {
    const { clock, times } = timesOf({ [limit]: 1000 });
    times.asked();
    if (phase === "idle") times.rested();
    await clock.advance(999);
    expect(times.overdue(clock.now(), phase)).toBe(null);
    await clock.advance(1);
    expect(times.overdue(clock.now(), phase)).toMatchObject({ sqlstate, severity: "FATAL" });
    for (const other of ["idle", "transaction", "query", null] as const) {
      const both = limit === "transactionTimeoutMs" && (other === "query" || other === "transaction");
      if (other !== phase && !both) expect(times.overdue(clock.now(), other)).toBe(null);
    }
  });

  test("of a query begin anew with each answer of a pipeline, and with what the client sends", async () => {
    const { clock, times } = timesOf({ queryTimeoutMs: 1000 });
    times.asked();
    await clock.advance(900);
    times.answered(false, true);
    await clock.advance(900);
    expect(times.overdue(clock.now(), "query")).toBe(null);
    times.asked();
    await clock.advance(999);
    expect(times.overdue(clock.now(), "query")).toBe(null);
    await clock.advance(1);
    expect(times.overdue(clock.now(), "query")?.code).toBe("query_timeout");
  });

  test("of a transaction go on through its statements, and end with it", async () => {
    const { clock, times } = timesOf({ transactionTimeoutMs: 1000 });
    times.asked();
    await clock.advance(600);
    times.answered(true, false);
    times.asked();
    await clock.advance(399);
    expect(times.overdue(clock.now(), "query")).toBe(null);
    await clock.advance(1);
    expect(times.overdue(clock.now(), "query")?.code).toBe("transaction_timeout");
    times.answered(false, false);
    await clock.advance(5000);
    expect(times.overdue(clock.now(), "transaction")).toBe(null);
    times.asked();
    times.answered(false, true);
    await clock.advance(1000);
    expect(times.overdue(clock.now(), "query")?.code).toBe("transaction_timeout");
  });
});
