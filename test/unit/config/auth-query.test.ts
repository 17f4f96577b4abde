// The settings of auth_query: what they yield, and the mistakes in them.

import { describe, expect, test } from "vitest";
import { asksForUsers } from "../../../src/config/auth-query.ts";
import { clusters, configOf, describeMistakes, load, type Mistake } from "./fixture.ts";

const warningsOf = (text: string): readonly string[] => {
  const loaded = load(text);
  const lines = loaded.ok ? loaded.warnings : loaded.problems.map(({ message }) => message);
  return lines.filter((line) => !line.includes("clusters.demo.probe"));
};

describe("auth_query", () => {
  test("asks for nobody unless it is told as whom", () => {
    const settings = configOf(`${clusters}auth: { file: userlist.txt }\n`).authQuery;
    expect(asksForUsers(settings)).toBe(false);
    expect(settings).toMatchObject({ user: null, query: null, dbname: null, ageMaxMs: 0, staleMaxMs: 3_600_000 });
  });

  test("needs no userlist", () => {
    const text = `${clusters}auth: { user: asker, password_env: ETCD_PASSWORD, query: "SELECT * FROM f($1)", dbname: d, query_age_max: 5s, query_stale_max: 0 }\n`;
    expect(configOf(text).authQuery).toEqual({
      user: "asker",
      secret: { kind: "plain", password: "from-env" },
      query: "SELECT * FROM f($1)",
      dbname: "d",
      ageMaxMs: 5000,
      staleMaxMs: 0,
      databases: new Map(),
    });
    expect(warningsOf(text)).toEqual([]);
  });

  test("can differ for a database, under PgBouncer's names", () => {
    const text = `${clusters}auth: { file: userlist.txt }\ndatabases: { a: { auth_user: app, auth_query: "q $1", auth_dbname: d }, b: {} }\n`;
    const { authQuery } = configOf(text);
    expect(authQuery.databases).toEqual(new Map([["a", { user: "app", query: "q $1", dbname: "d" }]]));
    expect([asksForUsers(authQuery), warningsOf(text)]).toEqual([true, []]);
  });

  test.each([
    ["a query that nobody asks", 'auth: { file: userlist.txt, query: "q $1" }', "auth.query is not used"],
    ["a place where nobody asks", "auth: { file: userlist.txt, dbname: d }", "auth.dbname is not used"],
    ["no password", "auth: { user: stranger }", 'auth.user has no password for "stranger"'],
    [
      "no password for one database",
      "auth: { file: userlist.txt }\ndatabases: { a: { auth_user: stranger } }",
      'databases.a.auth_user has no password for "stranger"',
    ],
  ])("with %s is a warning", (_what, settings, expected) => {
    expect(warningsOf(`${clusters}${settings}\n`)).toEqual([expect.stringContaining(expected)]);
  });
});

const mistakes: Mistake[] = [
  [
    "a password of nobody",
    `${clusters}auth: { file: userlist.txt, password: x }`,
    2,
    "auth",
    /password without a user/,
    /add user/,
  ],
  [
    "a query that does not say whom it means",
    `${clusters}auth: { user: app, file: userlist.txt, query: SELECT 1 }`,
    2,
    "auth.query",
    /does not say \$1/,
    /rolname = \$1/,
  ],
  [
    "a database's query that does not say whom it means",
    `${clusters}auth: { user: app, file: userlist.txt }\ndatabases: { a: { auth_query: SELECT 1 } }`,
    3,
    "databases.a.auth_query",
    /does not say \$1/,
    /rolname = \$1/,
  ],
];

describeMistakes("in auth_query", mistakes);
