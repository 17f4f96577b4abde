// Where secrets come from: the userlist first, auth_query for others; and what servers are logged in to with.

import { beforeEach, describe, expect, test } from "vitest";
import { type AuthAnswer, AuthQuery, type AuthTerms } from "../../../src/auth/auth-query.ts";
import { ListedCredentials } from "../../../src/auth/credentials.ts";
import { ProvenKeys } from "../../../src/auth/proven-keys.ts";
import { deriveScramKeys } from "../../../src/auth/scram.ts";
import type { Secret } from "../../../src/auth/secret.ts";
import { FakeClock } from "../../support/fake-clock.ts";

type Scram = Secret & { kind: "scram" };

const salt = Buffer.alloc(16, 1);
const scram = (password: string): Scram => ({
  kind: "scram",
  iterations: 4096,
  salt,
  ...deriveScramKeys(password, salt, 4096),
});
const keysOf = (secret: Scram): ProvenKeys => new ProvenKeys(secret, Buffer.alloc(32, 7));
const listed = scram("listed");
const plain: Secret = { kind: "plain", password: "plain" };
const terms: AuthTerms = { user: "asker", secret: null, query: "", dbname: "" };

let answers: Map<string, AuthAnswer>;
let asked: string[];
let credentials: ListedCredentials;

const users = new Map<string, Secret>([
  ["ann", listed],
  ["bob", plain],
]);

beforeEach(() => {
  [answers, asked] = [new Map(), []];
  const ask = (user: string, _terms: AuthTerms, done: (answer: AuthAnswer) => void): void => {
    asked.push(user);
    done(answers.get(user) ?? { kind: "answer", secret: null });
  };
  const query = new AuthQuery(new FakeClock(), { ask }, { ageMaxMs: 60_000, staleMaxMs: 60_000 });
  const termsOf = (database: string) => (database === "unasked" ? null : terms);
  credentials = new ListedCredentials(users, { query, termsOf });
});

function found(user: string, database = "app"): Secret | null | undefined {
  let secret: Secret | null | undefined;
  credentials.lookup(user, database, {
    found: (known) => {
      secret = known;
    },
    unknown: () => {},
  });
  return secret;
}

describe("a client's secret", () => {
  test("is the userlist's, without a question, where the user is listed", () => {
    expect([found("ann"), found("bob"), asked]).toEqual([listed, plain, []]);
  });

  test("is asked for otherwise, where the database's users are", () => {
    answers.set("eve", { kind: "answer", secret: plain });
    expect([found("eve"), found("nobody"), asked]).toEqual([plain, null, ["eve", "nobody"]]);
    expect([found("eve", "unasked"), asked.length]).toEqual([null, 2]);
  });

  test("is asked for again after a login that failed by what was remembered", () => {
    answers.set("eve", { kind: "answer", secret: plain });
    for (const user of ["eve", "eve", "bob"]) found(user);
    expect(asked).toEqual(["eve"]);
    credentials.failed("eve", "app");
    credentials.failed("bob", "app");
    for (const user of ["eve", "eve", "bob"]) found(user);
    expect(asked).toEqual(["eve", "eve"]);
  });
});

describe("an unknown user", () => {
  test("is made out to have what most of those have who are looked up in the same way", () => {
    expect(credentials.pretence("unasked")).toEqual({ scram: true, iterations: 4096 });
    const many = { ...scram("x"), iterations: 9000 };
    for (const user of ["one", "two"]) {
      answers.set(user, { kind: "answer", secret: user === "one" ? many : { kind: "md5", hash: "md5" } });
      found(user);
    }
    expect(credentials.pretence("app")).toEqual({ scram: true, iterations: 9000 });
    credentials.reconfigure(new Map([["bob", plain]]));
    expect(credentials.pretence("app")).toEqual({ scram: false, iterations: 4096 });
  });
});

describe("what servers are logged in to with", () => {
  test("is the password, or what the user has proven, or else the bare verifier", () => {
    expect([credentials.forServer("bob", "app"), credentials.forServer("ann", "app")]).toEqual([plain, listed]);
    const keys = keysOf(listed);
    credentials.proven("ann", keys);
    expect(credentials.forServer("ann", "app")).toBe(keys);
    credentials.refused("ann", keys);
    expect(credentials.forServer("ann", "app")).toBe(listed);
  });

  test("is what was last answered of those who are asked for, and of nobody else", () => {
    const secret = scram("eve");
    answers.set("eve", { kind: "answer", secret });
    expect(credentials.forServer("eve", "app")).toBeNull();
    found("eve");
    const keys = keysOf(secret);
    credentials.proven("eve", keys);
    expect([credentials.forServer("eve", "app"), credentials.forServer("eve", "unasked")]).toEqual([keys, null]);
  });

  test("is not what was proven before a change of the secret", () => {
    answers.set("eve", { kind: "answer", secret: scram("one") });
    found("eve");
    const keys = keysOf(scram("one"));
    credentials.proven("eve", keys);
    credentials.failed("eve", "app");
    const changed = scram("two");
    answers.set("eve", { kind: "answer", secret: changed });
    found("eve");
    expect([credentials.forServer("eve", "app"), keys.clientKey]).toEqual([changed, null]);
  });

  test("outlives a reload, but for those whose line in the userlist has changed or is gone", () => {
    const secret = scram("eve");
    answers.set("eve", { kind: "answer", secret });
    found("eve");
    const [ann, eve] = [keysOf(listed), keysOf(secret)];
    credentials.proven("ann", ann);
    credentials.proven("eve", eve);
    credentials.reconfigure(new Map([["ann", { ...listed, salt: Buffer.from(salt) }]]));
    expect([ann.clientKey === null, eve.clientKey === null]).toEqual([false, false]);
    credentials.reconfigure(new Map([["ann", scram("changed")]]));
    expect([ann.clientKey, credentials.forServer("bob", "app")]).toEqual([null, null]);
    const again = keysOf(scram("changed"));
    credentials.proven("ann", again);
    credentials.reconfigure(new Map());
    expect(again.clientKey).toBeNull();
  });
});
