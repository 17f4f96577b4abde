// What driver programs say, decoded: one line per scenario, and the one list of scenarios that all of them have to answer for.

import { z } from "zod";

export const modes = ["direct", "session", "transaction"] as const;
export type Mode = (typeof modes)[number];

/** As SCENARIOS.md describes them; a program answers for each. */
export const scenarios = [
  "simple_query",
  "multi_statement",
  "extended_query",
  "parameters_null_and_arrays",
  "named_prepared",
  "unnamed_prepared",
  "prepared_after_ddl",
  "prepared_many",
  "pipeline",
  "cursor",
  "cursor_fetch_portal",
  "copy_in",
  "copy_out",
  "copy_in_error",
  "listen_notify",
  "cancel",
  "ssl",
  "large_objects",
  "binary_types",
  "errors",
  "error_in_transaction",
  "savepoints",
  "set_show",
  "set_local",
  "startup_options",
  "temp_tables",
  "advisory_locks",
  "with_hold_cursor",
  "sql_prepare",
  "isolation_levels",
  "read_only_session",
  "notices",
  "backend_pid",
  "two_phase",
  "reconnect",
  "wrong_password",
  "unknown_database",
  "concurrency",
  "pool",
  "close_midway",
  "orm_schema",
] as const;

const lineSchema = z.strictObject({
  scenario: z.enum(scenarios),
  status: z.enum(["passed", "failed", "skipped"]),
  detail: z.string().optional(),
});

/** What became of one scenario. */
export type Outcome = z.output<typeof lineSchema>;

/** Decodes a program's standard output. Throws, with the line, for what is not of the contract. */
export function outcomesOf(stdout: string): Outcome[] {
  const lines = stdout.split("\n").filter((line) => line.trim() !== "");
  return lines.map((line) => {
    try {
      return lineSchema.parse(JSON.parse(line));
    } catch (cause) {
      throw new Error(`not a line of the contract: ${line.slice(0, 200)}`, { cause });
    }
  });
}

/**
 * All scenarios that were asked for, with one outcome each: what a program has not answered for has failed, for the reason
 * that is given.
 */
export function completed(asked: readonly string[], said: readonly Outcome[], otherwise: string): Outcome[] {
  return scenarios
    .filter((scenario) => asked.includes(scenario))
    .map(
      (scenario) =>
        said.find((outcome) => outcome.scenario === scenario) ?? { scenario, status: "failed", detail: otherwise },
    );
}
