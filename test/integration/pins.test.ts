// What cannot follow a client to another server keeps it with its server in transaction pooling, for as long as it is there and no
// longer; `on_session_state` may have it refused or ignored instead. One server for all: whoever keeps it is seen by the others.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { SUPERUSER } from "../support/patroni.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { errorFields, frontend, outline, RawClient, type RawMessage } from "../support/raw-client.ts";
import { waitFor } from "../support/time.ts";

let cluster: Cluster;
let pgsteer: Pgsteer;
const opened: RawClient[] = [];

beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
  pgsteer = await startPgsteer(cluster, {
    configure: ({ listeners, pool }) => {
      pool["default_pool_size"] = 1;
      pool["query_wait_timeout"] = "30s";
      for (const listener of listeners) {
        if (listener["name"] === "read") listener["route"] = "write";
        if (listener["name"] === "read") delete listener["lag_bytes_max"];
        if (listener["name"] === "read") delete listener["fallback"];
      }
      Object.assign(listeners[0] ?? {}, { on_session_state: "ignore" });
      Object.assign(listeners[2] ?? {}, { on_session_state: "refuse" });
    },
  });
});

afterEach(async () => {
  for (const client of opened.splice(0)) client.destroy();
  await waitFor(async () => (await pinned("write")).length === 0, { timeoutMs: 30_000, what: "all clients are gone" });
});

afterAll(async () => {
  await cluster?.remove();
});

async function client(listener: "auto" | "write" | "read" = "write"): Promise<RawClient> {
  const found = await RawClient.login(pgsteer.login(listener));
  opened.push(found);
  return found;
}

interface ListenerStatus {
  readonly name: string;
  readonly pinned: Readonly<Record<string, number>>;
}

/** Why clients of a listener keep their servers now. */
async function pinned(listener: string): Promise<string[]> {
  const answer = (await (await fetch(`${pgsteer.httpUrl}/topology`)).json()) as { listeners: ListenerStatus[] };
  return Object.keys(answer.listeners.find(({ name }) => name === listener)?.pinned ?? {});
}

/** Value of a counter with a cause. */
async function counted(metric: string, listener: string, cause: string): Promise<number> {
  const text = await (await fetch(`${pgsteer.httpUrl}/metrics`)).text();
  const line = text.split("\n").find((each) => {
    return (
      each.startsWith(`${metric}{`) && each.includes(`listener="${listener}"`) && each.includes(`cause="${cause}"`)
    );
  });
  return Number(line?.split(" ").at(-1) ?? 0);
}

/** Runs a query by either protocol. */
const run = (one: RawClient, sql: string): Promise<string[]> =>
  sql.startsWith("extended: ") ? one.extended(sql.slice("extended: ".length)) : one.simple(sql);

/** Whether another client is served: nobody keeps the only server. */
async function served(): Promise<boolean> {
  const other = await client();
  other.send(frontend.query("SELECT count(*) FROM pg_listening_channels()"));
  const answer = await other.untilReady(400).catch(() => null);
  other.destroy();
  return answer !== null;
}

describe("a client stays with its server", () => {
  test.each([
    ["listen", "LISTEN news", "UNLISTEN news"],
    ["listen", "extended: LISTEN news", "UNLISTEN *"],
    ["listen", "LISTEN a; LISTEN b", "UNLISTEN a; UNLISTEN b"],
    ["temporary_table", "CREATE TEMP TABLE x (n int)", "DROP TABLE x"],
    ["temporary_table", "extended: SELECT 1 AS n INTO TEMP x", "extended: DROP TABLE x"],
    ["temporary_table", "CREATE TABLE pg_temp.x (n int)", "DISCARD TEMP"],
    ["temporary_table", "CREATE TEMP VIEW v AS SELECT 1", "DROP VIEW v"],
    ["temporary_table", "CREATE TEMP SEQUENCE s", "DROP SEQUENCE s"],
    [
      "temporary_table",
      "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
      "DROP FUNCTION pg_temp.f()",
    ],
    ["temporary_table", "EXPLAIN ANALYZE CREATE TEMP TABLE x AS SELECT 1", "DROP TABLE x"],
    ["temporary_table", "DO $$ BEGIN EXECUTE 'CREATE TE' || 'MP TABLE x (n int)'; END $$", "DISCARD ALL"],
    ["advisory_lock", "SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"],
    ["advisory_lock", "extended: SELECT pg_catalog.pg_try_advisory_lock(1, 2)", "SELECT pg_advisory_unlock_all()"],
    ["advisory_lock", "EXPLAIN ANALYZE SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"],
    ["with_hold_cursor", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "CLOSE c"],
    ["with_hold_cursor", "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", "CLOSE ALL"],
    ["sql_prepare", "PREPARE p AS SELECT 1", "DEALLOCATE p"],
    ["sql_prepare", "PREPARE p AS SELECT 1", "DEALLOCATE ALL"],
  ])("with %s by %s, until %s", async (cause, begin, end) => {
    const one = await client();
    const before = await counted("pgsteer_pins_total", "write", cause);
    expect((await run(one, begin)).at(-1)).toBe("Z I");
    expect(await one.simple("SELECT 1")).toEqual(["T", "D 1", "C SELECT 1", "Z I"]);
    expect(await pinned("write")).toEqual([cause]);
    expect(await counted("pgsteer_pins_total", "write", cause)).toBe(before + 1);
    expect(await counted("pgsteer_pinned_clients", "write", cause)).toBe(1);
    expect((await run(one, end)).at(-1)).toBe("Z I");
    expect(await served()).toBe(true);
    expect(await pinned("write")).toEqual([]);
  });

  test("while anything is left, and not only what was undone", async () => {
    const one = await client();
    await one.simple("LISTEN news");
    await one.simple("SELECT pg_advisory_lock(7), pg_advisory_lock(7)");
    await one.simple("UNLISTEN other");
    expect(await pinned("write")).toEqual(["listen", "advisory_lock"]);
    await one.simple("UNLISTEN *");
    await one.simple("SELECT 1");
    expect(await pinned("write")).toEqual(["advisory_lock"]);
    await one.simple("SELECT pg_advisory_unlock(7)");
    await one.simple("SELECT 1");
    expect(await pinned("write")).toEqual(["advisory_lock"]);
    expect(await served()).toBe(false);
    await one.simple("SELECT pg_advisory_unlock(7)");
    expect(await served()).toBe(true);
  });

  test.each([
    ["SET search_path = pg_temp, public", "CREATE TABLE x (n int)"],
    ["SELECT set_config('search_path', 'pg_temp', false)", "extended: SELECT 1 AS n INTO x"],
    ["BEGIN; SET LOCAL search_path = pg_temp", "CREATE TABLE x (n int); COMMIT"],
  ])("with a table that is temporary by its search_path: %s", async (first, second) => {
    const one = await client();
    await one.simple(first);
    expect((await run(one, second)).at(-1)).toBe("Z I");
    await one.simple("SELECT 1");
    expect(await pinned("write")).toEqual(["temporary_table"]);
    await one.simple("SET search_path = public");
    await one.simple("DROP TABLE pg_temp.x");
    expect(await served()).toBe(true);
  });

  test("with LOAD for good", async () => {
    const one = await RawClient.login(pgsteer.login("write", { ...SUPERUSER, database: "postgres" }));
    opened.push(one);
    expect(await one.simple("LOAD 'plpgsql'")).toEqual(["C LOAD", "Z I"]);
    await one.simple("DISCARD ALL");
    expect(await one.simple("LOAD 'nothing_of_this_name'")).toEqual(["E ERROR 58P01", "Z I"]);
    expect(await pinned("write")).toEqual(["load"]);
  });

  test("as somebody else, until it is itself again", async () => {
    const one = await RawClient.login(pgsteer.login("write", { ...SUPERUSER, database: "postgres" }));
    opened.push(one);
    await one.simple("SET SESSION AUTHORIZATION app");
    expect(await one.value("SELECT session_user")).toBe("app");
    expect(await pinned("write")).toEqual(["session_authorization"]);
    await one.simple("RESET SESSION AUTHORIZATION");
    expect(await one.value("SELECT session_user")).toBe(SUPERUSER.user);
    expect(await pinned("write")).toEqual([]);
  });

  test("with what a statement does that was prepared earlier, each time that it is run", async () => {
    const one = await client();
    one.send(frontend.parse("SELECT pg_advisory_lock(7)", "lock"), frontend.sync());
    expect(outline(await one.untilReady())).toEqual(["1", "Z I"]);
    expect(await served()).toBe(true);
    for (let round = 0; round < 2; round += 1) {
      one.send(frontend.bind("lock"), frontend.execute(), frontend.sync());
      expect(outline(await one.untilReady()).at(-1)).toBe("Z I");
      await one.simple("SELECT 1");
      expect(await pinned("write")).toEqual(["advisory_lock"]);
      await one.simple("SELECT pg_advisory_unlock(7)");
      expect(await served()).toBe(true);
    }
  });

  test("and leaves nothing behind when it goes", async () => {
    const one = await client();
    await one.simple("BEGIN");
    await one.simple("LISTEN news");
    await one.simple("SELECT pg_advisory_lock(7)");
    one.destroy();
    const other = await client();
    expect(await other.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).toBe("0");
    expect(await other.value("SELECT count(*) FROM pg_listening_channels()")).toBe("0");
  });
});

describe("a client does not stay", () => {
  test.each([
    ["what was rolled back", ["BEGIN", "CREATE TEMP TABLE x (n int)", "LISTEN news", "ROLLBACK"]],
    ["what failed", ["CREATE TEMP TABLE x (n int); SELECT 1/0"]],
    [
      "what was undone to a savepoint",
      ["BEGIN", "SAVEPOINT s", "CREATE TEMP TABLE x (n int)", "ROLLBACK TO s", "COMMIT"],
    ],
    ["what its transaction drops", ["BEGIN", "CREATE TEMP TABLE x (n int) ON COMMIT DROP", "COMMIT"]],
    ["a transaction's own lock", ["SELECT pg_advisory_xact_lock(7)"]],
    ["a lock that it did not get", ["SELECT pg_try_advisory_lock(7) WHERE false"]],
    ["a cursor of its transaction", ["BEGIN", "DECLARE c CURSOR FOR SELECT 1", "COMMIT"]],
    ["a word in a string", ["SELECT 'CREATE TEMP TABLE x; LISTEN news'", "SELECT 1 AS temp -- LISTEN news"]],
    ["a procedure that leaves nothing", ["DO $$ BEGIN PERFORM 1; END $$"]],
  ])("for %s", async (_what, statements) => {
    const one = await client();
    for (const sql of statements) await one.simple(sql);
    expect(await served()).toBe(true);
    expect(await pinned("write")).toEqual([]);
  });
});

describe("notifications", () => {
  const notify = (payload: number) => cluster.sql("node1", `NOTIFY news, '${payload}'`, [], APPLICATION.database);
  /** Payload of a notification. */
  const payload = (each: RawMessage | null): number[] =>
    each?.type === "A" ? [Number(each.body.toString("latin1", 4).split("\0")[1])] : [];

  test("reach a client that listens at once, while it says nothing", async () => {
    const one = await client();
    await one.simple("LISTEN news");
    for (const number of [1, 2]) {
      await notify(number);
      expect(payload(await one.next(5000))).toEqual([number]);
    }
  });

  test("that come while its server is asked are not lost", async () => {
    const one = await client();
    let sent = 0;
    let over = false;
    await one.simple("LISTEN news");
    const notifying = (async () => {
      while (!over) await notify(++sent);
    })();
    const heard: number[] = [];
    for (let round = 0; round < 50; round += 1) {
      one.send(frontend.query("UNLISTEN other"));
      heard.push(...(await one.untilReady()).flatMap(payload));
    }
    over = true;
    await notifying;
    while (heard.at(-1) !== sent) heard.push(...payload(await one.next(5000)));
    expect(heard).toEqual(Array.from({ length: sent }, (_, index) => index + 1));
    expect(await one.value("SELECT 1")).toBe("1");
  });
});

describe("on_session_state: refuse", () => {
  const words = (messages: readonly (RawMessage | null)[]) => {
    const { S, C, M, D, H } = errorFields(messages.find((each) => each?.type === "E")?.body ?? Buffer.alloc(0));
    return { S, C, M, D, H };
  };
  const refusal = (object: string) => ({
    S: "ERROR",
    C: "0A000",
    M: "session state is not allowed in transaction pooling",
    D: `The statement would leave something in its session: ${object}.`,
    H: "Connect to a listener with pool_mode session, or have on_session_state set to pin.",
  });

  test("fails a simple statement with the reason, and counts it", async () => {
    const one = await client("read");
    const before = await counted("pgsteer_session_state_refused_total", "read", "listen");
    one.send(frontend.query("SELECT 1; LISTEN news"));
    const seen = await one.untilReady();
    expect(outline(seen)).toEqual(["E ERROR 0A000", "Z I"]);
    expect(words(seen)).toEqual(refusal('LISTEN on channel "news"'));
    expect(await counted("pgsteer_session_state_refused_total", "read", "listen")).toBe(before + 1);
    expect(await one.value("SELECT count(*) FROM pg_listening_channels()")).toBe("0");
    expect(await pinned("read")).toEqual([]);
  });

  test("fails its transaction, as an error does", async () => {
    const one = await client("read");
    expect(await one.simple("BEGIN")).toEqual(["C BEGIN", "Z T"]);
    expect(await one.simple("CREATE TEMP TABLE x (n int)")).toEqual(["E ERROR 0A000", "Z E"]);
    expect(await one.simple("CREATE TEMP TABLE x (n int)")).toEqual(["E ERROR 25P02", "Z E"]);
    expect(await one.simple("COMMIT")).toEqual(["C ROLLBACK", "Z I"]);
    expect(await one.value("SELECT to_regclass('x')")).toBe("null");
  });

  test("fails a Parse, skips the rest of its batch, and leaves the name free", async () => {
    const one = await client("read");
    for (const name of ["", "s"]) {
      one.send(frontend.extended("SELECT pg_advisory_lock(7)", name));
      const seen = await one.untilReady();
      expect(outline(seen)).toEqual(["E ERROR 0A000", "Z I"]);
      expect(words(seen)).toEqual(refusal("session advisory lock (7)"));
      expect(await one.extended("SELECT 1", name)).toEqual(["1", "2", "T", "D 1", "C SELECT 1", "Z I"]);
    }
  });

  test("answers each statement of a pipeline with its own reason", async () => {
    const one = await client("read");
    one.send(
      frontend.query("LISTEN a"),
      frontend.query("SELECT 1"),
      frontend.extended("LISTEN b"),
      frontend.query("LISTEN c"),
    );
    const reasons = [];
    for (let batch = 0; batch < 4; batch += 1) reasons.push(words(await one.untilReady()).D?.split('"')[1]);
    expect(reasons).toEqual(["a", undefined, "b", "c"]);
  });

  test("lets everything else through", async () => {
    const one = await client("read");
    expect(await one.simple("SELECT 'LISTEN news', pg_advisory_xact_lock(1)")).toContain("C SELECT 1");
    expect(await one.simple("UNLISTEN *")).toEqual(["C UNLISTEN", "Z I"]);
    expect(await one.simple("SET statement_timeout = '1min'")).toEqual(["C SET", "Z I"]);
    expect(await one.value("SELECT 1/0")).toBe("E ERROR 22012, Z I");
    expect(await one.value("SELECT 'pgsteer'::int4")).toBe("E ERROR 22P02, Z I");
  });

  test("keeps a client whose text did not show what it does", async () => {
    const one = await client("read");
    await one.simple("DO $$ BEGIN EXECUTE 'LIS' || 'TEN news'; END $$");
    await one.simple("SELECT 1");
    expect(await pinned("read")).toEqual(["listen"]);
  });
});

describe("on_session_state: ignore", () => {
  test("pins nobody, and counts", async () => {
    const one = await client("auto");
    const before = await counted("pgsteer_session_state_ignored_total", "auto", "advisory_lock");
    await one.simple("SELECT pg_advisory_lock(8)");
    expect(await served()).toBe(true);
    expect(await pinned("auto")).toEqual([]);
    expect(await counted("pgsteer_session_state_ignored_total", "auto", "advisory_lock")).toBe(before + 1);
    await one.simple("SELECT pg_advisory_unlock_all()");
  });
});
