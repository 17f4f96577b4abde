// What a server is asked between two transactions: which settings its session has, and, where something suggests it, what is left in
// it that cannot follow a client (https://www.postgresql.org/docs/current/views.html). One statement, one row, one round trip.

import { decodeSettings, type SettingsSet, settingsQuestion } from "../pool/settings.ts";
import { SERVER_NAME_PREFIX } from "../pool/statements.ts";
import { type PinCause, pinCauses } from "../routing/session-effects.ts";

/** What the answer says. */
export interface SessionAnswer {
  readonly settings: SettingsSet;
  /** Null where it was not asked for. */
  readonly pins: ReadonlySet<PinCause> | null;
}

/** Where each kind of thing is seen. Outside a transaction all advisory locks that are held are the session's. */
const places: readonly (readonly [PinCause, string])[] = [
  ["listen", "pg_catalog.pg_listening_channels()"],
  ["advisory_lock", "pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()"],
  [
    "temporary_table",
    `pg_catalog.pg_depend WHERE refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
      AND refobjid = pg_catalog.pg_my_temp_schema()`,
  ],
  ["with_hold_cursor", "pg_catalog.pg_cursors WHERE is_holdable"],
  ["sql_prepare", "pg_catalog.pg_prepared_statements WHERE from_sql"],
];

/** What a client named itself on the server, because it was too long to be shared. */
const ownStatements = `pg_catalog.pg_prepared_statements
  WHERE NOT from_sql AND pg_catalog.left(name, ${SERVER_NAME_PREFIX.length}) <> '${SERVER_NAME_PREFIX}'`;

const when = ([cause, place]: readonly [PinCause, string]): string =>
  `CASE WHEN EXISTS (SELECT 1 FROM ${place}) THEN '${cause}' END`;

/** The SQL. `custom`: settings of the user's own that may be there. `shares`: named statements are ours, but for those too long. */
export function sessionQuestion(custom: Iterable<string>, pins: boolean, shares: boolean): string {
  const settings = settingsQuestion(custom);
  if (!pins) return settings;
  const asked = shares ? [...places, ["large_prepared_statement", ownStatements] as const] : places;
  return `SELECT (${settings}), pg_catalog.concat_ws(' ', ${asked.map(when).join(", ")})`;
}

/** Reads the answer's row; null when it is none. */
export function decodeSessionAnswer(row: readonly (string | null)[] | null, pinsAsked: boolean): SessionAnswer | null {
  const settings = decodeSettings(row?.[0]);
  if (settings === null) return null;
  if (!pinsAsked) return { settings, pins: null };
  const words = new Set((row?.[1] ?? "").split(" "));
  return { settings, pins: new Set(pinCauses.filter((cause) => words.has(cause))) };
}
