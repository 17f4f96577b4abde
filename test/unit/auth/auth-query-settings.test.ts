// Who asks what where, for the users of which database.

import { describe, expect, test } from "vitest";
import { AUTH_QUERY_DEFAULT, type AuthQuerySettings, authTerms } from "../../../src/auth/auth-query-settings.ts";
import type { Secret } from "../../../src/auth/secret.ts";
import { noAuthQuery } from "../../../src/config/auth-query.ts";

const own: Secret = { kind: "plain", password: "own" };
const listed: Secret = { kind: "plain", password: "listed" };
const users = new Map([
  ["asker", listed],
  ["other", listed],
]);
const nothing = { user: null, query: null, dbname: null };
const terms = (settings: Partial<AuthQuerySettings>, database = "shop") =>
  authTerms({ ...noAuthQuery, ...settings }, database, users, (name) => `${name}_pg`);

describe("users of a database", () => {
  test("are not asked for without auth_user", () => {
    expect(terms({})).toBeNull();
    expect(terms({ query: "q", dbname: "d" })).toBeNull();
  });

  test("are asked for in that very database, by PgBouncer's query, with the userlist's password", () => {
    expect(terms({ user: "asker" })).toEqual({
      user: "asker",
      secret: listed,
      query: AUTH_QUERY_DEFAULT,
      dbname: "shop_pg",
    });
    expect(terms({ user: "stranger" })?.secret).toBeNull();
    expect(terms({ user: "asker", secret: own })?.secret).toBe(own);
  });

  test("are asked for elsewhere where auth_dbname says so, which is a name that clients use", () => {
    expect(terms({ user: "asker", dbname: "auth", query: "q" })).toMatchObject({ query: "q", dbname: "auth_pg" });
  });

  test("can have a role, a query and a place of their own", () => {
    const databases = new Map([
      ["shop", { user: "other", query: "mine", dbname: "here" }],
      ["*", { ...nothing, query: "others" }],
    ]);
    const settings = { user: "asker", secret: own, query: "q", dbname: "auth", databases };
    expect(terms(settings)).toEqual({ user: "other", secret: listed, query: "mine", dbname: "here_pg" });
    expect(terms(settings, "unlisted")).toEqual({ user: "asker", secret: own, query: "others", dbname: "auth_pg" });
    expect(terms({ databases }, "unlisted")).toBeNull();
  });
});
