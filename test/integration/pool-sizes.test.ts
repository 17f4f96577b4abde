// How many servers a pool has, and when, against a real PostgreSQL with time in the test's hands: minimum, reserve, limits that
// several pools share; and what each server is asked before it is lent.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { CEDE_AFTER_MS, REFILL_RETRY_MS, RESET_TIMEOUT_MS } from "../../src/core/limits.ts";
import { SettingsSet } from "../../src/pool/settings.ts";
import { Preparation, Statement } from "../../src/pool/statements.ts";
import { Holder, PoolBench, until } from "../support/pool-bench.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

let postgres: Postgres;
let bench: PoolBench;

beforeAll(async () => {
  postgres = await startPostgres("pool-sizes", [
    "host all locked 127.0.0.1/32 scram-sha-256",
    "host all all 127.0.0.1/32 trust",
  ]);
  await queryOnce(
    postgres.login,
    "CREATE ROLE app LOGIN; CREATE ROLE other LOGIN; CREATE ROLE locked LOGIN PASSWORD 'right'; GRANT other TO app",
  );
  await queryOnce(postgres.login, "CREATE DATABASE second");
});

afterAll(async () => {
  await postgres.remove();
});

beforeEach(() => {
  bench = new PoolBench(postgres.port);
});

afterEach(async () => {
  bench.fence();
  const sql = "SELECT count(*)::int AS count FROM pg_stat_activity WHERE usename IN ('app', 'other', 'locked')";
  const none = async () => (await queryOnce(postgres.login, sql)).rows[0]?.["count"] === 0;
  await waitFor(none, { timeoutMs: 30_000, what: "PostgreSQL has no client left" });
});

/** Limits by name; none for others. */
function limited(databases: Readonly<Record<string, number>>, users: Readonly<Record<string, number>> = {}): PoolBench {
  bench.fence();
  bench = new PoolBench(postgres.port, {
    database: (name) => databases[name] ?? 0,
    user: (name) => users[name] ?? 0,
  });
  return bench;
}

describe("the reserve", () => {
  const options = { poolSize: 1, reservePoolSize: 1, reservePoolTimeoutMs: 5_000 };

  test("is opened for who has waited too long, one server each, and closed when nobody waits", async () => {
    const pool = bench.pool({ options });
    const log: string[] = [];
    const [a, b, c] = ["a", "b", "c"].map((name) => new Holder(pool, name, log));
    if (!a || !b || !c) throw new Error("three holders");
    await a.acquired();
    b.acquire();
    await bench.clock.advance(1_000);
    c.acquire();
    await bench.clock.advance(3_999);
    expect(pool.counts).toMatchObject({ active: 1, login: 0, waiting: 2 });
    await bench.clock.advance(1);
    expect(pool.counts).toMatchObject({ active: 1, login: 1, waiting: 2 });
    await until("the reserve serves", () => b.server);
    await bench.clock.advance(60_000);
    expect(pool.counts).toMatchObject({ active: 2, login: 0, waiting: 1 });
    b.release();
    expect(log).toEqual(["a", "b", "c"]);
    c.release();
    expect(pool.counts).toEqual({ idle: 0, active: 1, tested: 0, login: 0, waiting: 0 });
  });

  test("is not opened where its time is 0, nor for a waiter who has left", async () => {
    const off = bench.pool({ options: { ...options, reservePoolTimeoutMs: 0 } });
    const pool = bench.pool({ options });
    for (const each of [off, pool]) {
      await new Holder(each).acquired();
      const waiter = new Holder(each).acquire();
      if (each === pool) pool.leave(waiter);
    }
    await bench.clock.advance(60_000);
    expect([off.counts.login, off.counts.active, pool.counts.login, pool.counts.active]).toEqual([0, 1, 0, 1]);
  });
});

describe("the minimum", () => {
  const options = { poolSize: 3, minPoolSize: 2, serverIdleTimeoutMs: 60_000, serverLifetimeMs: 600_000 };

  test("is opened, outlives server_idle_timeout, and is filled again, while somebody is there", async () => {
    let inDemand = true;
    const pool = bench.pool({ options, inDemand: () => inDemand });
    pool.sweep();
    await until("two are idle", () => pool.counts.idle === 2);
    const holders = [1, 2, 3].map(() => new Holder(pool));
    await Promise.all(holders.map((holder) => holder.acquired()));
    for (const holder of holders) holder.release();
    await bench.clock.advance(60_000);
    pool.sweep();
    expect([pool.counts.idle, pool.counters.serversClosed]).toEqual([2, 1]);
    await bench.clock.advance(540_000);
    pool.sweep();
    expect(pool.counts).toMatchObject({ idle: 0, login: 2 });
    await until("two are idle", () => pool.counts.idle === 2);
    expect(pool.unused).toBe(false);
    inDemand = false;
    await bench.clock.advance(60_000);
    pool.sweep();
    expect([pool.counts.idle, pool.unused]).toEqual([0, true]);
  });

  test("is never more than the pool's size, which a reload may change", async () => {
    const pool = bench.pool({ options: { ...options, poolSize: 1 } });
    pool.sweep();
    pool.sweep();
    await until("one is idle", () => pool.counts.idle === 1);
    expect(pool.counters.logins).toBe(1);
    pool.reconfigure({ ...pool.options, poolSize: 3, minPoolSize: 3 });
    await until("three are idle", () => pool.counts.idle === 3);
    pool.reconfigure({ ...pool.options, poolSize: 1, minPoolSize: 0 });
    expect(pool.counts).toMatchObject({ idle: 1, login: 0 });
  });

  test("is left alone for a time where a login has failed; a client is not", async () => {
    const wrong = { kind: "plain", password: "wrong" } as const;
    const pool = bench.pool({ options: { ...options, minPoolSize: 1 }, identity: { user: "locked" }, secret: wrong });
    pool.sweep();
    await until("a refusal", () => pool.counters.loginFailures === 1);
    await bench.clock.advance(REFILL_RETRY_MS - 1);
    pool.sweep();
    expect(pool.counts.login).toBe(0);
    await bench.clock.advance(1);
    pool.sweep();
    expect(pool.counts.login).toBe(1);
    await until("another refusal", () => pool.counters.loginFailures === 2);
    const client = new Holder(pool).acquire();
    expect(await until("the client's refusal", () => client.error)).toMatchObject({ sqlstate: "28P01" });
  });
});

describe("a limit that pools share", () => {
  test("lets an idle server of another pool make room, the one that is unused longest", async () => {
    const pools = limited({ postgres: 2 });
    const mine = pools.pool({ identity: { user: "app" } });
    const yours = pools.pool({ identity: { user: "other" } });
    const elsewhere = pools.pool({ identity: { database: "second" } });
    const first = new Holder(mine);
    const second = new Holder(mine);
    const other = new Holder(elsewhere);
    await Promise.all([first.acquired(), second.acquired(), other.acquired()]);
    const { pid } = await until("a server", () => second.server);
    other.release();
    first.release();
    await bench.clock.advance(10);
    second.release();
    await new Holder(yours).acquired();
    expect([mine.counts.idle, yours.counts.active, elsewhere.counts.idle]).toEqual([1, 1, 1]);
    expect((await new Holder(mine).acquired()).pid).toBe(pid);
  });

  test("leaves a server that is idle only now to its pool, where the pool that wants it has others", async () => {
    const pools = limited({ postgres: 2 });
    const mine = pools.pool();
    const yours = pools.pool({ identity: { user: "other" } });
    const holder = new Holder(mine);
    await Promise.all([holder.acquired(), new Holder(yours).acquired()]);
    const waiter = new Holder(yours).acquire();
    await bench.clock.advance(1_000);
    holder.release();
    expect([mine.counts.idle, yours.counts.login]).toEqual([1, 0]);
    await bench.clock.advance(CEDE_AFTER_MS - 1);
    expect(holder.acquire().server).not.toBeNull();
    holder.release();
    await bench.clock.advance(2 * CEDE_AFTER_MS);
    expect([mine.size, yours.size]).toEqual([0, 2]);
    await until("it is served", () => waiter.server);
  });

  test("makes a pool wait where all are in use, until one is given back, and says so", async () => {
    const pools = limited({}, { app: 1 });
    const mine = pools.pool();
    const yours = pools.pool({ identity: { database: "second" } });
    const holder = new Holder(mine);
    await holder.acquired();
    const waiter = new Holder(yours).acquire();
    expect(yours.counts).toMatchObject({ login: 0, waiting: 1 });
    expect(yours.obstacle).toBe('max_user_connections is 1 for "app", and all are in use.');
    holder.release();
    expect([mine.size, yours.counts.login]).toEqual([0, 1]);
    await until("the other pool serves", () => waiter.server);
    expect(await waiter.ask("SELECT current_database()")).toEqual([["second"]]);
  });

  test("is not exceeded by the minimum, which closes nobody's server", async () => {
    const pools = limited({ postgres: 2 });
    const mine = pools.pool();
    const holder = new Holder(mine);
    await holder.acquired();
    holder.release();
    const yours = pools.pool({ identity: { user: "other" }, options: { minPoolSize: 2 } });
    yours.sweep();
    yours.sweep();
    await until("one is idle", () => yours.counts.idle === 1);
    expect([mine.counts.idle, yours.size]).toEqual([1, 1]);
  });

  test("starves no pool: one that has nothing gets a server of one whose clients never stop coming", async () => {
    const pools = limited({ postgres: 1 });
    const busy = pools.pool();
    const poor = pools.pool({ identity: { user: "other" } });
    let holder = new Holder(busy);
    await holder.acquired();
    const waiter = new Holder(poor).acquire();
    const next = (): void => {
      const following = new Holder(busy).acquire();
      holder.release();
      holder = following;
    };
    await bench.clock.advance(CEDE_AFTER_MS - 1);
    next();
    expect([holder.server === null, poor.size]).toEqual([false, 0]);
    await bench.clock.advance(1);
    next();
    expect([holder.server, busy.size, poor.counts.login]).toEqual([null, 0, 1]);
    await until("the poor one is served", () => waiter.server);
    waiter.release();
    await until("the busy one goes on", () => holder.server);
    expect([busy.size, poor.size]).toEqual([1, 0]);
  });

  test("that a reload lowers is kept as soon as servers come back", async () => {
    const pools = limited({ postgres: 3 });
    const pool = pools.pool({ options: { poolSize: 3 } });
    const holders = [1, 2, 3].map(() => new Holder(pool));
    await Promise.all(holders.map((holder) => holder.acquired()));
    holders[0]?.release();
    pools.quotas.reconfigure({ database: () => 1, user: () => 0 });
    expect(pool.size).toBe(2);
    holders[1]?.release();
    expect(pool.size).toBe(1);
    holders[2]?.release();
    expect(pool.counts).toMatchObject({ idle: 1, active: 0 });
    const waiters = [1, 2].map(() => new Holder(pool).acquire());
    expect(pool.counts).toMatchObject({ active: 1, login: 0, waiting: 1 });
    pools.quotas.reconfigure({ database: () => 0, user: () => 0 });
    await until("the other is served", () => waiters[1]?.server);
  });
});

describe("a server that was unused for long", () => {
  test("is asked whether it answers, before it is lent; one that does not is replaced by the next", async () => {
    const pool = bench.pool();
    const [old, newer] = [new Holder(pool), new Holder(pool)];
    const pids = [(await old.acquired()).pid, (await newer.acquired()).pid];
    old.release();
    newer.release();
    await bench.clock.advance(29_999);
    const quick = new Holder(pool).acquire();
    expect(quick.server?.pid).toBe(pids[1]);
    quick.release();
    await bench.clock.advance(30_000);
    process.kill(pids[1] ?? 0, "SIGSTOP");
    try {
      const waiter = new Holder(pool).acquire();
      expect(pool.counts).toMatchObject({ idle: 1, tested: 1, waiting: 1, login: 0 });
      await bench.clock.advance(RESET_TIMEOUT_MS);
      expect((await until("the other server", () => waiter.server)).pid).toBe(pids[0]);
      expect([pool.counters.logins, pool.counters.serversClosed]).toEqual([2, 1]);
    } finally {
      process.kill(pids[1] ?? 0, "SIGCONT");
    }
  });

  test.each([
    ["an error", "SELECT 1/0"],
    ["a transaction", "BEGIN"],
    ["its end", "SELECT pg_terminate_backend(pg_backend_pid())"],
  ])("and answers with %s is closed", async (_what, serverCheckQuery) => {
    const pool = bench.pool({ options: { serverCheckQuery, serverCheckDelayMs: 0 } });
    const holder = new Holder(pool);
    const { pid } = await holder.acquired();
    holder.release();
    expect((await new Holder(pool).acquired()).pid).not.toBe(pid);
    expect(pool.counters.logins).toBe(2);
  });

  test.each([
    ["an empty query", ""],
    ["nothing", null],
  ])("may be asked %s", async (_what, serverCheckQuery) => {
    const pool = bench.pool({ options: { serverCheckQuery, serverCheckDelayMs: 0 } });
    const holder = new Holder(pool);
    const { pid } = await holder.acquired();
    holder.release();
    const next = new Holder(pool).acquire();
    expect(next.server === null).toBe(serverCheckQuery !== null);
    expect((await until("a server", () => next.server)).pid).toBe(pid);
  });
});

test("idle servers take turns under server_round_robin", async () => {
  const pool = bench.pool({ options: { serverRoundRobin: true } });
  const [first, second] = [new Holder(pool), new Holder(pool)];
  const pids = [(await first.acquired()).pid, (await second.acquired()).pid];
  first.release();
  second.release();
  const seen: (number | undefined)[] = [];
  for (let round = 0; round < 4; round += 1) {
    const holder = new Holder(pool).acquire();
    seen.push(holder.server?.pid);
    holder.release();
  }
  expect(seen).toEqual([...pids, ...pids]);
});

test("server_reset_query_always resets after each transaction", async () => {
  const pool = bench.pool({ options: { poolSize: 1, serverResetQueryAlways: true } });
  const holder = new Holder(pool);
  await holder.acquired();
  const usual = await holder.ask("SHOW work_mem");
  await holder.ask("SET work_mem = '12MB'");
  holder.release("transaction");
  expect(pool.counts.tested).toBe(1);
  await holder.acquired();
  expect(await holder.ask("SHOW work_mem")).toEqual(usual);
  expect(pool.counters.logins).toBe(1);
});

test.each<[string, number, boolean]>([
  ["DISCARD ALL", 0, false],
  ["RESET ALL", 1, false],
  ["DEALLOCATE ALL", 0, true],
  ["SELECT 1", 1, true],
])("of the session that %s leaves it is known what is still there", async (serverResetQuery, statements, set) => {
  const pool = bench.pool({ options: { poolSize: 1, serverResetQuery } });
  const holder = new Holder(pool);
  const server = await holder.acquired();
  await holder.ask("PREPARE one AS SELECT 1");
  const one = new Preparation(new Statement("one", Buffer.alloc(0)), true);
  server.statements.end(server.statements.preparing(one), true);
  const wanted = SettingsSet.of([["work_mem", "12MB"]]);
  server.bringSettingsTo(wanted);
  await holder.ask("SELECT 1");
  holder.release("session");
  await holder.acquired();
  expect([server.statements.size, server.settings.equals(wanted)]).toEqual([statements, set]);
  expect(await holder.ask("SELECT count(*) FROM pg_prepared_statements")).toEqual([[String(statements)]]);
  expect((await holder.ask("SHOW work_mem"))[0]?.[0] === "12MB").toBe(set);
});

test("a role that RESET ALL leaves behind is undone for the next client", async () => {
  const pool = bench.pool({ options: { poolSize: 1, serverResetQuery: "RESET ALL" } });
  const holder = new Holder(pool);
  const server = await holder.acquired();
  server.bringSettingsTo(SettingsSet.of([["role", "other"]]));
  expect(await holder.ask("SELECT current_user")).toEqual([["other"]]);
  holder.release("session");
  await holder.acquired();
  server.bringSettingsTo(SettingsSet.empty);
  expect(await holder.ask("SELECT current_user")).toEqual([["app"]]);
});

describe("connect_query", () => {
  test("is run before a server is lent, and again after a reset", async () => {
    const connectQuery = "SET search_path = mine; CREATE TEMPORARY TABLE here (id int)";
    const pool = bench.pool({ options: { poolSize: 1 }, connectQuery });
    const holder = new Holder(pool);
    for (let round = 0; round < 2; round += 1) {
      const server = await holder.acquired();
      expect(await holder.ask("SHOW search_path")).toEqual([["mine"]]);
      expect(await holder.ask("SELECT count(*) FROM here")).toEqual([["0"]]);
      expect(server.settings.size).toBe(0);
      holder.release("session");
    }
    expect(pool.counters.logins).toBe(1);
  });

  test("that fails is told to who waits, in PostgreSQL's words, and the server is closed", async () => {
    const pool = bench.pool({ connectQuery: "SELECT no_such_function()" });
    const waiters = [1, 2].map(() => new Holder(pool).acquire());
    for (const waiter of waiters) {
      const error = await until("the refusal", () => waiter.error);
      expect(error).toMatchObject({ sqlstate: "42883", message: "function no_such_function() does not exist" });
    }
    await until("nothing is left", () => pool.size === 0);
    const open = bench.pool({ connectQuery: "BEGIN" });
    const waiter = new Holder(open).acquire();
    expect(await until("the refusal", () => waiter.error)).toMatchObject({ sqlstate: "25001" });
  });

  test("that costs the connection is tried again, without haste", async () => {
    const pool = bench.pool({ connectQuery: "SELECT pg_terminate_backend(pg_backend_pid())" });
    const waiter = new Holder(pool).acquire();
    await until("a server is lost", () => pool.counters.serversClosed === 1);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect([pool.counters.logins, pool.counts.login, pool.counts.waiting, waiter.error]).toEqual([1, 0, 1, null]);
    await bench.clock.advance(1_000);
    await until("another is lost", () => pool.counters.serversClosed === 2);
  });
});
