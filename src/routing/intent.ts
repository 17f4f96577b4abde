// From what a session or a statement says to a target. Reads no more SQL than the words that open a read-only transaction:
// everything doubtful is for the primary.

import type { Route, Target } from "./target.ts";

const truth = new Set(["on", "true", "yes", "1", "t", "tr", "tru", "y", "ye"]);

/** The target of a whole session: its listener's route, and for `auto` whether its startup settings make it read-only. */
export function sessionTarget(route: Route, settings: ReadonlyMap<string, string>): Target {
  if (route !== "auto") return route === "write" ? "primary" : "replica";
  for (const [name, value] of settings) {
    if (name.toLowerCase() === "default_transaction_read_only") {
      return truth.has(value.trim().toLowerCase()) ? "replica" : "primary";
    }
  }
  return "primary";
}

const space = String.raw`(?:\s|--[^\n\r]*(?:[\n\r]|$)|/\*(?:[^*]|\*(?!/))*\*/)`;
const beginning = new RegExp(
  `^${space}*(?:BEGIN(?:${space}+(?:WORK|TRANSACTION))?|START${space}+TRANSACTION)(?<modes>(?:\\s[A-Za-z\\s,]*)?)(?:;${space}*)?$`,
  "i",
);

/**
 * Whether `sql` is one statement that opens a transaction, and whether it says that this will be read-only. Null when it is
 * anything else: several statements, or modes with comments between them. The last mode that is named counts, as in PostgreSQL.
 */
export function opensTransaction(sql: string): { readonly readOnly: boolean | null } | null {
  const modes = beginning.exec(sql)?.groups?.["modes"];
  if (modes === undefined) return null;
  const named = [...modes.matchAll(/READ\s+(ONLY|WRITE)/gi)].at(-1)?.[1];
  return { readOnly: named === undefined ? null : named.toUpperCase() === "ONLY" };
}

/** Whether `sql` may end a transaction with its effects kept: it names COMMIT, END or PREPARE TRANSACTION anywhere. */
export function mayCommit(sql: string): boolean {
  return /\b(?:COMMIT|END|PREPARE)\b/i.test(sql);
}

/** Whether `sql` may end a transaction in any way, and so do something outside of it: it names such a statement anywhere. */
export function mayEnd(sql: string): boolean {
  return /\b(?:COMMIT|END|PREPARE|ROLLBACK|ABORT)\b/i.test(sql);
}

const nothing = new RegExp(`^(?:${space}|;)*$`);

/** Whether `sql` has no statement in it: drivers and pools ping so. */
export const isEmpty = (sql: string): boolean => nothing.test(sql);

const deallocation = new RegExp(
  `^${space}*DEALLOCATE(?:${space}+PREPARE)?${space}+(?:"(?<quoted>[^"]+)"|(?<plain>[A-Za-z_][A-Za-z0-9_$]*))${space}*;?${space}*$`,
  "i",
);

/** The name that `sql`, as a whole, deallocates; null where it does something else, or deallocates all. */
export function deallocates(sql: string): string | null {
  const groups = deallocation.exec(sql)?.groups;
  const plain = groups?.["plain"]?.toLowerCase();
  return groups?.["quoted"] ?? (plain === "all" ? null : (plain ?? null));
}

/** Whether `sql` may take all prepared statements of the session away. */
export const dropsAll = (sql: string): boolean => /\b(?:DISCARD|DEALLOCATE)\b/i.test(sql) && /\bALL\b/i.test(sql);

/** What `sql`, as a whole, does to a failed transaction: ends it, or nothing. ROLLBACK TO does not end it. */
export function endsTransaction(sql: string): boolean {
  const ending = new RegExp(
    `^${space}*(?:ROLLBACK|ABORT|COMMIT|END)(?:${space}+(?:WORK|TRANSACTION))?(?:${space}+AND${space}+NO${space}+CHAIN)?${space}*;?${space}*$`,
    "i",
  );
  return ending.test(sql);
}
