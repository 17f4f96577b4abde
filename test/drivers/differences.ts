// Where pgsteer differs from PostgreSQL on purpose, with the reason. A cell that passes directly and fails through pgsteer
// is an error unless it is listed here; and so is a row of this list whose cell passes for every driver.

import type { Mode } from "./outcome.ts";

interface Difference {
  /** Names of driver programs; absent: all. */
  readonly drivers?: readonly string[];
  readonly mode: Exclude<Mode, "direct">;
  readonly scenario: string;
  readonly reason: string;
}

export const differences: readonly Difference[] = [
  {
    mode: "transaction",
    scenario: "backend_pid",
    reason: "a client has no server of its own; between transactions any server's number would be wrong",
  },
];

/** The row that explains a cell, if there is one. */
export function differenceFor(driver: string, mode: Mode, scenario: string): Difference | null {
  return (
    differences.find(
      (row) => row.mode === mode && row.scenario === scenario && (row.drivers?.includes(driver) ?? true),
    ) ?? null
  );
}
