// What logins are judged by: an answer to a question that was asked after they came; memory where settings or silence say so.

import { beforeEach, describe, expect, test } from "vitest";
import { type AuthAnswer, AuthQuery, type AuthTerms } from "../../../src/auth/auth-query.ts";
import type { LookupSink } from "../../../src/auth/credentials.ts";
import type { Secret } from "../../../src/auth/secret.ts";
import type { ProxyError } from "../../../src/core/errors.ts";
import { AUTH_ANSWERS_MAX, AUTH_QUESTIONS_MAX } from "../../../src/core/limits.ts";
import { FakeClock } from "../../support/fake-clock.ts";

const terms: AuthTerms = { user: "asker", secret: null, query: "SELECT $1", dbname: "app" };
const secretOf = (password: string): Secret => ({ kind: "plain", password });
const silence: AuthAnswer = { kind: "silence" };
const answer = (password: string | null): AuthAnswer => ({
  kind: "answer",
  secret: password === null ? null : secretOf(password),
});

let clock: FakeClock;
/** Questions that are not answered yet, oldest first. */
let asked: { readonly user: string; readonly done: (answer: AuthAnswer) => void }[];
let query: AuthQuery;
/** What the logins heard, in order. */
let heard: string[];

beforeEach(() => {
  clock = new FakeClock();
  asked = [];
  heard = [];
  query = newQuery();
});

function newQuery(ageMaxMs = 0, staleMaxMs = 3_600_000): AuthQuery {
  return new AuthQuery(clock, { ask: (user, _terms, done) => asked.push({ user, done }) }, { ageMaxMs, staleMaxMs });
}

/** A login that says what it hears. */
function login(name: string, user = "app", where = terms): () => void {
  const sink: LookupSink = {
    found: (secret, origin) => {
      const what = secret?.kind === "plain" ? secret.password : "nobody";
      heard.push(`${name}: ${what}${origin === undefined ? "" : ` (${origin.kind})`}`);
    },
    unknown: (error) => heard.push(`${name}: ${error.sqlstate}`),
  };
  return query.lookup(user, where, sink);
}

/** Answers the oldest question. */
function reply(what: AuthAnswer): void {
  asked.shift()?.done(what);
}

describe("a login", () => {
  test("asks, though the answer was known a moment ago", () => {
    login("one");
    reply(answer("first"));
    login("two");
    reply(answer("second"));
    expect(heard).toEqual(["one: first", "two: second"]);
  });

  test("is not judged by an answer to a question from before it came; those who come meanwhile share the next", () => {
    for (const name of ["one", "two", "three"]) login(name);
    expect(asked).toHaveLength(1);
    reply(answer("old"));
    expect(heard).toEqual(["one: old"]);
    expect(asked).toHaveLength(1);
    login("four");
    reply(answer("new"));
    expect(heard.slice(1)).toEqual(["two: new", "three: new"]);
    reply(answer("newest"));
    expect(heard.slice(3)).toEqual(["four: newest"]);
    expect(asked).toEqual([]);
  });

  test("does not share the question of another user, or of another database's terms", () => {
    login("one");
    login("two", "other");
    login("three", "app", { ...terms, dbname: "elsewhere" });
    expect(asked.map(({ user }) => user)).toEqual(["app", "other", "app"]);
  });

  test("that is given up hears nothing, and its question is not asked any more", () => {
    login("one");
    const giveUp = login("two");
    giveUp();
    reply(answer("first"));
    expect([heard, asked]).toEqual([["one: first"], []]);
    login("three")();
    reply(answer("second"));
    expect(heard).toEqual(["one: first"]);
  });

  test("of somebody who does not exist finds nobody, each time", () => {
    login("one");
    reply(answer(null));
    login("two");
    reply(answer("made"));
    login("three");
    reply(answer(null));
    expect(heard).toEqual(["one: nobody", "two: made", "three: nobody"]);
    expect([query.size, query.remembered("app", terms)]).toEqual([0, null]);
    expect(query.counters).toMatchObject({ answered: 1, nobody: 2, silent: 0 });
  });

  test("is answered at once where the asker is", () => {
    query = new AuthQuery(clock, { ask: (_user, _terms, done) => done(answer("now")) }, { ageMaxMs: 0, staleMaxMs: 0 });
    login("one");
    login("two");
    expect(heard).toEqual(["one: now", "two: now"]);
  });
});

describe("while nobody can be asked", () => {
  test("the last answer counts for query_stale_max, and says what to tell those who fail", async () => {
    login("one");
    reply(answer("first"));
    await clock.advance(3_600_000);
    login("two");
    reply(silence);
    await clock.advance(1);
    login("three");
    reply(silence);
    expect(heard).toEqual(["one: first", "two: first (stale)", "three: nobody (stale)"]);
    expect(query.counters).toMatchObject({ silent: 2, stale: 1 });
  });

  test("the age is that of the question, not of the answer", async () => {
    login("one");
    await clock.advance(3_600_000);
    reply(answer("first"));
    await clock.advance(1);
    login("two");
    reply(silence);
    expect(heard).toEqual(["one: first", "two: nobody (stale)"]);
  });

  test("nothing counts where query_stale_max is 0", () => {
    query = newQuery(0, 0);
    login("one");
    reply(answer("first"));
    login("two");
    reply(silence);
    expect(heard).toEqual(["one: first", "two: nobody (stale)"]);
  });

  test("who fails hears the same, whether remembered or not, and whether there is such a user or not", () => {
    login("one");
    reply(answer("first"));
    const errors: ProxyError[] = [];
    for (const user of ["app", "other"]) {
      const found: LookupSink["found"] = (_secret, origin) => origin?.kind === "stale" && errors.push(origin.error);
      query.lookup(user, terms, { found, unknown: () => {} });
      reply(silence);
    }
    const [remembered, other] = errors.map(({ message, hint, sqlstate }) => [message, hint, sqlstate]);
    expect(remembered).toEqual(other);
    // Only the first can be a guess at a password.
    expect(errors.map(({ code }) => code)).toEqual(["password_unconfirmed", "auth_unavailable"]);
  });

  test("a role that was dropped before is not remembered", () => {
    login("one");
    reply(answer("first"));
    login("two");
    reply(answer(null));
    login("three");
    reply(silence);
    expect(heard.at(-1)).toBe("three: nobody (stale)");
  });
});

describe("query_age_max", () => {
  beforeEach(() => {
    query = newQuery(60_000);
    login("one");
    reply(answer("first"));
  });

  test("lets an answer take the place of a question for so long", async () => {
    await clock.advance(60_000);
    login("two");
    expect(heard).toEqual(["one: first", "two: first (recent)"]);
    await clock.advance(1);
    login("three");
    expect(asked).toHaveLength(1);
    expect(query.counters.recent).toBe(1);
  });

  test("is over when a login has failed by the answer", () => {
    query.doubt("app", terms);
    query.doubt("stranger", terms);
    login("two");
    reply(answer("second"));
    login("three");
    expect(heard).toEqual(["one: first", "two: second", "three: second (recent)"]);
  });

  test("does not keep out who has just been made", () => {
    login("two", "new");
    reply(answer(null));
    login("three", "new");
    reply(answer("made"));
    expect(heard.slice(1)).toEqual(["two: nobody", "three: made"]);
  });
});

describe("memory", () => {
  test("counts each user once, however often it comes: what most have is not for one to say", () => {
    const scram = (iterations: number): Secret => {
      const key = Buffer.alloc(32);
      return { kind: "scram", iterations, salt: key, storedKey: key, serverKey: key };
    };
    for (const user of ["one", "two"]) {
      login("", user);
      reply({ kind: "answer", secret: scram(8192) });
    }
    for (let count = 0; count < 10; count += 1) {
      login("", "often");
      reply({ kind: "answer", secret: scram(50_000) });
    }
    expect(query.tally.pretence).toEqual({ scram: true, iterations: 8192 });
    for (const user of ["one", "two"]) {
      login("", user);
      reply(answer(null));
    }
    expect(query.tally.pretence.iterations).toBe(50_000);
  });

  test(`holds ${AUTH_ANSWERS_MAX} users, AUTH_ANSWERS_MAX; the least recently used goes first`, () => {
    query = newQuery(60_000);
    for (let count = 0; count < AUTH_ANSWERS_MAX; count += 1) {
      login("", `user ${count}`);
      reply(answer("x"));
    }
    login("", "user 0");
    login("", "one more");
    reply(answer("y"));
    expect(query.size).toBe(AUTH_ANSWERS_MAX);
    expect(query.remembered("user 0", terms)).not.toBeNull();
    expect(query.remembered("user 1", terms)).toBeNull();
  });

  test("strangers are no way to fill it, and no more than AUTH_QUESTIONS_MAX of them are asked for at once", () => {
    for (let count = 0; count < AUTH_QUESTIONS_MAX; count += 1) login("", `stranger ${count}`);
    expect(heard).toEqual([]);
    login("one too many", "stranger");
    expect(heard).toEqual(["one too many: 57P03"]);
    while (asked.length > 0) reply(answer(null));
    expect(query.size).toBe(0);
    login("later");
    expect(asked).toHaveLength(1);
  });
});
