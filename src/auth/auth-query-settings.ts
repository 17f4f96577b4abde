// Which role asks what, and where, for the users of each database: PgBouncer's auth_user, auth_query and auth_dbname, for all databases
// and over again for one (https://www.pgbouncer.org/config.html#authentication-settings).

import type { AuthQueryOptions, AuthTerms } from "./auth-query.ts";
import type { Secret } from "./secret.ts";

/** PgBouncer's: who may not log in, or not any more, has no password. */
export const AUTH_QUERY_DEFAULT =
  "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin";

/** Null: as for all databases. */
interface OneDatabase {
  readonly user: string | null;
  readonly query: string | null;
  readonly dbname: string | null;
}

export interface AuthQuerySettings extends AuthQueryOptions, OneDatabase {
  /** The password of `user`; null where the userlist has it, or PostgreSQL does not ask. */
  readonly secret: Secret | null;
  /** By the name that clients ask for; `*` for those that are not listed. */
  readonly databases: ReadonlyMap<string, OneDatabase>;
}

/** How users of a database are asked for; null: they are not. `dbnameOf`: a database's name in PostgreSQL. */
export function authTerms(
  settings: AuthQuerySettings,
  database: string,
  users: ReadonlyMap<string, Secret>,
  dbnameOf: (database: string) => string,
): AuthTerms | null {
  const own = settings.databases.get(database) ?? settings.databases.get("*");
  const user = own?.user ?? settings.user;
  if (user === null) return null;
  const given = user === settings.user ? settings.secret : null;
  return {
    user,
    secret: given ?? users.get(user) ?? null,
    query: own?.query ?? settings.query ?? AUTH_QUERY_DEFAULT,
    dbname: dbnameOf(own?.dbname ?? settings.dbname ?? database),
  };
}
