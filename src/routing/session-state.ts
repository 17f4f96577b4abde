// What a statement may leave behind in its session, read from its text: settings, and what cannot follow a client to another
// server. Words, not grammar: where they mislead, it is towards a question too many or a server kept too long.

const setConfig = /\bset_config\s*\(/gi;
/** A call whose last argument says that it ends with the transaction. */
const localSetConfig = /\bset_config\s*\((?:[^()']|'(?:[^']|'')*')*,\s*(?:true|'t(?:rue)?')\s*\)/gi;

/** Whether `sql` may change settings beyond its transaction by set_config(). */
export function callsSetConfig(sql: string): boolean {
  const calls = sql.match(setConfig)?.length ?? 0;
  return calls > 0 && calls > (sql.match(localSetConfig)?.length ?? 0);
}

/** Whether `sql` is one SET that ends with its transaction. */
export function setsLocally(sql: string): boolean {
  return /^\s*SET\s+(?:LOCAL|TRANSACTION|CONSTRAINTS)\b[^;]*;?\s*$/i.test(sql);
}

const binding: readonly (readonly [RegExp, string])[] = [
  [/\b(?:CREATE\s+(?:LOCAL\s+|GLOBAL\s+)?|INTO\s+)TEMP(?:ORARY)?\b|\bpg_temp\b/i, "temporary_table"],
  [/\bpg_(?:try_)?advisory_lock(?:_shared)?\s*\(/i, "advisory_lock"],
  [/\bWITH\s+HOLD\b/i, "with_hold_cursor"],
];
/** A quick look for all of them. */
const suspicion = /temp|advisory_lock|hold/i;

/** Why a client that ran `sql` has to stay with its server, for a metric's label; null when it may go. */
export function bindsSession(sql: string): string | null {
  if (!suspicion.test(sql)) return null;
  return binding.find(([words]) => words.test(sql))?.[1] ?? null;
}

/** The same of what a command tag tells was executed. */
export const bindingTags: ReadonlyMap<string, string> = new Map([
  ["LISTEN", "listen"],
  ["PREPARE", "sql_prepare"],
  ["LOAD", "load"],
]);
