// The sections `databases` and `users` of the file, each entry decoded by itself and checked against the rest.

import type { Secret } from "../auth/secret.ts";
import type { DatabaseConfig, UserConfig } from "./config.ts";
import { decodeSection, type Report, valueAt } from "./decode.ts";
import type { Path } from "./document.ts";
import { givesPassword, readPassword, type Surroundings } from "./files.ts";
import { databaseSchema, type FileDatabase, type FilePool, type FileUser, userSchema } from "./schema.ts";

/** Entries of one section. */
const ENTRIES_MAX = 10_000;
/** PostgreSQL's NAMEDATALEN less its final zero. */
const NAME_BYTES_MAX = 63;

/** Names under `section`; null, reported where it is there and no map of names, when there are none. */
function namesOf(section: "databases" | "users", root: unknown, report: Report): readonly string[] | null {
  const written = valueAt(root, [section]);
  if (written === undefined) return null;
  if (typeof written !== "object" || written === null || Array.isArray(written) || Object.keys(written).length === 0) {
    report.problem([section], "names nothing", "add a name: { … }, or remove the section");
    return null;
  }
  const names = Object.keys(written);
  if (names.length > ENTRIES_MAX) {
    report.problem([section], `has more than ${ENTRIES_MAX} entries`, 'use the entry "*", or the section pool');
    return null;
  }
  for (const name of names) reportName([section, name], name, report);
  return names;
}

function reportName(path: Path, name: string, report: Report): void {
  const bytes = Buffer.byteLength(name);
  if (bytes > 0 && bytes <= NAME_BYTES_MAX) return;
  report.problem(path, "is not a name that PostgreSQL could have", `use 1 to ${NAME_BYTES_MAX} bytes`);
}

/** The databases by name; null when the section is left out. */
export function loadDatabases(
  root: unknown,
  users: ReadonlyMap<string, Secret>,
  pool: FilePool | null,
  around: Surroundings,
): ReadonlyMap<string, DatabaseConfig> | null {
  const names = namesOf("databases", root, around.report);
  if (names === null) return null;
  const databases = new Map<string, DatabaseConfig>();
  for (const name of names) {
    const path = ["databases", name];
    // `name:` without settings.
    const empty = valueAt(root, path) === null;
    const file = empty ? databaseSchema.parse({}) : decodeSection(databaseSchema, root, path, around.report);
    if (file === null) continue;
    reportSizes(file, path, pool, around.report);
    databases.set(name, resolveDatabase(file, path, users, around));
  }
  return databases;
}

function reportSizes(file: FileDatabase, path: Path, pool: FilePool | null, report: Report): void {
  const size = file.pool_size ?? pool?.default_pool_size;
  if (size === undefined || file.min_pool_size === undefined || file.min_pool_size <= size) return;
  report.warning([...path, "min_pool_size"], `is more than the pool's size, ${size}`, "raise pool_size, or lower it");
}

function resolveDatabase(
  file: FileDatabase,
  path: Path,
  users: ReadonlyMap<string, Secret>,
  around: Surroundings,
): DatabaseConfig {
  const { report } = around;
  const password = readPassword(file, path, around);
  if (file.user === undefined && givesPassword(file)) {
    report.problem(
      path,
      "gives a password without a user",
      "add user, or remove the password: clients bring their own",
    );
  }
  if (file.user !== undefined && !givesPassword(file)) {
    const listed = users.get(file.user);
    if (listed === undefined || listed.kind === "scram") {
      const remedy = "add password_file or password_env, or list the user in the userlist with a password";
      report.warning([...path, "user"], `has no password for "${file.user}"`, remedy);
    }
  }
  return {
    dbname: file.dbname ?? null,
    user: file.user ?? null,
    secret: password === null ? null : { kind: "plain", password },
    poolMode: file.pool_mode ?? null,
    poolSize: file.pool_size ?? null,
    minPoolSize: file.min_pool_size ?? null,
    reservePoolSize: file.reserve_pool_size ?? null,
    maxDbConnections: file.max_db_connections ?? null,
    maxDbClientConnections: file.max_db_client_connections ?? null,
    connectQuery: file.connect_query ?? null,
    auth: { user: file.auth_user ?? null, query: file.auth_query ?? null, dbname: file.auth_dbname ?? null },
  };
}

/** The users by name. */
export function loadUsers(root: unknown, report: Report): ReadonlyMap<string, UserConfig> {
  const users = new Map<string, UserConfig>();
  for (const name of namesOf("users", root, report) ?? []) {
    const path = ["users", name];
    const empty = valueAt(root, path) === null;
    const file = empty ? userSchema.parse({}) : decodeSection(userSchema, root, path, report);
    if (file !== null) users.set(name, resolveUser(file));
  }
  return users;
}

const resolveUser = (file: FileUser): UserConfig => ({
  poolMode: file.pool_mode ?? null,
  poolSize: file.pool_size ?? null,
  maxUserConnections: file.max_user_connections ?? null,
  maxUserClientConnections: file.max_user_client_connections ?? null,
});
