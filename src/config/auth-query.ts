// The settings of auth_query: in the section `auth` for all databases, and over again in entries of `databases`.

import type { AuthQuerySettings } from "../auth/auth-query-settings.ts";
import type { Secret } from "../auth/secret.ts";
import type { DatabaseConfig } from "./config.ts";
import { givesPassword, readPassword, type Surroundings } from "./files.ts";
import type { FileAuth } from "./schema-access.ts";

/** Nobody is asked for. */
export const noAuthQuery: AuthQuerySettings = {
  user: null,
  secret: null,
  query: null,
  dbname: null,
  ageMaxMs: 0,
  staleMaxMs: 0,
  databases: new Map(),
};

/** Whether anybody is asked for in any database. */
export const asksForUsers = (settings: AuthQuerySettings): boolean =>
  settings.user !== null || [...settings.databases.values()].some(({ user }) => user !== null);

/** `databases`: as they were loaded; `users`: the userlist's. */
export function resolveAuthQuery(
  file: FileAuth,
  databases: ReadonlyMap<string, DatabaseConfig> | null,
  users: ReadonlyMap<string, Secret>,
  around: Surroundings,
): AuthQuerySettings {
  const { report } = around;
  const password = readPassword(file, ["auth"], around);
  const overrides = new Map<string, DatabaseConfig["auth"]>();
  for (const [name, { auth }] of databases ?? []) {
    if ((auth.user ?? auth.query ?? auth.dbname) !== null) overrides.set(name, auth);
  }
  const settings: AuthQuerySettings = {
    user: file.user ?? null,
    secret: password === null ? null : { kind: "plain", password },
    query: file.query ?? null,
    dbname: file.dbname ?? null,
    ageMaxMs: file.query_age_max,
    staleMaxMs: file.query_stale_max,
    databases: overrides,
  };
  if (file.user === undefined && givesPassword(file)) {
    report.problem(["auth"], "gives a password without a user", "add user, the role that runs auth.query");
  }
  for (const key of ["query", "dbname"] as const) {
    if (file[key] === undefined || asksForUsers(settings)) continue;
    report.warning(["auth", key], "is not used: there is no auth.user", "add user, the role that runs the query");
  }
  if (file.query !== undefined) reportQuery(["auth", "query"], file.query, around);
  for (const [name, { user, query }] of overrides) {
    if (query !== null) reportQuery(["databases", name, "auth_query"], query, around);
    if (user !== null && !knows(users, user) && !(user === file.user && givesPassword(file))) {
      const message = `has no password for "${user}", which works only where PostgreSQL does not ask for one`;
      report.warning(["databases", name, "auth_user"], message, "list the role with its password in auth.file");
    }
  }
  if (file.user !== undefined && !givesPassword(file) && !knows(users, file.user)) {
    const message = `has no password for "${file.user}", which works only where PostgreSQL does not ask for one`;
    report.warning(["auth", "user"], message, "add password_file, or list the role with its password in auth.file");
  }
  return settings;
}

const knows = (users: ReadonlyMap<string, Secret>, user: string): boolean => {
  const listed = users.get(user);
  return listed !== undefined && listed.kind !== "scram";
};

function reportQuery(path: readonly string[], query: string, { report }: Surroundings): void {
  if (/\$1\b/.test(query)) return;
  report.problem(path, "does not say $1, which stands for the user's name", "write such as: … WHERE rolname = $1");
}
