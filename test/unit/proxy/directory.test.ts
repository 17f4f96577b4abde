// Which setting holds where several are given.

import { describe, expect, test } from "vitest";
import type { PoolOptions } from "../../../src/pool/pool-terms.ts";
import {
  type DatabaseOptions,
  Directory,
  type DirectoryOptions,
  type UserOptions,
} from "../../../src/proxy/directory.ts";

const pool: PoolOptions = {
  poolSize: 20,
  minPoolSize: 1,
  reservePoolSize: 2,
  reservePoolTimeoutMs: 5_000,
  waitQueueMax: 100,
  serverIdleTimeoutMs: 0,
  serverLifetimeMs: 0,
  serverConnectTimeoutMs: 1_000,
  serverLoginRetryMs: 1_000,
  serverResetQuery: "DISCARD ALL",
  serverResetQueryAlways: false,
  serverCheckQuery: "select 1",
  serverCheckDelayMs: 30_000,
  serverRoundRobin: false,
  keepAlive: null,
};
const limits = { maxDbConnections: 1, maxUserConnections: 2, maxDbClientConnections: 3, maxUserClientConnections: 4 };

const database = (changes: Partial<DatabaseOptions> = {}): DatabaseOptions => ({
  dbname: null,
  user: null,
  secret: null,
  poolMode: null,
  poolSize: null,
  minPoolSize: null,
  reservePoolSize: null,
  maxDbConnections: null,
  maxDbClientConnections: null,
  connectQuery: null,
  ...changes,
});
const user = (changes: Partial<UserOptions> = {}): UserOptions => ({
  poolMode: null,
  poolSize: null,
  maxUserConnections: null,
  maxUserClientConnections: null,
  ...changes,
});

function directory(
  databases: Readonly<Record<string, DatabaseOptions>> | null,
  users: Readonly<Record<string, UserOptions>> = {},
): Directory {
  const options: DirectoryOptions = {
    pool,
    limits,
    databases: databases === null ? null : new Map(Object.entries(databases)),
    users: new Map(Object.entries(users)),
  };
  return new Directory(options);
}

describe("a directory", () => {
  test("leads to any database by its own name where none is listed", () => {
    expect(directory(null).place("a", "ann")).toEqual({ database: "a", dbname: "a", user: "ann" });
  });

  test("knows no other database than those that are listed, unless a wildcard is", () => {
    const some = directory({ a: database() });
    expect(some.place("b", "ann")).toMatchObject({
      code: "unknown_database",
      sqlstate: "3D000",
      message: 'database "b" does not exist',
    });
    const all = directory({ a: database({ poolSize: 1 }), "*": database({ poolSize: 2, user: "all" }) });
    const [a, b] = [all.place("a", "ann"), all.place("b", "ann")];
    if (a instanceof Error || b instanceof Error) throw new Error("both exist");
    expect([a.user, b.user]).toEqual(["ann", "all"]);
    expect([all.poolOptions(a).poolSize, all.poolOptions(b).poolSize]).toEqual([1, 2]);
  });

  test("leads two aliases of one database to places of their own", () => {
    const two = directory({ a: database({ dbname: "real" }), b: database({ dbname: "real", user: "bob" }) });
    expect([two.place("a", "ann"), two.place("b", "ann")]).toEqual([
      { database: "a", dbname: "real", user: "ann" },
      { database: "b", dbname: "real", user: "bob" },
    ]);
  });

  test("takes sizes and limits from the user, then the database, then the pool", () => {
    const rules = directory(
      { a: database({ poolSize: 5, minPoolSize: 0, reservePoolSize: 9, maxDbConnections: 0 }), b: database() },
      { ann: user({ poolSize: 3, maxUserConnections: 7, maxUserClientConnections: 0 }) },
    );
    const sizes = (name: string, of: string) => rules.poolOptions({ database: name, dbname: name, user: of });
    expect(sizes("a", "ann")).toEqual({ ...pool, poolSize: 3, minPoolSize: 0, reservePoolSize: 9 });
    expect(sizes("a", "bob")).toMatchObject({ poolSize: 5 });
    expect(sizes("b", "bob")).toEqual(pool);
    expect([rules.database("a"), rules.database("b"), rules.database("c")]).toEqual([0, 1, 1]);
    expect([rules.user("ann"), rules.user("bob")]).toEqual([7, 2]);
    expect([rules.databaseClients("a"), rules.userClients("ann"), rules.userClients("bob")]).toEqual([3, 0, 4]);
  });

  test("takes the mode from the client's user, then the database, then the listener", () => {
    const rules = directory(
      { a: database({ poolMode: "session" }), b: database() },
      { ann: user({ poolMode: "transaction" }), bob: user() },
    );
    expect(rules.poolMode("a", "ann", "session")).toBe("transaction");
    expect(rules.poolMode("a", "bob", "transaction")).toBe("session");
    expect(rules.poolMode("b", "bob", "transaction")).toBe("transaction");
    expect(rules.poolMode("b", "bob", "session")).toBe("session");
  });

  test("gives a database's password to its own role alone", () => {
    const secret = { kind: "plain", password: "x" } as const;
    const rules = directory({ a: database({ user: "all", secret }) });
    expect(rules.secretOf({ database: "a", dbname: "a", user: "all" })).toBe(secret);
    expect(rules.secretOf({ database: "a", dbname: "a", user: "ann" })).toBeNull();
  });

  test("keeps servers without clients for databases with a role and a minimum of their own", () => {
    const rules = directory({
      a: database({ user: "all", dbname: "real" }),
      b: database({ minPoolSize: 5 }),
      c: database({ user: "all", minPoolSize: 0 }),
      "*": database({ user: "all" }),
    });
    const place = { database: "a", dbname: "real", user: "all" };
    expect(rules.standing).toEqual([place]);
    expect([rules.stands(place), rules.stands({ ...place, dbname: "old" })]).toEqual([true, false]);
  });
});
