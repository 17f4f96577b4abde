// Whom auth_query is put to, and what becomes of it when nobody, or the wrong one, answers.

import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AuthAnswer, AuthTerms } from "../../../src/auth/auth-query.ts";
import { ScramDerivations } from "../../../src/auth/scram.ts";
import { AUTH_CONNECTIONS_MAX, AUTH_QUESTION_MS, AUTH_RETRY_MS } from "../../../src/core/limits.ts";
import type { Logger } from "../../../src/core/logger.ts";
import type { LeaderState, Member, Topology } from "../../../src/discovery/topology.ts";
import { AuthAsker } from "../../../src/proxy/auth-asker.ts";
import { AskedPostgres, type Reply } from "../../support/asked-postgres.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { waitFor } from "../../support/time.ts";
import { epoch, member, topology, writable } from "../routing/fixture.ts";

const nobody: LeaderState = { kind: "none", reason: "" };
const terms: AuthTerms = { user: "asker", secret: null, query: "SELECT $1", dbname: "app" };

let clock: FakeClock;
let servers: Map<string, AskedPostgres>;
/** What each server answers; `default` where it is not told. */
let replies: Map<string, (user: string, database: string) => Reply>;
let now: Topology;
let follow: (now: Topology, before: Topology) => void;
let logged: { readonly fields: Readonly<Record<string, unknown>>; readonly message: string }[];
let asker: AuthAsker;

const server = (name: string): AskedPostgres => {
  const found = servers.get(name);
  if (found === undefined) throw new Error(`there is no server ${name}`);
  return found;
};

beforeEach(async () => {
  clock = new FakeClock();
  replies = new Map();
  servers = new Map();
  logged = [];
  for (const name of ["a", "b", "c"]) {
    const reply = (user: string, database: string) => (replies.get(name) ?? ((each) => [each, name]))(user, database);
    servers.set(name, await AskedPostgres.start(reply));
  }
  now = topology(writable("a"), at("a"), at("b"), at("c"));
  const logger: Logger = {
    debug: () => {},
    info: () => {},
    warn: () => {},
    error: (fields, message) => logged.push({ fields, message }),
    child: () => logger,
  };
  const feed = {
    current: () => now,
    subscribe: (listener: typeof follow) => {
      follow = listener;
      return () => {};
    },
    setUrgent: () => {},
    report: () => {},
  };
  const options = { tls: { kind: "off" }, random: randomBytes, derivations: new ScramDerivations() } as const;
  asker = new AuthAsker(clock, logger, feed, options);
});

afterEach(async () => {
  asker.close();
  for (const each of servers.values()) await each.stop();
});

const at = (name: string, changes: Partial<Member> = {}): Member =>
  member(name, { port: server(name).port, ...changes });

function become(next: Topology): void {
  const before = now;
  now = next;
  follow(next, before);
}

/** The secret that was answered; `nobody`, or `silence`. */
function ask(user = "app", how = terms): Promise<string> {
  return new Promise((resolve) =>
    asker.ask(user, how, (answer: AuthAnswer) => {
      if (answer.kind === "silence") resolve("silence");
      else resolve(answer.secret?.kind === "plain" ? answer.secret.password : "nobody");
    }),
  );
}

const until = (what: string, look: () => boolean): Promise<boolean> =>
  waitFor(look, { timeoutMs: 5_000, intervalMs: 1, what });

describe("the leader", () => {
  test("is asked while there is one, over one connection, one question after the other", async () => {
    expect(await Promise.all(["one", "two", "three"].map((user) => ask(user)))).toEqual(["a", "a", "a"]);
    expect([server("a").asked, server("a").logins]).toEqual([["one@app", "two@app", "three@app"], ["app"]]);
    expect([server("b").logins, server("c").logins]).toEqual([[], []]);
  });

  test("is asked while it does not take writes yet", async () => {
    become(topology({ kind: "elected", member: "b", epoch, reason: "" }, at("a"), at("b"), at("c")));
    expect(await ask()).toBe("b");
  });

  test("that is a new one is asked from now on; a question to the former one goes to it", async () => {
    replies.set("a", () => "hang");
    const answered = ask();
    await until("the question", () => server("a").asked.length === 1);
    become(topology(writable("b"), at("b"), at("c")));
    expect(await answered).toBe("b");
    await until("the former connection to be gone", () => server("a").connections === 0);
    expect(logged).toEqual([]);
  });

  test("that has moved is asked where it is now, in the middle of a question, too", async () => {
    await ask();
    replies.set("a", () => "hang");
    const answered = ask();
    const { port } = server("c");
    become(topology(writable("a"), at("a", { port }), at("b")));
    expect([await answered, await ask()]).toEqual(["c", "c"]);
  });
});

describe("without a leader that answers", () => {
  test("the replica that is least behind is asked, one that serves no reads last", async () => {
    become(
      topology(nobody, at("a", { readable: false, lagBytes: 0 }), at("b", { lagBytes: 9 }), at("c", { lagBytes: 5 })),
    );
    expect(await ask()).toBe("c");
    replies.set("c", () => ({ error: "57014" }));
    expect(await ask()).toBe("b");
    replies.set("b", () => "break");
    expect(await ask()).toBe("a");
  });

  test("who is known to be unreachable is not waited for", async () => {
    become(topology(writable("a"), at("a", { state: "unreachable" }), at("b")));
    expect(await ask()).toBe("b");
    become(topology(writable("a"), at("a", { state: "unreachable" })));
    expect(await ask()).toBe("silence");
  });

  test("one that is silent for AUTH_QUESTION_MS is left alone", async () => {
    replies.set("a", () => "hang");
    const answered = ask();
    await until("the question", () => server("a").asked.length === 1);
    await clock.advance(AUTH_QUESTION_MS);
    expect(await answered).toBe("b");
    expect(logged).toMatchObject([
      {
        message: "auth_query was not answered",
        fields: { member: "a", auth_user: "asker", reason: "timeout expired" },
      },
    ]);
  });

  test("all may be silent, and the log says why, not too often and without a secret", async () => {
    for (const name of ["a", "b", "c"]) replies.set(name, () => ({ error: "42883" }));
    for (let count = 0; count < 5; count += 1) expect(await ask()).toBe("silence");
    expect(logged).toMatchObject([{ fields: { member: "a", reason: "it is 42883", database: "app", count: 1 } }]);
  });

  test("at the very beginning the first topology is waited for, not for ever", async () => {
    now = topology(nobody);
    const first = ask();
    become(topology(writable("a"), at("a")));
    expect(await first).toBe("a");
    become(topology(nobody));
    const second = ask();
    await clock.advance(AUTH_QUESTION_MS);
    expect(await second).toBe("silence");
  });
});

describe("an answer", () => {
  test("is nobody where there is no row, no name, no secret, or another name", async () => {
    for (const reply of [null, [null, null], ["app", null], ["another", "secret"]] as const) {
      replies.set("a", () => reply);
      expect(await ask()).toBe("nobody");
    }
    expect(logged).toMatchObject([{ fields: { reason: "it answered about another user than was asked for" } }]);
  });
});

describe("a login as auth_user", () => {
  test("that all refuse is not tried again for AUTH_RETRY_MS, unless the settings change", async () => {
    for (const each of servers.values()) each.refuses = "28P01";
    const refusals = () => logged.length;
    expect(await ask()).toBe("silence");
    for (const each of servers.values()) each.refuses = null;
    expect([await ask(), server("a").logins, refusals()]).toEqual(["silence", [], 1]);
    await clock.advance(AUTH_RETRY_MS);
    expect(await ask()).toBe("a");
    server("a").refuses = "28000";
    for (const name of ["b", "c"]) server(name).refuses = "28000";
    server("a").breakAll();
    expect(await ask()).toBe("silence");
    server("a").refuses = null;
    asker.reconfigure({ tls: { kind: "off" }, random: randomBytes, derivations: new ScramDerivations() });
    expect(await ask()).toBe("a");
  });

  test("follows new settings when it is the next time; a connection that works stays", async () => {
    await ask();
    asker.reconfigure({ tls: { kind: "off" }, random: randomBytes, derivations: new ScramDerivations() });
    await ask();
    expect(server("a").logins).toHaveLength(1);
    await ask("app", { ...terms, secret: { kind: "plain", password: "new" } });
    expect(server("a").logins).toHaveLength(2);
    await until("the former connection to be gone", () => server("a").connections === 1);
  });
});

describe("databases", () => {
  test("are asked each over a connection of its own, AUTH_CONNECTIONS_MAX at most; the one unused for longest goes", async () => {
    for (let count = 0; count < AUTH_CONNECTIONS_MAX; count += 1) {
      expect(await ask("app", { ...terms, dbname: `db${count}` })).toBe("a");
      await clock.advance(1);
    }
    await ask("app", { ...terms, dbname: "db0" });
    await ask("app", { ...terms, dbname: "another" });
    await until("one to be gone", () => server("a").connections === AUTH_CONNECTIONS_MAX);
    await ask("app", { ...terms, dbname: "db0" });
    expect(server("a").logins).toHaveLength(AUTH_CONNECTIONS_MAX + 1);
    await ask("app", { ...terms, dbname: "db1" });
    expect(server("a").logins).toHaveLength(AUTH_CONNECTIONS_MAX + 2);
  });

  const many = (count: number) => Array.from({ length: count }, (_, at) => ({ ...terms, dbname: `db${at}` }));

  test("take turns beyond that: applications of all come back at once after a failover", async () => {
    const answers = many(4 * AUTH_CONNECTIONS_MAX).map((each) => ask("app", each));
    expect(new Set(await Promise.all(answers))).toEqual(new Set(["a"]));
    await until("some to be gone", () => server("a").connections <= AUTH_CONNECTIONS_MAX);
    expect(server("a").logins).toHaveLength(4 * AUTH_CONNECTIONS_MAX);
  });

  test("wait for their turn as long as a question may take, and no longer than we are there", async () => {
    for (const name of ["a", "b", "c"]) replies.set(name, () => "hang");
    const busy = many(AUTH_CONNECTIONS_MAX).map((each) => ask("app", each));
    const late = ask("app", { ...terms, dbname: "another" });
    await clock.advance(AUTH_QUESTION_MS);
    expect(await late).toBe("silence");
    const last = ask("app", { ...terms, dbname: "another" });
    asker.close();
    expect(await last).toBe("silence");
    expect(new Set(await Promise.all(busy))).toEqual(new Set(["silence"]));
  });

  test("that do not exist are no reason not to know a user, nor to know that they do not", async () => {
    server("a").refuses = "3D000";
    expect(await ask()).toBe("nobody");
    server("a").refuses = null;
    expect(await ask()).toBe("a");
  });

  test("are left when they were unused for a minute", async () => {
    await ask();
    await clock.advance(120_000);
    await until("the connection to be gone", () => server("a").connections === 0);
    expect(await ask()).toBe("a");
  });
});

test("ten thousand questions that nobody can be asked are over in one go", async () => {
  replies.set("a", () => "hang");
  become(topology(writable("a"), at("a")));
  const answers = Array.from({ length: 10_000 }, (_each, index) => ask(`user ${index}`));
  await until("the first question", () => server("a").asked.length === 1);
  become(topology(writable("a"), at("a", { state: "unreachable" })));
  expect(new Set(await Promise.all(answers))).toEqual(new Set(["silence"]));
});
