// Reads PgBouncer's userlist.txt (https://www.pgbouncer.org/config.html#authentication-file-format): one user a line,
// both fields in double quotes, a quote inside doubled, `;` at the start of a line for a comment. What stands behind
// the second field is ignored, as PgBouncer does. Errors name the line and never show what the line says.

import { parseSecret, type Secret } from "./secret.ts";

/** Users of one file; more are a mistake, not a userlist. */
const USERS_MAX = 1_000_000;
/** PgBouncer's own bounds are 127 and 2047 bytes; PostgreSQL's role names have at most 63. */
const USER_BYTES_MAX = 127;
const SECRET_BYTES_MAX = 2047;

/** What is wrong with one line, and what to do; neither contains the line's text. */
export interface UserlistProblem {
  /** From 1. */
  readonly line: number;
  readonly message: string;
  readonly remedy: string;
}

export type Userlist =
  | { readonly ok: true; readonly users: ReadonlyMap<string, Secret> }
  | { readonly ok: false; readonly problems: readonly UserlistProblem[] };

const linePattern = /^\s*"((?:[^"]|"")*)"\s+"((?:[^"]|"")*)"(?:\s.*)?$/;
const formRemedy = 'write "user" "secret", both in double quotes, a quote inside them doubled';

function parseLine(line: string): { user: string; secret: string } | Omit<UserlistProblem, "line"> {
  const match = linePattern.exec(line);
  if (match?.[1] === undefined || match[2] === undefined) {
    return { message: "is not a user and a secret", remedy: formRemedy };
  }
  const user = match[1].replaceAll('""', '"');
  const secret = match[2].replaceAll('""', '"');
  if (user === "") return { message: "has an empty user name", remedy: formRemedy };
  if (Buffer.byteLength(user) > USER_BYTES_MAX) {
    return { message: `has a user name of more than ${USER_BYTES_MAX} bytes`, remedy: "check its quotes" };
  }
  if (Buffer.byteLength(secret) > SECRET_BYTES_MAX) {
    return { message: `has a secret of more than ${SECRET_BYTES_MAX} bytes`, remedy: "check its quotes" };
  }
  return { user, secret };
}

/** Parses a whole file. An empty secret stays an empty password, with which nobody can log in. */
export function parseUserlist(text: string): Userlist {
  const users = new Map<string, Secret>();
  const firstLine = new Map<string, number>();
  const problems: UserlistProblem[] = [];
  for (const [index, raw] of text
    .replace(/^\uFEFF/, "")
    .split(/\r?\n/)
    .entries()) {
    const line = index + 1;
    if (/^\s*(;|$)/.test(raw)) continue;
    const parsed = parseLine(raw);
    if ("message" in parsed) {
      problems.push({ line, ...parsed });
      continue;
    }
    const earlier = firstLine.get(parsed.user);
    if (earlier !== undefined) {
      problems.push({ line, message: `names the same user as line ${earlier}`, remedy: "keep one of the two lines" });
      continue;
    }
    if (users.size >= USERS_MAX) {
      problems.push({ line, message: `is beyond the limit of ${USERS_MAX} users`, remedy: "split the file" });
      break;
    }
    firstLine.set(parsed.user, line);
    users.set(parsed.user, parseSecret(parsed.secret));
  }
  return problems.length === 0 ? { ok: true, users } : { ok: false, problems };
}
