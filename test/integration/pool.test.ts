// A pool and its servers against a real PostgreSQL, with time in the test's hands: who gets a server, when, and how clean it is.
// Logins are in pool-login.test.ts.

import { serialize } from "pg-protocol";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { RESET_TIMEOUT_MS } from "../../src/core/limits.ts";
import { SettingsSet } from "../../src/pool/settings.ts";
import { Holder, PoolBench, until } from "../support/pool-bench.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

let postgres: Postgres;
let bench: PoolBench;

/** Server processes of the pool's user, as PostgreSQL counts them. */
async function backends(user = "app"): Promise<number> {
  const sql = "SELECT count(*)::int AS count FROM pg_stat_activity WHERE usename = $1";
  const { rows } = await queryOnce(postgres.login, sql, [user]);
  return Number(rows[0]?.["count"]);
}

beforeAll(async () => {
  postgres = await startPostgres("pool", [
    "host all app 127.0.0.1/32 trust",
    "host all locked 127.0.0.1/32 scram-sha-256",
    "host all all 127.0.0.1/32 trust",
  ]);
  await queryOnce(
    postgres.login,
    "CREATE ROLE app LOGIN; CREATE ROLE locked LOGIN PASSWORD 'right'; CREATE TABLE t (id int); GRANT ALL ON t TO app",
  );
});

afterAll(async () => {
  await postgres.remove();
});

beforeEach(() => {
  bench = new PoolBench(postgres.port);
});

afterEach(async () => {
  bench.fence();
  await waitFor(async () => (await backends()) === 0, { timeoutMs: 30_000, what: "PostgreSQL has no client left" });
});

describe("a pool", () => {
  test("opens no more servers than its size, and serves first those who came first", async () => {
    const pool = bench.pool();
    const log: string[] = [];
    const holders = ["a", "b", "c", "d", "e"].map((name) => new Holder(pool, name, log).acquire());
    await until("two are served", () => log.length === 2);
    expect(pool.counts).toEqual({ idle: 0, active: 2, tested: 0, login: 0, waiting: 3 });
    for (let served = 2; served < 5; served += 1) {
      holders.find(({ server }) => server !== null)?.release();
      expect(log).toHaveLength(served + 1);
    }
    expect(log).toEqual(["a", "b", "c", "d", "e"]);
    expect(await backends()).toBe(2);
    expect(pool.counters).toMatchObject({ logins: 2, leases: 5 });
    for (const holder of holders) holder.release();
    expect(pool.counts).toEqual({ idle: 2, active: 0, tested: 0, login: 0, waiting: 0 });
  });

  test("lends the server that was used last, and opens none where one is idle", async () => {
    const pool = bench.pool();
    const first = new Holder(pool);
    const second = new Holder(pool);
    const pids = [(await first.acquired()).pid, (await second.acquired()).pid];
    first.release();
    second.release();
    expect((await new Holder(pool).acquired()).pid).toBe(pids[1]);
    expect(pool.counters.logins).toBe(2);
  });

  test("passes over a waiter who has left", async () => {
    const pool = bench.pool({ options: { poolSize: 1 } });
    const log: string[] = [];
    const first = new Holder(pool, "first", log);
    await first.acquired();
    const gone = new Holder(pool, "gone", log).acquire();
    new Holder(pool, "next", log).acquire();
    pool.leave(gone);
    first.release();
    expect(log).toEqual(["first", "next"]);
  });

  test("refuses the waiter who is one too many, at once", async () => {
    const pool = bench.pool({ options: { poolSize: 1, waitQueueMax: 1 } });
    await new Holder(pool).acquired();
    new Holder(pool).acquire();
    expect(new Holder(pool).acquire().error).toMatchObject({ code: "wait_queue_full", sqlstate: "53300" });
    expect(pool.counts.waiting).toBe(1);
  });

  test("closes what is too old or too long unused, and nothing else", async () => {
    const pool = bench.pool();
    const [old, idle] = [new Holder(pool), new Holder(pool)];
    await old.acquired();
    await idle.acquired();
    idle.release();
    await bench.clock.advance(59_999);
    pool.sweep();
    expect(pool.counts.idle).toBe(1);
    await bench.clock.advance(1);
    pool.sweep();
    expect(pool.counts).toMatchObject({ idle: 0, active: 1 });
    await bench.clock.advance(540_000);
    pool.sweep();
    expect(pool.counts.active).toBe(1);
    old.release();
    expect(pool.counts).toMatchObject({ idle: 0, active: 0 });
    expect(pool.counters.serversClosed).toBe(2);
  });

  test("replaces a server that PostgreSQL ended while it was idle, without anybody noticing", async () => {
    const pool = bench.pool();
    const holder = new Holder(pool);
    const { pid } = await holder.acquired();
    holder.release();
    await queryOnce(postgres.login, "SELECT pg_terminate_backend($1)", [pid]);
    await until("it is gone", () => pool.counts.idle === 0);
    expect((await new Holder(pool).acquired()).pid).not.toBe(pid);
    expect(bench.observed).toContain("failed");
  });
});

describe("a server that is given back", () => {
  test("inside a transaction is rolled back before the next one gets it", async () => {
    const pool = bench.pool({ options: { poolSize: 1 } });
    const dirty = new Holder(pool);
    const { pid } = await dirty.acquired();
    await dirty.ask("BEGIN; INSERT INTO t VALUES (1)");
    dirty.release();
    const next = new Holder(pool);
    expect((await next.acquired()).pid).toBe(pid);
    expect(await next.ask("SELECT count(*) FROM t")).toEqual([["0"]]);
    expect(await next.ask("SELECT pg_current_xact_id_if_assigned()")).toEqual([[null]]);
  });

  test("inside a failed transaction as well", async () => {
    const pool = bench.pool({ options: { poolSize: 1 } });
    const dirty = new Holder(pool);
    const { pid } = await dirty.acquired();
    await dirty.ask("BEGIN; SELECT 1/0");
    dirty.release();
    const next = new Holder(pool);
    expect((await next.acquired()).pid).toBe(pid);
    expect(await next.ask("SELECT 1")).toEqual([["1"]]);
  });

  test.each<[string, Buffer[]]>([
    ["a request under way", [serialize.query("SELECT pg_sleep(60)")]],
    ["rows under way", [serialize.query("SELECT repeat('x', 1000000) FROM generate_series(1, 100000)")]],
    ["a copy under way", [serialize.query("COPY t FROM STDIN")]],
    [
      "a batch that was answered but not synced",
      [serialize.parse({ text: "INSERT INTO t VALUES (1)" }), serialize.bind(), serialize.execute(), serialize.flush()],
    ],
    ["a batch that has failed", [serialize.parse({ text: "SELEC" }), serialize.flush()]],
  ])("with %s is closed, and what it did is undone", async (_name, messages) => {
    const pool = bench.pool({ options: { poolSize: 1 } });
    const dirty = new Holder(pool);
    const { pid } = await dirty.acquired();
    dirty.send(...messages);
    // Answers come for all but the sleeper.
    if (!messages[0]?.includes("pg_sleep"))
      await until("an answer", () => dirty.answers > 0 || dirty.server?.exchange.copyIn);
    await new Promise((resolve) => setTimeout(resolve, 50));
    dirty.release();
    const next = new Holder(pool);
    expect((await next.acquired()).pid).not.toBe(pid);
    expect(await next.ask("SELECT count(*) FROM t")).toEqual([["0"]]);
    await queryOnce(
      postgres.login,
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()",
    );
  });

  test("by a session is reset, and by a transaction is not", async () => {
    const pool = bench.pool({ options: { poolSize: 1 } });
    const show = "SHOW work_mem";
    const holder = new Holder(pool);
    await holder.acquired();
    const [[usual] = []] = await holder.ask(show);
    await holder.ask("SET work_mem = '12MB'; CREATE TEMPORARY TABLE mine (id int)");
    holder.release("transaction");
    await holder.acquired();
    expect(await holder.ask(show)).toEqual([["12MB"]]);
    await holder.ask("BEGIN");
    holder.release("session");
    await holder.acquired();
    expect(await holder.ask(show)).toEqual([[usual]]);
    expect(await holder.ask("SELECT to_regclass('mine')")).toEqual([[null]]);
    expect(pool.counters.logins).toBe(1);
  });

  test("that does not finish its reset in time is closed, and its place is given to another", async () => {
    const pool = bench.pool({ options: { poolSize: 1 } });
    const holder = new Holder(pool);
    const { pid } = await holder.acquired();
    await holder.ask("BEGIN");
    process.kill(pid, "SIGSTOP");
    try {
      holder.release();
      const next = new Holder(pool).acquire();
      await bench.clock.advance(RESET_TIMEOUT_MS - 1);
      expect([next.server, pool.counts.tested]).toEqual([null, 1]);
      await bench.clock.advance(1);
      expect((await until("a new server", () => next.server)).pid).not.toBe(pid);
    } finally {
      process.kill(pid, "SIGCONT");
    }
  });

  test("is not lent while a cancel request is on its way to it", async () => {
    const pool = bench.pool({ options: { poolSize: 1 } });
    const holder = new Holder(pool);
    const server = await holder.acquired();
    server.cancels.sent();
    holder.release();
    const next = new Holder(pool).acquire();
    expect([next.server, pool.counts.tested]).toEqual([null, 1]);
    server.cancels.landed(true);
    expect([next.server, pool.counts.tested]).toEqual([server, 0]);
    next.release();
  });

  test("is given up when a cancel request to it was, or when it is inside a transaction meanwhile", async () => {
    const pool = bench.pool({ options: { poolSize: 1 } });
    for (const certain of [false, true]) {
      const holder = new Holder(pool);
      const server = await holder.acquired();
      server.cancels.sent();
      if (certain) await holder.ask("BEGIN");
      holder.release();
      server.cancels.landed(certain);
      const next = new Holder(pool);
      expect((await next.acquired()).pid).not.toBe(server.pid);
      next.release();
    }
  });
});

describe("a server's settings", () => {
  const wanted = SettingsSet.of([
    ["application_name", Buffer.from(`k\u00e4se ' \\ " ; --`).toString("latin1")],
    ["custom.name", "a'b\\c"],
    ["DateStyle", "German"],
    ["search_path", '"we ird", pg_catalog'],
  ]);

  test("are brought with the first request, whatever their characters, and undone for the next client", async () => {
    for (const conforming of ["on", "off"]) {
      const pool = bench.pool({ options: { poolSize: 1 } });
      const holder = new Holder(pool);
      const server = await holder.acquired();
      await holder.ask(`SET standard_conforming_strings = ${conforming}`);
      server.bringSettingsTo(wanted.with("standard_conforming_strings", conforming));
      expect(
        await holder.ask(`SELECT current_setting('application_name'), current_setting('custom.name'),
        current_setting('DateStyle'), current_setting('search_path')`),
      ).toEqual([
        ["k\\xc3\\xa4se ' \\ \" ; --".replace("\\xc3\\xa4", "??"), "a'b\\c", "German, DMY", '"we ird", pg_catalog'],
      ]);
      server.bringSettingsTo(SettingsSet.empty);
      expect(await holder.ask("SELECT current_setting('application_name'), current_setting('custom.name')")).toEqual([
        ["", ""],
      ]);
      expect(holder.ownFailure).toBeNull();
      holder.release();
    }
  });

  test("are known after a rollback of our own has changed them", async () => {
    const pool = bench.pool({ options: { poolSize: 1 } });
    const german = SettingsSet.of([["DateStyle", "German, DMY"]]);
    const dirty = new Holder(pool);
    const server = await dirty.acquired();
    await dirty.ask("BEGIN; SET DateStyle = 'German, DMY'");
    dirty.release();
    const next = new Holder(pool);
    expect(await next.acquired()).toBe(server);
    server.bringSettingsTo(german);
    expect(await next.ask("SHOW DateStyle")).toEqual([["German, DMY"]]);
  });

  test("that PostgreSQL refuses are told to the client that wants them", async () => {
    const pool = bench.pool();
    const holder = new Holder(pool);
    (await holder.acquired()).bringSettingsTo(SettingsSet.of([["DateStyle", "nonsense"]]));
    holder.send(serialize.query("SELECT 1"));
    expect(await until("the refusal", () => holder.ownFailure)).toMatchObject({ sqlstate: "22023" });
  });
});

describe("a fence", () => {
  test("closes every server at once, tells who held them, and sends who waits elsewhere", async () => {
    const pool = bench.pool();
    const [held, idle] = [new Holder(pool), new Holder(pool)];
    const servers = [await held.acquired(), await idle.acquired()];
    const busy = new Holder(pool);
    idle.release();
    await busy.acquired();
    busy.send(serialize.query("SELECT pg_sleep(60)"));
    const waiter = new Holder(pool).acquire();
    pool.fence("deposed");
    expect(servers.map(({ state }) => state)).toEqual(["closed", "closed"]);
    expect([held.cause?.kind, busy.cause?.kind, waiter.evictions]).toEqual(["fenced", "fenced", 1]);
    expect(pool.unused).toBe(true);
    expect([pool.fenced, waiter.error]).toEqual([true, null]);
    expect(bench.observed.filter((line) => line === "failed")).toEqual([]);
    await queryOnce(postgres.login, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'");
  });

  test("ends a login that is under way, and no other begins", async () => {
    const pool = bench.pool();
    const waiter = new Holder(pool).acquire();
    expect(pool.counts.login).toBe(1);
    pool.fence("deposed");
    expect([waiter.evictions, pool.counts.login]).toEqual([1, 0]);
    await bench.clock.advance(60_000);
    expect([waiter.server, pool.counters.logins]).toEqual([null, 0]);
  });
});
