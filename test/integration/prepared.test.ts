// Prepared statements that follow their client from server to server, each case by its name. The same beside PostgreSQL, at
// random, is in prepared-beside-postgres.test.ts.

import { serialize } from "pg-protocol";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { STATEMENT_BYTES_MAX } from "../../src/core/limits.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgsteer, type PgsteerConfiguration, startPgsteer } from "../support/pgsteer.ts";
import { libpqEnvironment, runProgram } from "../support/programs.ts";
import { errorFields, frontend, outline, RawClient } from "../support/raw-client.ts";
import { type Connection, connect, type Login } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

let cluster: Cluster;
/** One server, three statements. */
let narrow: Pgsteer;
/** Two servers, as many statements as by default; its read listener is the leader's, in session mode. */
let pair: Pgsteer;
/** One server, and statements do not follow. */
let off: Pgsteer;
const clients: RawClient[] = [];
const connections: Connection[] = [];

function router(name: string, pool: Record<string, unknown>, change: (configuration: PgsteerConfiguration) => void) {
  return startPgsteer(cluster, {
    name,
    configure: (configuration) => {
      Object.assign(configuration.pool, pool);
      change(configuration);
    },
  });
}

beforeAll(async () => {
  cluster = await startCluster({ members: 2 });
  narrow = await router("narrow", { default_pool_size: 1, max_prepared_statements: 3 }, () => {});
  pair = await router("pair", { default_pool_size: 2 }, ({ listeners }) => {
    const read = listeners.find(({ name }) => name === "read");
    if (read === undefined) throw new Error("no read listener");
    for (const key of ["lag_bytes_max", "fallback"]) delete read[key];
    Object.assign(read, { route: "write", pool_mode: "session" });
  });
  off = await router("off", { default_pool_size: 1, max_prepared_statements: 0 }, () => {});
});

afterEach(() => {
  for (const client of clients.splice(0)) client.destroy();
  for (const connection of connections.splice(0)) connection.destroy();
});

afterAll(async () => {
  await cluster?.remove();
});

async function client(login: Login): Promise<RawClient> {
  const opened = await RawClient.login(login);
  clients.push(opened);
  return opened;
}

const { parse, bind, execute, sync, flush } = frontend;
const describeStatement = (name: string) => frontend.describe(name, "S");
const close = (name: string) => serialize.close({ type: "S", name });
const call = (name: string) => Buffer.concat([bind(name), execute()]);

/** Sends messages and a Sync; outlines what came back. */
async function batch(on: RawClient, ...messages: Buffer[]): Promise<string[]> {
  on.send(...messages, sync());
  return outline(await on.untilReady(8000));
}

const preparedOnServer = (on: RawClient, sql: string): Promise<string> =>
  on.value(`SELECT count(*) FROM pg_prepared_statements WHERE statement = '${sql.replaceAll("'", "''")}'`);

const ran = (value: string) => ["2", `D ${value}`, "C SELECT 1", "Z I"];

describe("names in transaction pooling", () => {
  test("prepare the same text once on a server, whoever gives it whatever name", async () => {
    const [one, other] = [await client(narrow.login("write")), await client(narrow.login("write"))];
    const text = "SELECT 'shared'";
    expect(await batch(one, parse(text, "mine"))).toEqual(["1", "Z I"]);
    expect(await batch(other, parse(text, "yours"))).toEqual(["1", "Z I"]);
    expect(await batch(other, call("yours"))).toEqual(ran("shared"));
    expect(await batch(one, call("mine"))).toEqual(ran("shared"));
    expect(await preparedOnServer(one, text)).toBe("1");
    expect(await batch(one, call("yours"))).toEqual(["E ERROR 26000", "Z I"]);
  });

  test("mean different things to different clients", async () => {
    const [one, other] = [await client(narrow.login("write")), await client(narrow.login("write"))];
    await batch(one, parse("SELECT 'one'", "s"));
    await batch(other, parse("SELECT 'other'", "s"));
    expect(await batch(one, call("s"))).toEqual(ran("one"));
    expect(await batch(other, call("s"))).toEqual(ran("other"));
  });

  test("follow to another server while the first is taken", async () => {
    const [mover, blocker] = [await client(pair.login("write")), await client(pair.login("write"))];
    await batch(mover, parse("SELECT pg_backend_pid()", "pid"));
    const pids = new Set<string>();
    const pid = async () => (await batch(mover, call("pid"))).find((each) => each.startsWith("D ")) ?? "none";
    pids.add(await pid());
    await blocker.simple("BEGIN");
    pids.add(await pid());
    await blocker.simple("ROLLBACK");
    const second = await client(pair.login("write"));
    await blocker.simple("BEGIN");
    await second.simple("BEGIN");
    await blocker.simple("ROLLBACK");
    pids.add(await pid());
    await second.simple("ROLLBACK");
    await blocker.simple("BEGIN");
    pids.add(await pid());
    expect(pids.has("none")).toBe(false);
    expect(pids.size).toBe(2);
  });

  test("are given behind a DEALLOCATE ALL in the same write, on every route", async () => {
    for (const route of ["write", "auto"] as const) {
      const one = await client(pair.login(route));
      one.send(frontend.query("DEALLOCATE ALL"), parse("SELECT 'behind'", "s"), bind("s"), execute(), sync());
      expect(outline(await one.untilReady(8000))).toEqual(["C DEALLOCATE ALL", "Z I"]);
      expect(outline(await one.untilReady(8000))).toEqual(["1", ...ran("behind")]);
    }
  });

  test("of the unnamed statement follow too: parsed in one transaction, bound in the next", async () => {
    const [one, other] = [await client(narrow.login("write")), await client(narrow.login("write"))];
    await batch(one, parse("SELECT 'one'"));
    await batch(other, parse("SELECT 'other'"));
    expect(await batch(one, call(""))).toEqual(ran("one"));
    expect(await batch(other, call(""))).toEqual(ran("other"));
    await other.simple("SELECT 1");
    expect(await batch(other, call(""))).toEqual(["E ERROR 26000", "Z I"]);
    expect(await batch(one, call(""))).toEqual(ran("one"));
  });

  test("beyond what a server keeps are closed and prepared again, in one pipeline", async () => {
    const one = await client(narrow.login("write"));
    const names = ["a", "b", "c", "d", "e", "f", "g"];
    one.send(...names.map((name) => parse(`SELECT 'is ${name}'`, name)), sync());
    expect(outline(await one.untilReady())).toEqual([...names.map(() => "1"), "Z I"]);
    const twice = [...names, ...names.toReversed()];
    one.send(...twice.map((name) => call(name)), sync());
    expect(outline(await one.untilReady())).toEqual([
      ...twice.flatMap((name) => ["2", `D is ${name}`, "C SELECT 1"]),
      "Z I",
    ]);
    expect(Number(await one.value("SELECT count(*) FROM pg_prepared_statements"))).toBeLessThanOrEqual(3);
  });

  test("are not left behind by a Parse that failed", async () => {
    const one = await client(narrow.login("write"));
    expect(await batch(one, parse("SELEC", "s"), call("s"))).toEqual(["E ERROR 42601", "Z I"]);
    expect(await batch(one, call("s"))).toEqual(["E ERROR 26000", "Z I"]);
    expect(await batch(one, parse("SELECT 'good'", "s"), call("s"))).toEqual(["1", ...ran("good")]);
    // Nor by one that was never run.
    expect(await batch(one, parse("SELEC"), parse("SELECT 2", "t"))).toEqual(["E ERROR 42601", "Z I"]);
    expect(await batch(one, parse("SELECT 3", "t"), call("t"))).toEqual(["1", ...ran("3")]);
  });

  test("that nobody gave are unknown to Describe", async () => {
    const one = await client(narrow.login("write"));
    expect(await batch(one, describeStatement("nobody"))).toEqual(["E ERROR 26000", "Z I"]);
    expect(await batch(one, describeStatement(""))).toEqual(["E ERROR 26000", "Z I"]);
    expect(await batch(one, parse("SELECT 1", "known"))).toEqual(["1", "Z I"]);
    expect(await batch(one, describeStatement("known"))).toEqual(["t", "T", "Z I"]);
  });

  test("of servers are not the client's to use", async () => {
    const [one, other] = [await client(narrow.login("write")), await client(narrow.login("write"))];
    await batch(one, parse("SELECT 'secret'", "s"));
    const names = await one.simple("SELECT name FROM pg_prepared_statements");
    const name = names.find((each) => each.startsWith("D "))?.slice(2) ?? "";
    expect(name).toMatch(/^pgsteer_\d+$/);
    expect(await batch(other, call(name))).toEqual(["E ERROR 26000", "Z I"]);
    expect(await batch(other, describeStatement(name))).toEqual(["E ERROR 26000", "Z I"]);
    expect(await batch(other, close(name))).toEqual(["3", "Z I"]);
    expect(await batch(one, call("s"))).toEqual(ran("secret"));
  });

  test("that are in use cannot be given again", async () => {
    const one = await client(narrow.login("write"));
    await batch(one, parse("SELECT 'first'", "s"));
    one.send(parse("SELECT 'second'", "s"), sync());
    const [error] = await one.untilReady();
    expect(error?.type).toBe("E");
    const { C, M } = errorFields(error?.body ?? Buffer.alloc(0));
    expect([C, M]).toEqual(["42P05", 'prepared statement "s" already exists']);
    expect(await batch(one, call("s"))).toEqual(ran("first"));
    expect(await batch(one, close("s"), parse("SELECT 'third'", "s"), call("s"))).toEqual(["3", "1", ...ran("third")]);
  });

  test("can be deallocated, by a query and by a statement", async () => {
    const [one, other] = [await client(narrow.login("write")), await client(narrow.login("write"))];
    for (const each of [one, other]) await batch(each, parse("SELECT 'x'", "s"), parse("SELECT 'y'", "My Name"));
    expect(await one.simple("DEALLOCATE s")).toEqual(["C DEALLOCATE", "Z I"]);
    expect(await one.simple("DEALLOCATE s")).toEqual(["E ERROR 26000", "Z I"]);
    expect(await batch(one, call("s"))).toEqual(["E ERROR 26000", "Z I"]);
    expect(await one.extended('DEALLOCATE PREPARE "My Name"')).toEqual(["1", "2", "n", "C DEALLOCATE", "Z I"]);
    expect(await batch(one, call("My Name"))).toEqual(["E ERROR 26000", "Z I"]);
    expect(await batch(one, parse("SELECT 'again'", "s"), call("s"))).toEqual(["1", ...ran("again")]);
    // Nobody else's.
    expect(await batch(other, call("s"))).toEqual(ran("x"));
    expect(await batch(other, call("My Name"))).toEqual(ran("y"));
  });

  test.each(["DEALLOCATE ALL", "DISCARD ALL"])("are all forgotten after %s, and nobody else's", async (sql) => {
    const [one, other] = [await client(pair.login("write")), await client(pair.login("write"))];
    for (const each of [one, other]) await batch(each, parse("SELECT 'x'", "s"), parse("SELECT 'y'", "t"));
    expect(await one.simple(sql)).toEqual([`C ${sql}`, "Z I"]);
    expect(await batch(one, call("s"))).toEqual(["E ERROR 26000", "Z I"]);
    expect(await batch(one, parse("SELECT 'new'", "s"), call("s"))).toEqual(["1", ...ran("new")]);
    expect(await batch(other, call("s"))).toEqual(ran("x"));
    expect(await batch(other, call("t"))).toEqual(ran("y"));
  });

  test.each([
    ["alone", 1],
    ["where others have the same statement", 2],
  ])("meet a changed table once and are cured by preparing anew, %s", async (_name, holders) => {
    const company = await Promise.all(Array.from({ length: holders }, () => client(narrow.login("write"))));
    const [one] = company;
    if (one === undefined) throw new Error("nobody");
    await one.simple("DROP TABLE IF EXISTS changing; CREATE TABLE changing (id int); INSERT INTO changing VALUES (7)");
    for (const each of company) {
      await batch(each, parse("SELECT * FROM changing", "s"));
      expect(await batch(each, call("s"))).toEqual(ran("7"));
    }
    await one.simple("ALTER TABLE changing ADD COLUMN more int");
    for (const each of company) {
      expect(await batch(each, call("s"))).toEqual(["E ERROR 0A000", "Z I"]);
      expect(await batch(each, close("s"), parse("SELECT * FROM changing", "s"), call("s"))).toEqual([
        ...["3", "1"],
        ...ran("7"),
      ]);
    }
  });

  test("that a failed batch would have given cannot be deallocated by a query right behind it", async () => {
    const one = await client(narrow.login("write"));
    const failing = [parse("SELECT * FROM missing"), parse("SELECT 1", "never"), sync()];
    one.send(...failing, frontend.query("DEALLOCATE never"));
    expect(outline(await one.untilReady(8000))).toEqual(["E ERROR 42P01", "Z I"]);
    expect(outline(await one.untilReady(8000))).toEqual(["E ERROR 26000", "Z I"]);
  });

  test("can be closed, or given again, last in a batch", async () => {
    const [one, other] = [await client(narrow.login("write")), await client(narrow.login("write"))];
    expect(await batch(one, parse("SELECT 'x'", "s"), call("s"), close("s"))).toEqual([
      ...["1", "2", "D x", "C SELECT 1", "3", "Z I"],
    ]);
    expect(await batch(other, parse("SELECT 'x'"), call(""), parse("SELECT 'x'", "s"))).toEqual([
      ...["1", "2", "D x", "C SELECT 1", "1", "Z I"],
    ]);
  });

  test("that a client has not given never lead to another client's statement, the unnamed one included", async () => {
    const [one, other] = [await client(narrow.login("write")), await client(narrow.login("write"))];
    await batch(one, parse("SELECT 'secret'"));
    // Skipped: the server keeps what it had.
    expect(await batch(one, call("nobody"), parse("SELECT 'never'"))).toEqual(["E ERROR 26000", "Z I"]);
    expect(await batch(other, call(""))).toEqual(["E ERROR 26000", "Z I"]);
    expect(await batch(one, call(""))).toEqual(ran("secret"));
  });

  test("of a client that left between Parse and Sync harm nobody", async () => {
    const [leaver, other] = [await client(narrow.login("write")), await client(narrow.login("write"))];
    leaver.send(parse("SELECT 'left'", "s"), flush());
    expect((await leaver.next())?.type).toBe("1");
    leaver.send(parse("SELECT 'left behind'", "t"), close("s"), parse("SELEC", "u"));
    leaver.destroy();
    expect(await batch(other, parse("SELECT 'left'", "mine"), call("mine"))).toEqual(["1", ...ran("left")]);
    expect(await batch(other, parse("SELECT 'left behind'", "t"), call("t"))).toEqual(["1", ...ran("left behind")]);
  });

  test("of statements that are too long to keep bind their client to its server", async () => {
    const [one, other] = [await client(pair.login("write")), await client(pair.login("write"))];
    const long = (value: string) => `SELECT '${value}' /* ${"x".repeat(STATEMENT_BYTES_MAX)} */`;
    expect(await batch(one, parse(long("once")), call(""))).toEqual(["1", ...ran("once")]);
    expect(await batch(one, parse(long("kept"), "long"))).toEqual(["1", "Z I"]);
    const pid = await one.value("SELECT pg_backend_pid()");
    await other.simple("BEGIN");
    expect(await batch(one, call("long"))).toEqual(ran("kept"));
    expect(await one.value("SELECT pg_backend_pid()")).toBe(pid);
    one.destroy();
    await other.simple("ROLLBACK");
    // The server is as new for the next client.
    const next = await client(pair.login("write"));
    await other.simple("BEGIN");
    expect(await batch(next, call("long"))).toEqual(["E ERROR 26000", "Z I"]);
    expect(await batch(next, parse("SELECT 1", "long"), call("long"))).toEqual(["1", ...ran("1")]);
  });
});

describe("programs and drivers", () => {
  test("pgbench runs prepared with more clients than servers", async () => {
    const login = pair.login("write");
    const env = libpqEnvironment(login);
    const run = (...args: string[]) => runProgram("pgbench", args, { env, timeoutMs: 30_000 });
    const made = await run("-i", "-q", "-s", "1");
    expect(made.code, made.stderr).toBe(0);
    // A thread for each client: pgbench prepares with blocking calls, and would wait for servers that its other clients hold.
    for (const script of ["select-only", "tpcb-like"]) {
      const done = await run("-n", "-M", "prepared", "-b", script, "-c", "8", "-j", "8", "-t", "50");
      expect(done.stderr).not.toMatch(/error|FATAL/i);
      expect([done.code, done.stdout.includes("processed: 400/400")], done.stderr).toEqual([0, true]);
    }
  });

  test("named queries of twenty drivers on two servers are answered to who asked", async () => {
    const drivers = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const connection = await connect(pair.login("write"));
        connections.push(connection);
        return connection.client;
      }),
    );
    const seen = await Promise.all(
      drivers.map(async (driver, who) => {
        const wrong: unknown[] = [];
        for (let turn = 0; turn < 100; turn += 1) {
          const kind = (who + turn * 7) % 12;
          const { rows } = await driver.query({
            // The same name is another text for half of the clients, and the same text has another name for some.
            name: `query ${kind} ${who % 3 === 0 ? "a" : "b"}`,
            text: `SELECT $1::int AS who, $2::int AS turn, ${kind + (who % 2) * 100} AS kind`,
            values: [who, turn],
          });
          const expected = { who, turn, kind: kind + (who % 2) * 100 };
          if (JSON.stringify(rows) !== JSON.stringify([expected])) wrong.push({ expected, rows });
        }
        return wrong;
      }),
    );
    expect(seen.flat()).toEqual([]);
  });
});

describe("where statements do not follow", () => {
  test("names are the server's own: with max_prepared_statements 0 the next client finds them", async () => {
    const [one, other] = [await client(off.login("write")), await client(off.login("write"))];
    expect(await batch(one, parse("SELECT 'own'", "s"))).toEqual(["1", "Z I"]);
    expect(await other.value("SELECT name FROM pg_prepared_statements")).toBe("s");
    expect(await batch(other, call("s"))).toEqual(ran("own"));
    expect(await batch(other, parse("SELECT 'mine'", "s"))).toEqual(["E ERROR 42P05", "Z I"]);
    expect(await other.simple("DEALLOCATE s")).toEqual(["C DEALLOCATE", "Z I"]);
    expect(await batch(one, call("s"))).toEqual(["E ERROR 26000", "Z I"]);
  });

  test("session mode leaves names alone, and none to the next client", async () => {
    // What clients in transaction mode have left there is not its own.
    const names = "FROM pg_prepared_statements WHERE name !~ '^pgsteer_'";
    const one = await client(pair.login("read"));
    expect(await batch(one, parse("SELECT 'own'", "s"), call("s"))).toEqual(["1", ...ran("own")]);
    expect(await one.value(`SELECT name ${names}`)).toBe("s");
    expect(await one.simple("DEALLOCATE s")).toEqual(["C DEALLOCATE", "Z I"]);
    await batch(one, parse("SELECT 'own'", "s"));
    one.send(frontend.terminate());
    await one.untilEnd();
    const next = await client(pair.login("read"));
    expect(await next.value(`SELECT count(*) ${names}`)).toBe("0");
  });
});

describe("names and a switchover", () => {
  test("outlive the leader: they work on the new one, also after a transaction that was lost", {
    timeout: 240_000,
  }, async () => {
    const [idle, busy] = [await client(pair.login("write")), await client(pair.login("write"))];
    for (const each of [idle, busy]) await batch(each, parse("SELECT 'follows'", "s"), parse("ROLLBACK", "undo"));
    await busy.simple("BEGIN");
    expect(await batch(busy, call("s"))).toEqual(["2", "D follows", "C SELECT 1", "Z T"]);
    const before = await cluster.requireLeader();
    await cluster.switchover();
    await waitFor(async () => (await cluster.requireLeader()) !== before, { timeoutMs: 60_000, what: "a new leader" });
    expect(await batch(idle, call("s"))).toEqual(ran("follows"));
    expect(await batch(busy, call("s"))).toEqual(["E ERROR 40001", "Z E"]);
    expect(await batch(busy, call("s"))).toEqual(["E ERROR 25P02", "Z E"]);
    expect(await batch(busy, call("undo"))).toEqual(["2", "C ROLLBACK", "Z I"]);
    expect(await batch(busy, call("s"))).toEqual(ran("follows"));
    await cluster.waitHealthy();
  });
});
