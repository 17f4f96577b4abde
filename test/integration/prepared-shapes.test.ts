// Prepared statements whose tables change, in transaction pooling: a client that knows what rows look like must never get other
// ones without a word. The same messages go to PostgreSQL itself and through pgsteer, where the client is sent to another server.

import fc from "fast-check";
import { serialize } from "pg-protocol";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { Conversation } from "../support/conversation.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { errorFields, frontend, outline, RawClient } from "../support/raw-client.ts";
import { waitFor } from "../support/time.ts";

let cluster: Cluster;
/** Two servers, which keep two statements each. */
let narrow: Pgsteer;
/** Two servers, which keep as many as by default. */
let pair: Pgsteer;
const open: { destroy(): void }[] = [];

beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
  const router = (name: string, statements: number) =>
    startPgsteer(cluster, {
      name,
      configure: ({ pool }) => Object.assign(pool, { default_pool_size: 2, max_prepared_statements: statements }),
    });
  narrow = await router("narrow", 2);
  pair = await router("pair", 200);
});

beforeEach(async () => {
  await sql("DROP SCHEMA IF EXISTS one, other CASCADE; DROP TABLE IF EXISTS shape");
  await sql("CREATE TABLE shape (a int, b text); INSERT INTO shape VALUES (1, 'x')");
});

/** No server is left to any pool: the next client's is new. */
afterEach(async () => {
  for (const each of open.splice(0)) each.destroy();
  const none = async () =>
    (await superuser(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${APPLICATION.user}'`,
    )) === 0;
  await waitFor(none, { timeoutMs: 30_000, what: "no connection of the application is left", intervalMs: 5 });
});

afterAll(async () => {
  await cluster?.remove();
});

const superuser = async (text: string): Promise<number | null> => (await cluster.sql("node1", text)).rowCount;

/** As the application, on a connection of its own. */
async function sql(text: string): Promise<void> {
  const client = await RawClient.login(cluster.login("node1", APPLICATION));
  const failed = (await client.simple(text)).find((each) => each.startsWith("E "));
  client.destroy();
  if (failed !== undefined) throw new Error(failed);
}

async function routed(pgsteer: Pgsteer, parameters: Readonly<Record<string, string>> = {}): Promise<RawClient> {
  const client = await RawClient.login(pgsteer.login("write"), parameters);
  open.push(client);
  return client;
}

const { parse, bind, execute, sync, flush } = frontend;
const told = (name: string) => frontend.describe(name, "S");
const close = (name: string) => serialize.close({ type: "S", name });
const call = (name: string) => Buffer.concat([bind(name), execute()]);

/** Sends messages and a Sync; outlines what came back, with the number of columns for each row. */
async function batch(on: RawClient, ...messages: Buffer[]): Promise<string[]> {
  on.send(...messages, sync());
  return outline(await on.untilReady(8000));
}

/** One client of PostgreSQL and one of pgsteer that say the same. */
class Twins {
  readonly #talk: Conversation;
  readonly #pgsteer: Pgsteer;

  private constructor(talk: Conversation, pgsteer: Pgsteer) {
    this.#talk = talk;
    this.#pgsteer = pgsteer;
  }

  static async of(pgsteer: Pgsteer): Promise<Twins> {
    const talk = await Conversation.open(cluster.login("node1", APPLICATION), pgsteer.login("write"));
    open.push(talk);
    return new Twins(talk, pgsteer);
  }

  /** Both send the messages and a Sync, cut at these places, and hear the same: in types, and code for an error. */
  async batch(messages: readonly Buffer[], cuts: readonly number[] = []): Promise<string> {
    const bytes = Buffer.concat([...messages, sync()]);
    return this.#heard(await this.#talk.take({ bytes, ready: 1, open: false, cuts }));
  }

  async query(text: string): Promise<string> {
    return this.#heard(await this.#talk.take({ bytes: frontend.query(text), ready: 1, open: false, cuts: [] }));
  }

  #heard({ truth, said }: { readonly truth: string[]; readonly said: string[] }): string {
    expect(said).toEqual(truth);
    return truth.map((each) => (each.startsWith("E ") ? (/C=\w+/.exec(each)?.[0].slice(2) ?? "E") : each[0])).join(" ");
  }

  /** Somebody else takes the server that the client had: its next transaction is on another one. Undone by the function returned. */
  async move(): Promise<() => Promise<void>> {
    const blocker = await routed(this.#pgsteer);
    await blocker.simple("BEGIN");
    return async () => {
      await blocker.simple("ROLLBACK");
    };
  }
}

const select = "SELECT * FROM shape";
const prepare = (text: string, name = "s") => [parse(text, name), told(name)];

describe("a statement that its client has described", () => {
  test.each([
    ["another column", "ALTER TABLE shape ADD COLUMN c int", "0A000 Z"],
    ["a column less", "ALTER TABLE shape DROP COLUMN b", "0A000 Z"],
    ["another type", "ALTER TABLE shape ALTER a TYPE text", "0A000 Z"],
    ["another length", "ALTER TABLE shape ALTER b TYPE varchar(5)", "0A000 Z"],
    ["another name", "ALTER TABLE shape RENAME a TO z", "0A000 Z"],
    ["no table", "DROP TABLE shape", "42P01 Z"],
    ["nothing new", "ALTER TABLE shape ADD COLUMN c int; ALTER TABLE shape DROP COLUMN c", "2 D C Z"],
    ["a new table of the same shape", "DROP TABLE shape; CREATE TABLE shape (a int, b text)", "2 C Z"],
  ])("answers on another server as PostgreSQL does, each time: %s", async (_name, change, expected) => {
    const twins = await Twins.of(pair);
    expect(await twins.batch(prepare(select))).toBe("1 t T Z");
    expect(await twins.batch([call("s")])).toBe("2 D C Z");
    await sql(change);
    await twins.move();
    expect(await twins.batch([call("s")])).toBe(expected);
    expect(await twins.batch([call("s")])).toBe(expected);
    if (!expected.startsWith("0A000")) return;
    expect(await twins.batch([told("s")])).toBe("t 0A000 Z");
    // The driver's own remedy, at once and with the text it had.
    expect(await twins.batch([close("s"), ...prepare(select)])).toBe("3 1 t T Z");
    expect(await twins.batch([call("s")])).toBe("2 D C Z");
  });

  test("is cured by its next Parse wherever that goes", async () => {
    const twins = await Twins.of(pair);
    await twins.batch(prepare(select));
    await sql("ALTER TABLE shape ADD COLUMN c int");
    const back = await twins.move();
    expect(await twins.batch([call("s")])).toBe("0A000 Z");
    await back();
    // Where the plan is still the old one.
    const away = await twins.move();
    await away();
    expect(await twins.batch([close("s"), ...prepare(select)])).toBe("3 1 t T Z");
    await twins.move();
    expect(await twins.batch([call("s")])).toBe("2 D C Z");
  });

  test("does nothing where it is refused", async () => {
    const twins = await Twins.of(pair);
    await twins.batch(prepare("INSERT INTO shape VALUES (7, 'seven') RETURNING *"));
    await sql("ALTER TABLE shape ADD COLUMN c int");
    await twins.move();
    expect(await twins.batch([call("s")])).toBe("0A000 Z");
    expect(await twins.query("SELECT count(*) FROM shape WHERE a = 7")).toBe("T D C Z");
  });

  test("fails its transaction, and skips what follows it up to the Sync", async () => {
    const twins = await Twins.of(pair);
    await twins.batch([...prepare(select), ...prepare("SELECT 1", "one")]);
    await sql("ALTER TABLE shape ADD COLUMN c int");
    await twins.move();
    expect(await twins.query("BEGIN")).toBe("C Z");
    expect(await twins.batch([call("one"), call("s"), call("one"), told("one")])).toBe("2 D C 0A000 Z");
    expect(await twins.batch([call("one")])).toBe("25P02 Z");
    expect(await twins.query("COMMIT")).toBe("C Z");
    // Outside a transaction.
    expect(await twins.batch([call("one"), call("s"), call("one")])).toBe("2 D C 0A000 Z");
    expect(await twins.batch([call("one"), call("one"), call("one")])).toBe("2 D C 2 D C 2 D C Z");
  });

  test("is told of by the routine that drivers know it by", async () => {
    const one = await routed(pair);
    await batch(one, ...prepare(select));
    await sql("ALTER TABLE shape ADD COLUMN c int");
    await (await routed(pair)).simple("BEGIN");
    one.send(call("s"), sync());
    const [error] = await one.untilReady();
    const { R, M, C } = errorFields(error?.body ?? Buffer.alloc(0));
    expect([C, M, R]).toEqual(["0A000", "cached plan must not change result type", "RevalidateCachedQuery"]);
  });

  test("runs on with the parameter types that it had", async () => {
    const twins = await Twins.of(pair);
    const text = "SELECT b FROM shape WHERE a = $1";
    await twins.batch(prepare(text));
    await sql("ALTER TABLE shape ALTER a TYPE bigint");
    await twins.move();
    const value = (bytes: string) =>
      Buffer.concat([
        serialize.bind({ statement: "s", values: [Buffer.from(bytes, "hex")], binary: false }),
        execute(),
      ]);
    expect(await twins.batch([value("00000001")])).toBe("2 D C Z");
    expect(await twins.batch([value("0000000000000001")])).toBe("22P03 Z");
    expect(await twins.batch([told("s")])).toBe("t T Z");
    await sql("ALTER TABLE shape ALTER a TYPE text");
    expect(await twins.batch([value("00000001")])).toBe("42883 Z");
    // Nobody else is given the old types.
    const fresh = await Twins.of(pair);
    expect(await fresh.batch(prepare(text))).toBe("1 t T Z");
  });

  test("waits in a pipeline too, whatever follows, however it is cut, and in a message that is long", async () => {
    const twins = await Twins.of(pair);
    const long = "x".repeat(5000);
    const text = "SELECT a, b FROM shape WHERE b <> $1";
    await twins.batch([...prepare(text, "p"), ...prepare(select), ...prepare("SELECT 1", "one")]);
    const used = Buffer.concat([
      serialize.bind({ statement: "p", values: [long] }),
      execute(),
      ...[call("s"), call("one"), call("s"), told("one")],
    ]);
    const all = "2 D C 2 D C 2 D C 2 D C t T Z";
    for (const cuts of [[], [3], [7, 1500], [1200, 2000, 5030], [used.length - 30]]) {
      const back = await twins.move();
      expect(await twins.batch([used], cuts)).toBe(all);
      await back();
      // Takes the place of the statements on both servers.
      await twins.batch([parse("DEALLOCATE ALL"), bind(), execute()]);
      await twins.batch([...prepare(text, "p"), ...prepare(select), ...prepare("SELECT 1", "one")]);
    }
    await sql("ALTER TABLE shape ADD COLUMN c int");
    await twins.move();
    expect(await twins.batch([used], [4000])).toBe("2 D C 0A000 Z");
  });

  test("is prepared, described, run, and run again in pipelines on a server that keeps two", async () => {
    const twins = await Twins.of(narrow);
    const names = ["a", "b", "c", "d"];
    const texts = names.flatMap((name) => prepare(`SELECT *, '${name}' FROM shape`, name));
    const calls = names.map((name) => call(name));
    expect(await twins.batch([...texts, ...calls, flush(), ...calls])).toMatch(/^(?:1 t T ){4}(?:2 D C ){8}Z$/);
    await sql("ALTER TABLE shape ADD COLUMN c int");
    for (const name of names) expect(await twins.batch([call(name)])).toBe("0A000 Z");
    for (const name of names) expect(await twins.batch([call(name)])).toBe("0A000 Z");
    for (const name of names) {
      expect(await twins.batch([close(name), ...prepare(`SELECT *, '${name}' FROM shape`, name)])).toBe("3 1 t T Z");
    }
    for (const name of names) expect(await twins.batch([call(name)])).toBe("2 D C Z");
  });

  test("is the unnamed one too, parsed in one transaction and bound in the next", async () => {
    const twins = await Twins.of(pair);
    expect(await twins.batch(prepare(select, ""))).toBe("1 t T Z");
    const back = await twins.move();
    expect(await twins.batch([call("")])).toBe("2 D C Z");
    await back();
    await sql("ALTER TABLE shape ADD COLUMN c int");
    await twins.move();
    expect(await twins.batch([call("")])).toBe("0A000 Z");
    expect(await twins.batch([call("")])).toBe("0A000 Z");
    expect(await twins.batch([...prepare(select, ""), call("")])).toBe("1 t T 2 D C Z");
  });

  test("is not what a later client means by the same text, on any server", async () => {
    const [early, late] = [await Twins.of(pair), await Twins.of(pair)];
    await early.batch(prepare(select));
    await sql("ALTER TABLE shape ADD COLUMN c int");
    const back = await early.move();
    expect(await late.batch(prepare(select))).toBe("1 t T Z");
    expect(await early.batch([call("s")])).toBe("0A000 Z");
    expect(await late.batch([call("s")])).toBe("2 D C Z");
    await back();
    await late.move();
    expect(await late.batch([call("s")])).toBe("2 D C Z");
    expect(await early.batch([call("s")])).toBe("0A000 Z");
    await sql("ALTER TABLE shape DROP COLUMN c");
    expect(await early.batch([call("s")])).toBe("2 D C Z");
    expect(await late.batch([call("s")])).toBe("0A000 Z");
  });
});

describe("a statement of which its client has described a portal only", () => {
  const bound = (name: string, portal: string) => Buffer.concat([bind(name, portal), frontend.describe(portal, "P")]);

  test.each([
    ["the unnamed portal", ""],
    ["a named one", "p"],
  ])("answers on another server as PostgreSQL does, each time: %s", async (_name, portal) => {
    const twins = await Twins.of(pair);
    expect(await twins.batch([parse(select, "s")])).toBe("1 Z");
    expect(await twins.batch([bound("s", portal), execute(0, portal)])).toBe("2 T D C Z");
    await sql("ALTER TABLE shape ADD COLUMN c int");
    await twins.move();
    expect(await twins.batch([call("s")])).toBe("0A000 Z");
    expect(await twins.batch([bound("s", portal), execute(0, portal)])).toBe("0A000 Z");
    expect(await twins.batch([close("s"), parse(select, "s"), call("s")])).toBe("3 1 2 D C Z");
  });

  test("has rows of its own, whatever was described before or behind it", async () => {
    const twins = await Twins.of(pair);
    await twins.batch([parse(select, "s"), parse("SELECT 1", "t")]);
    expect(await twins.batch([bind("s", "p"), bound("t", "q"), execute(0, "q"), execute(0, "p")])).toBe(
      "2 2 T D C D C Z",
    );
    expect(await twins.batch([bound("s", ""), bound("t", "")])).toBe("2 T 2 T Z");
    await sql("ALTER TABLE shape ADD COLUMN c int");
    await twins.move();
    expect(await twins.batch([call("t")])).toBe("2 D C Z");
    expect(await twins.batch([call("s")])).toBe("0A000 Z");
  });

  test("has described nothing where that was skipped", async () => {
    const one = await routed(pair);
    expect(await batch(one, parse(select, "s"))).toEqual(["1", "Z I"]);
    expect(await batch(one, bind("nobody"), bound("s", ""))).toEqual(["E ERROR 26000", "Z I"]);
    await sql("ALTER TABLE shape ADD COLUMN c int");
    await (await routed(pair)).simple("BEGIN");
    expect(await batch(one, bound("s", ""), execute())).toEqual(["2", "T", "D 1", "C SELECT 1", "Z I"]);
  });
});

describe("a statement that its client has not described", () => {
  test("shows its new shape where that is described at last", async () => {
    const one = await routed(pair);
    await batch(one, parse(select, "s"));
    await sql("ALTER TABLE shape ADD COLUMN c int");
    await (await routed(pair)).simple("BEGIN");
    expect(await batch(one, told("s"))).toEqual(["t", "T", "Z I"]);
    // From its Describe on it knows.
    await sql("ALTER TABLE shape DROP COLUMN c");
    expect(await batch(one, call("s"))).toEqual(["E ERROR 0A000", "Z I"]);
  });

  test("has described nothing where its Describe was skipped", async () => {
    const one = await routed(pair);
    expect(await batch(one, parse(select, "s"), bind("nobody"), told("s"))).toEqual(["1", "E ERROR 26000", "Z I"]);
    await sql("ALTER TABLE shape ADD COLUMN c int");
    await (await routed(pair)).simple("BEGIN");
    expect(await batch(one, told("s"), call("s"))).toEqual(["t", "T", "2", "D 1", "C SELECT 1", "Z I"]);
  });
});

describe("the same text in two schemas", () => {
  beforeEach(async () => {
    await sql("CREATE SCHEMA one CREATE TABLE tenant (a int)");
    await sql("CREATE SCHEMA other CREATE TABLE tenant (a text, b text)");
    await sql("INSERT INTO one.tenant VALUES (1); INSERT INTO other.tenant VALUES ('other', 'b')");
  });
  const text = "SELECT * FROM tenant";
  const ran = (value: string) => ["2", `D ${value}`, "C SELECT 1", "Z I"];

  test.each([
    ["in the startup packet", true],
    ["by SET", false],
  ])("is two statements for clients that name theirs %s", async (_name, startup) => {
    const own = async (path: string) => {
      const client = await routed(narrow, startup ? { search_path: path } : {});
      if (!startup) await client.simple(`SET search_path = ${path}`);
      return client;
    };
    const [one, other] = [await own("one"), await own("other")];
    // Leaves them one server.
    await (await routed(narrow)).simple("BEGIN");
    for (const turn of ["s", "t"]) {
      for (const each of [one, other]) {
        await each.simple("BEGIN");
        expect(await batch(each, ...prepare(text, turn))).toEqual(["1", "t", "T", "Z T"]);
        await each.simple("COMMIT");
      }
      for (const again of ["s", turn]) {
        expect(await batch(one, call(again))).toEqual(ran("1"));
        expect(await batch(other, call(again))).toEqual(ran("other"));
      }
    }
  });

  test.each([
    ["SET LOCAL search_path = ", "simple"],
    ["SET LOCAL search_path = ", "extended"],
    ["SET LOCAL SCHEMA ", "simple"],
    ["SET search_path TO ", "extended"],
    ["SELECT set_config('search_path', ", "simple"],
  ] as const)("is two statements in transactions that choose theirs by %s, %s", async (choose, way) => {
    const [one, other] = [await routed(narrow), await routed(narrow)];
    await (await routed(narrow)).simple("BEGIN");
    for (const name of ["s", "t"]) {
      for (const [client, schema, value] of [[one, "one", "1"] as const, [other, "other", "other"] as const]) {
        await client.simple("BEGIN");
        await client[way](`${choose}'${schema}'${choose.includes("(") ? ", true)" : ""}`);
        const told = await batch(client, ...prepare(text, name), call(name));
        expect(told).toEqual(["1", "t", "T", "2", `D ${value}`, "C SELECT 1", "Z T"]);
        await client.simple("COMMIT");
      }
    }
  });

  test("is refused to a client that has moved to the other, and comes back with it", async () => {
    const twins = await Twins.of(pair);
    await twins.query("SET search_path = one");
    await twins.batch(prepare(text));
    await twins.query("SET search_path = other");
    expect(await twins.batch([call("s")])).toBe("0A000 Z");
    await twins.move();
    expect(await twins.batch([call("s")])).toBe("0A000 Z");
    await twins.query("SET search_path = one");
    expect(await twins.batch([call("s")])).toBe("2 D C Z");
    await twins.query("BEGIN");
    await twins.query("SET LOCAL search_path = other");
    expect(await twins.batch([call("s")])).toBe("0A000 Z");
    await twins.query("ROLLBACK");
    expect(await twins.batch([call("s")])).toBe("2 D C Z");
  });
});

/** What can become of the table, whatever it is like. */
const changes = [
  "ALTER TABLE shape ADD COLUMN IF NOT EXISTS c int",
  "ALTER TABLE shape DROP COLUMN IF EXISTS c",
  "ALTER TABLE shape ALTER a TYPE int USING a::int",
  "ALTER TABLE shape ALTER a TYPE text",
  "DROP TABLE shape; CREATE TABLE shape (a int, b text); INSERT INTO shape VALUES (1, 'x')",
];
/** Each with a text of its own, so that it means what PostgreSQL heard when this client prepared it. */
const texts = (mark: string) => [
  `${select} /* ${mark} */`,
  `SELECT b FROM shape /* ${mark} */`,
  `INSERT INTO shape SELECT * FROM shape WHERE b = '${mark}' RETURNING *`,
  `DELETE FROM shape WHERE b = '${mark}'`,
];
const names = ["", "p", "q"];

type Turn =
  | { readonly kind: "prepare"; readonly who: number; readonly name: string; readonly text: number }
  | {
      readonly kind: "call";
      readonly who: number;
      readonly names: readonly string[];
      readonly within: boolean;
      readonly cut: number;
    }
  | { readonly kind: "change"; readonly change: number }
  | { readonly kind: "move" };

const aName = fc.constantFrom(...names);
const turn: fc.Arbitrary<Turn> = fc.oneof(
  fc.record({ kind: fc.constant("prepare" as const), who: fc.nat(2), name: aName, text: fc.nat(3) }),
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("call" as const),
      who: fc.nat(2),
      names: fc.array(aName, { minLength: 1, maxLength: 4 }),
      within: fc.boolean(),
      cut: fc.nat(),
    }),
  },
  fc.record({ kind: fc.constant("change" as const), change: fc.nat(changes.length - 1) }),
  fc.record({ kind: fc.constant("move" as const) }),
);

describe("statements of three clients on two servers", { timeout: 120_000 }, () => {
  async function act(twins: readonly Twins[], turns: readonly Turn[], pgsteer: Pgsteer): Promise<void> {
    let back: (() => Promise<void>) | null = null;
    let count = 0;
    for (const each of turns) {
      const one = twins["who" in each ? each.who : 0];
      if (one === undefined) throw new Error("nobody is here");
      if (each.kind === "change") await sql(changes[each.change] ?? "");
      else if (each.kind === "move") {
        const undo: (() => Promise<void>) | null = back;
        back = undo === null ? await one.move() : null;
        await undo?.();
      } else if (each.kind === "prepare") {
        count += 1;
        const text = texts(`${pgsteer.pid} ${count}`)[each.text] ?? "";
        await one.batch([...(each.name === "" ? [] : [close(each.name)]), ...prepare(text, each.name)]);
      } else {
        if (each.within) await one.query("BEGIN");
        await one.batch(
          each.names.map((name) => call(name)),
          [each.cut],
        );
        if (each.within) await one.query("ROLLBACK");
      }
    }
    await back?.();
  }

  test.each([
    ["two", () => narrow],
    ["all", () => pair],
  ])("answer as PostgreSQL does whatever becomes of the table: servers keep %s", async (_name, router) => {
    const pgsteer = router();
    const property = fc.asyncProperty(fc.array(turn, { minLength: 8, maxLength: 30 }), async (turns) => {
      await sql("DROP TABLE shape; CREATE TABLE shape (a int, b text); INSERT INTO shape VALUES (1, 'x')");
      const twins = await Promise.all([1, 2, 3].map(() => Twins.of(pgsteer)));
      try {
        await act(twins, turns, pgsteer);
      } finally {
        for (const each of open.splice(0)) each.destroy();
      }
    });
    await fc.assert(property, {
      numRuns: 25,
      seed: 7,
    });
  });
});

describe("a client whose message waits for the answer", () => {
  /** A client whose next call waits on a new server for a lock, and the holder of that lock. */
  async function waiting(): Promise<{ one: RawClient; lock: RawClient }> {
    const one = await routed(pair);
    await batch(one, ...prepare(select));
    await (await routed(pair)).simple("BEGIN");
    const lock = await RawClient.login(cluster.login("node1", APPLICATION));
    open.push(lock);
    await lock.simple("BEGIN; LOCK shape");
    one.send(call("s"), sync());
    await waitFor(async () => (await superuser(blocked)) === 1, { timeoutMs: 30_000, what: "a backend that waits" });
    return { one, lock };
  }
  const blocked = `SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = '${APPLICATION.user}'`;

  test("gets it on, with what it sent meanwhile", async () => {
    const { one, lock } = await waiting();
    one.send(call("s"), sync());
    await lock.simple("COMMIT");
    for (const _turn of [1, 2]) {
      expect(outline(await one.untilReady())).toEqual(["2", "D 1", "C SELECT 1", "Z I"]);
    }
  });

  test("may leave, and harms nobody", async () => {
    const { one, lock } = await waiting();
    one.destroy();
    await lock.simple("COMMIT");
    const next = await routed(pair);
    expect(await batch(next, ...prepare(select), call("s"))).toEqual([
      ...["1", "t", "T", "2", "D 1", "C SELECT 1", "Z I"],
    ]);
  });

  test("is told when that is canceled", async () => {
    const { one, lock } = await waiting();
    await superuser(`SELECT pg_cancel_backend(pid) FROM (${blocked}) AS waiting`);
    expect(outline(await one.untilReady())).toEqual(["E ERROR 57014", "Z I"]);
    await lock.simple("COMMIT");
    expect(await batch(one, call("s"))).toEqual(["2", "D 1", "C SELECT 1", "Z I"]);
  });
});
