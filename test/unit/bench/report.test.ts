import { describe, expect, test } from "vitest";
import {
  type Cell,
  type ComparisonOptions,
  checkSize,
  type Load,
  poolingFor,
  type Sample,
} from "../../../bench/comparison.ts";
import { brief, comparisonTable, footnotes, noiseInWords, sumUp } from "../../../bench/report.ts";
import type { PathName } from "../../../bench/testbed.ts";

const simple: Load = { protocol: "simple", clients: 16, reconnect: false };
const prepared: Load = { protocol: "prepared", clients: 64, reconnect: false };
const options: ComparisonOptions = {
  seconds: 1,
  rounds: 2,
  loads: [simple, prepared],
  paths: ["pgbouncer", "pgsteer"],
  poolMode: "transaction",
  poolSize: 20,
  rate: null,
};

const sample = (tps: number, processorUs: number | null): Sample => ({
  tps,
  latencyMs: 16_000 / tps,
  p99Ms: null,
  userUs: processorUs === null ? null : 1,
  systemUs: processorUs === null ? null : processorUs - 1,
  processorUs,
});

const cell = (load: Load, path: PathName, samples: readonly Sample[]): Cell => ({
  load,
  path,
  pooling: poolingFor(path, load, options),
  samples,
});

describe("the pools of a comparison", () => {
  test("are the same for both poolers in transaction mode", () => {
    expect(poolingFor("pgsteer", simple, options)).toEqual(poolingFor("pgbouncer", simple, options));
    expect(poolingFor("pgsteer", simple, options)).toMatchObject({ poolMode: "transaction", poolSize: 20 });
  });

  test("have a server for each client where named statements tie clients to servers", () => {
    expect(poolingFor("pgbouncer", prepared, options)).toMatchObject({ poolMode: "session", poolSize: 64 });
    expect(poolingFor("pgsteer", prepared, options)).toMatchObject({ poolMode: "transaction", poolSize: 64 });
  });

  test("have a server for each client in session mode", () => {
    const pooling = poolingFor("pgsteer", simple, { ...options, poolMode: "session" });
    expect(pooling).toMatchObject({ poolMode: "session", poolSize: 64 });
  });
});

describe("the size of a comparison", () => {
  test("is bounded by what PostgreSQL takes", () => {
    expect(() => checkSize(options)).not.toThrow();
    expect(() => checkSize({ ...options, loads: [{ ...simple, clients: 200 }] })).toThrow("server connections");
    expect(() => checkSize({ ...options, poolSize: 400 })).toThrow("server connections");
  });
});

describe("the report of a comparison", () => {
  const cells = sumUp([
    cell(simple, "direct", [sample(40_000, null), sample(20_000, null)]),
    cell(simple, "pgbouncer", [sample(20_000, 10), sample(10_000, 12)]),
    cell(simple, "pgsteer", [sample(22_000, 9), sample(11_000, 10.8)]),
  ]);

  test("has medians, ranges and the ratio to PgBouncer's", () => {
    const pgsteer = cells.find(({ path }) => path === "pgsteer");
    expect(pgsteer?.measures.tps.spread).toEqual({ median: 16_500, min: 11_000, max: 22_000 });
    expect(pgsteer?.measures.tps.ratio).toBeCloseTo(1.1);
    expect(pgsteer?.measures.processorUs.ratio).toBeCloseTo(0.9);
  });

  test("shows them, no processor time for the direct path, and no column without values", () => {
    const table = comparisonTable(cells);
    expect(table).toContain("16.5k ×1.10 [11.0k–22.0k]");
    expect(table).toContain("9.90 ×0.90 [9.00–10.8]");
    expect(table).toMatch(/direct .*│ –/);
    expect(table).not.toContain("p99");
    expect(table.split("simple 16")).toHaveLength(2);
  });

  test("says how noisy it was, or that it cannot know", () => {
    expect(noiseInWords(cells, { stolen: 0.015, others: 0.25 })).toContain("up to 67 % (direct, simple 16)");
    expect(noiseInWords(cells, { stolen: 0.015, others: 0.25 })).toContain("other processes took 25 %, its host 2 %");
    expect(noiseInWords(sumUp([cell(simple, "direct", [sample(1, null)])]), { stolen: 0, others: 0 })).toContain(
      "one round only",
    );
  });

  test("explains what differs between paths only where it does", () => {
    const both = [cell(prepared, "pgbouncer", [sample(1, 1)]), cell(prepared, "pgsteer", [sample(1, 1)])];
    expect(footnotes(sumUp(both)).join()).toContain("session mode here");
    expect(footnotes(cells).join()).not.toContain("session mode here");
  });

  test("writes numbers with three significant digits", () => {
    expect([0.123, 1.236, 9.999, 12.34, 99.97, 987.6, 1234, 12_345, 123_456].map(brief)).toEqual([
      "0.12",
      "1.24",
      "10.0",
      "12.3",
      "100",
      "988",
      "1.23k",
      "12.3k",
      "123k",
    ]);
  });
});
