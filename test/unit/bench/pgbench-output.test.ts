import { describe, expect, test } from "vitest";
import { parseLatencies, parseSummary } from "../../../bench/pgbench-output.ts";

const steady = `pgbench (15.20 (Debian 15.20-0+deb12u1))
transaction type: <builtin: select only>
scaling factor: 10
query mode: simple
number of clients: 16
number of threads: 2
maximum number of tries: 1
duration: 3 s
number of transactions actually processed: 83604
number of failed transactions: 0 (0.000%)
latency average = 0.572 ms
initial connection time = 21.400 ms
tps = 27985.163113 (without initial connection time)
`;

const reconnecting = `number of transactions actually processed: 268
number of failed transactions: 2 (0.741%)
latency average = 29.729 ms
average connection time = 28.001 ms
tps = 269 (including reconnection times)
`;

describe("the output of pgbench", () => {
  test("says how many transactions, how fast, how long each took", () => {
    expect(parseSummary(steady)).toEqual({ transactions: 83604, failed: 0, tps: 27985.163113, latencyMs: 0.572 });
  });

  test("says the same when it connects for each transaction, and how many failed", () => {
    expect(parseSummary(reconnecting)).toEqual({ transactions: 268, failed: 2, tps: 269, latencyMs: 29.729 });
  });

  test("is refused when the run did not come to its end", () => {
    expect(() => parseSummary("pgbench: error: connection to server failed")).toThrow("connection to server failed");
    for (const line of ["number of transactions actually processed: 83604\n", "tps = 27985", "latency average"]) {
      expect(() => parseSummary(steady.replace(line, "")), line).toThrow("not what pgbench says");
    }
  });
});

describe("the transaction log of pgbench", () => {
  test("has latencies in microseconds, with or without a schedule lag behind them", () => {
    expect(parseLatencies("0 199 2241 0 1175850568 995598\n3 7 500 0 1175850568 998079 120\n")).toEqual([2.241, 0.5]);
  });

  test("has words where a transaction failed or was skipped: those are no latencies", () => {
    expect(parseLatencies("3 0 failed 0 1499414498 84905\n3 1 skipped 0 1499414498 84905\n")).toEqual([]);
  });

  test("may end in the middle of a line, which does not count", () => {
    expect(parseLatencies("0 199 2241 0 1175850568 995598\n0 200 22")).toEqual([2.241]);
    expect(parseLatencies("0 200 2241 ")).toEqual([]);
    expect(parseLatencies("")).toEqual([]);
  });
});
