// What the driver tests conclude from what programs print; the programs themselves run by `npm run test:drivers`.

import { describe, expect, test } from "vitest";
import { allDrivers } from "./catalogue.ts";
import { completed, type Outcome, outcomesOf } from "./outcome.ts";
import { brokenBy, type DriverResult, failedDirectly, idleDifferences, inMarkdown, inWords } from "./verdict.ts";

const outcome = (scenario: Outcome["scenario"], status: Outcome["status"], detail = ""): Outcome => ({
  scenario,
  status,
  detail,
});

const run = (pid: Outcome["status"], ssl: Outcome["status"]): readonly Outcome[] => [
  outcome("backend_pid", pid, "1, not 2"),
  outcome("ssl", ssl, "refused"),
];

describe("driver programs", () => {
  test("are found with their commands, and have names of their own", () => {
    const names = allDrivers().map(({ name }) => name);
    expect(names).toContain("psycopg3");
    expect(new Set(names).size).toBe(names.length);
  });

  test("answer in lines of the contract, for every scenario", () => {
    const said = outcomesOf(
      '{"scenario":"ssl","status":"passed"}\n\n{"scenario":"pool","status":"skipped","detail":"x"}\n',
    );
    expect(said.map(({ status }) => status)).toEqual(["passed", "skipped"]);
    expect(() => outcomesOf("hello")).toThrow("not a line of the contract: hello");
    expect(() => outcomesOf('{"scenario":"other","status":"passed"}')).toThrow("not a line of the contract");
    expect(completed(["ssl", "cursor"], said, "it ended with 1")).toEqual([
      { scenario: "cursor", status: "failed", detail: "it ended with 1" },
      { scenario: "ssl", status: "passed" },
    ]);
  });
});

describe("the verdict on drivers", () => {
  const results: readonly DriverResult[] = [
    {
      driver: "one",
      runs: {
        direct: run("passed", "passed"),
        session: run("failed", "passed"),
        transaction: run("failed", "skipped"),
      },
    },
    { driver: "two", notRun: "no compiler" },
    {
      driver: "three",
      runs: {
        direct: run("skipped", "failed"),
        session: run("skipped", "failed"),
        transaction: run("skipped", "failed"),
      },
    },
  ];

  test("is about what passes directly and not through pgsteer, a skip included", () => {
    expect(brokenBy(results).map(({ mode, scenario, reason }) => [mode, scenario, reason === null])).toEqual([
      ["session", "backend_pid", true],
      ["transaction", "backend_pid", false],
      ["transaction", "ssl", true],
    ]);
    expect(failedDirectly(results)).toEqual(["three: ssl: refused"]);
  });

  test("knows a stated difference that is none any more", () => {
    expect(idleDifferences(results)).toEqual([]);
    const same = run("passed", "passed");
    expect(idleDifferences([{ driver: "one", runs: { direct: same, session: same, transaction: same } }])).toEqual([
      "backend_pid in mode transaction",
    ]);
  });

  test("is told in words and in Markdown", () => {
    for (const text of [inWords(results), inMarkdown(results)]) {
      expect(text).toContain("one, session, backend_pid: 1, not 2");
      expect(text).toContain("two: no compiler");
      expect(text).toContain("2/0/0");
    }
    expect(inMarkdown(results)).toContain("| ssl | passed | passed | skipped |");
  });
});
