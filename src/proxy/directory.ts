// Which databases there are, where they lead, and under which rules their clients and pools live: the sections `databases` and
// `users` of the configuration over the general settings, with PgBouncer's precedence. A value; a reload makes a new one.

import type { Secret } from "../auth/secret.ts";
import { ProxyError } from "../core/errors.ts";
import type { PoolMode } from "../core/pool-mode.ts";
import type { Place, PoolOptions } from "../pool/pool-terms.ts";
import type { QuotaLimits } from "../pool/quotas.ts";

/** The entry that stands for all databases without one of their own. */
const WILDCARD = "*";

/** One entry of `databases`. Null: as for all. */
export interface DatabaseOptions {
  readonly dbname: string | null;
  /** The role that logs in to servers, whoever the client is; null: the client's own. */
  readonly user: string | null;
  readonly secret: Secret | null;
  readonly poolMode: PoolMode | null;
  readonly poolSize: number | null;
  readonly minPoolSize: number | null;
  readonly reservePoolSize: number | null;
  readonly maxDbConnections: number | null;
  readonly maxDbClientConnections: number | null;
  readonly connectQuery: string | null;
}

/** One entry of `users`. Null: as for all. */
export interface UserOptions {
  readonly poolMode: PoolMode | null;
  readonly poolSize: number | null;
  readonly maxUserConnections: number | null;
  readonly maxUserClientConnections: number | null;
}

/** Limits over all pools and listeners of the process; 0: none. */
export interface ConnectionLimits {
  readonly maxDbConnections: number;
  readonly maxUserConnections: number;
  readonly maxDbClientConnections: number;
  readonly maxUserClientConnections: number;
}

export interface DirectoryOptions {
  readonly pool: PoolOptions;
  readonly limits: ConnectionLimits;
  /** Null: any database, by its own name. */
  readonly databases: ReadonlyMap<string, DatabaseOptions> | null;
  readonly users: ReadonlyMap<string, UserOptions>;
}

export class Directory implements QuotaLimits {
  readonly #options: DirectoryOptions;
  /** Where servers are kept without any client: databases with a role of their own and a minimum. */
  readonly standing: readonly Place[];

  constructor(options: DirectoryOptions) {
    this.#options = options;
    this.standing = [...(options.databases ?? [])]
      .filter(([name]) => name !== WILDCARD)
      .flatMap(([name, { user }]) => (user === null ? [] : [this.#placeOf(name, user)]))
      .filter((place) => this.poolOptions(place).minPoolSize > 0);
  }

  #database(name: string): DatabaseOptions | null {
    const { databases } = this.#options;
    return databases?.get(name) ?? databases?.get(WILDCARD) ?? null;
  }

  #placeOf(database: string, user: string): Place {
    return { database, dbname: this.dbnameOf(database), user: this.#database(database)?.user ?? user };
  }

  /** The name in PostgreSQL of a database that clients ask for. */
  dbnameOf(database: string): string {
    return this.#database(database)?.dbname ?? database;
  }

  /** Where a client of this name, who asks for this database, is led; or the error that PostgreSQL has for it. */
  place(database: string, user: string): Place | ProxyError {
    if (this.#options.databases === null || this.#database(database) !== null) return this.#placeOf(database, user);
    return new ProxyError("unknown_database", `database "${database}" does not exist`);
  }

  /** Whether servers are kept there without any client. */
  stands({ database, dbname, user }: Place): boolean {
    return this.standing.some((place) => place.database === database && place.dbname === dbname && place.user === user);
  }

  /** The password of the database's own role; null where it has none, or the client's is meant. */
  secretOf({ database, user }: Place): Secret | null {
    const entry = this.#database(database);
    return entry?.user === user ? entry.secret : null;
  }

  connectQuery({ database }: Place): string | null {
    return this.#database(database)?.connectQuery ?? null;
  }

  /** The user's setting goes before the database's, and that before the general one. */
  poolOptions({ database, user }: Place): PoolOptions {
    const { pool, users } = this.#options;
    const entry = this.#database(database);
    return {
      ...pool,
      poolSize: users.get(user)?.poolSize ?? entry?.poolSize ?? pool.poolSize,
      minPoolSize: entry?.minPoolSize ?? pool.minPoolSize,
      reservePoolSize: entry?.reservePoolSize ?? pool.reservePoolSize,
    };
  }

  /** The client's user goes before its database, and that before the listener. */
  poolMode(database: string, user: string, listener: PoolMode): PoolMode {
    return this.#options.users.get(user)?.poolMode ?? this.#database(database)?.poolMode ?? listener;
  }

  // QuotaLimits

  database(name: string): number {
    return this.#database(name)?.maxDbConnections ?? this.#options.limits.maxDbConnections;
  }

  user(name: string): number {
    return this.#options.users.get(name)?.maxUserConnections ?? this.#options.limits.maxUserConnections;
  }

  /** Clients at once of a database; 0: any number. */
  databaseClients(name: string): number {
    return this.#database(name)?.maxDbClientConnections ?? this.#options.limits.maxDbClientConnections;
  }

  /** Clients at once of a user; 0: any number. */
  userClients(name: string): number {
    return this.#options.users.get(name)?.maxUserClientConnections ?? this.#options.limits.maxUserClientConnections;
  }
}
