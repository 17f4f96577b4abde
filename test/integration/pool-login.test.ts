// A pool's logins against a real PostgreSQL: what is refused for good, what is tried again, and what a server in recovery is worth.

import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
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
  postgres = await startPostgres("pool-login", [
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

describe("a login", () => {
  test("that PostgreSQL refuses for good is told to everybody who waits, in PostgreSQL's words", async () => {
    let refusals = 0;
    const pool = bench.pool({
      identity: { user: "locked" },
      secret: { kind: "plain", password: "wrong" },
      refused: () => {
        refusals += 1;
      },
    });
    const waiters = [1, 2, 3].map(() => new Holder(pool).acquire());
    for (const waiter of waiters) {
      expect(await until("the refusal", () => waiter.error)).toMatchObject({
        sqlstate: "28P01",
        severity: "FATAL",
        message: 'password authentication failed for user "locked"',
      });
    }
    await until("all logins are over", () => pool.unused);
    // Whose secret it is hears of it, once for each login, and nothing is tried again by itself.
    const failures = pool.counters.loginFailures;
    expect([failures > 0, refusals]).toEqual([true, failures]);
    await bench.clock.advance(60_000);
    expect([pool.counts.login, pool.counters.loginFailures]).toEqual([0, failures]);
    const right = bench.pool({ identity: { user: "locked" }, secret: { kind: "plain", password: "right" } });
    const holder = new Holder(right);
    await holder.acquired();
    expect(await holder.ask("SELECT current_user")).toEqual([["locked"]]);
  });

  test.each([
    ["an unknown database", { database: "nowhere" }, "3D000"],
    ["an unknown role", { user: "nobody" }, "28000"],
  ])("with %s is refused with PostgreSQL's own SQLSTATE", async (_name, identity, sqlstate) => {
    const waiter = new Holder(bench.pool({ identity })).acquire();
    expect(await until("the refusal", () => waiter.error)).toMatchObject({ sqlstate });
  });

  test("that finds too many connections is tried again until there is room", async () => {
    await queryOnce(postgres.login, "ALTER ROLE app CONNECTION LIMIT 0");
    try {
      const pool = bench.pool();
      const waiter = new Holder(pool).acquire();
      await until("a failure", () => pool.counters.loginFailures > 0);
      expect([waiter.error, pool.counts.waiting]).toEqual([null, 1]);
      await queryOnce(postgres.login, "ALTER ROLE app CONNECTION LIMIT -1");
      await until("success", () => {
        void bench.clock.advance(1_000);
        return waiter.server;
      });
    } finally {
      await queryOnce(postgres.login, "ALTER ROLE app CONNECTION LIMIT -1");
    }
  });

  test("that nobody answers is tried again until the server comes, and the wait is kept", async () => {
    await postgres.stop();
    const pool = bench.pool();
    const waiter = new Holder(pool).acquire();
    try {
      for (let failures = 1; failures <= 3; failures += 1) {
        await until("a failure", () => pool.counters.loginFailures === failures && pool.counts.login === 0);
        expect([waiter.error, pool.counts.waiting]).toEqual([null, 1]);
        expect(pool.obstacle).toMatch(/^The login to the server failed: connect ECONNREFUSED .*\.$/);
        await bench.clock.advance(1_000);
      }
      expect(bench.observed.filter((line) => line === "failed").length).toBeGreaterThanOrEqual(3);
    } finally {
      await postgres.start();
    }
    await until("a server", () => {
      void bench.clock.advance(1_000);
      return waiter.server;
    });
    expect(waiter.error).toBeNull();
  });
});

describe("a server in recovery", () => {
  test("is refused by a pool for writes until it is promoted, without haste, and taken by one for reads", async () => {
    await postgres.stop();
    const signal = join(postgres.directory, "standby.signal");
    writeFileSync(signal, "");
    chmodSync(signal, 0o666);
    await postgres.start();
    const writes = bench.pool();
    const writer = new Holder(writes).acquire();
    await until("a login", () => bench.observed.includes("recovery true") && writes.counts.login === 0);
    expect([writer.server, writer.error, writes.counts.waiting]).toEqual([null, null, 1]);
    // One login a step of the backoff: the next only when its time has come.
    const logins = writes.counters.logins;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect([writes.counters.logins, writes.counts.login]).toEqual([logins, 0]);
    expect(logins).toBe(1);

    const reader = new Holder(bench.pool({ identity: { purpose: "read", epoch: 0 } }));
    const replica = await reader.acquired();
    expect(replica.parameters.get("in_hot_standby")).toBe("on");
    expect(await reader.ask("SELECT pg_is_in_recovery()")).toEqual([["t"]]);

    await queryOnce(postgres.login, "SELECT pg_promote()", [], 20_000);
    const server = await until("a writable server", () => {
      void bench.clock.advance(1_000);
      return writer.server;
    });
    expect(server.parameters.get("in_hot_standby")).toBe("off");
    expect(await writer.ask("INSERT INTO t VALUES (1) RETURNING id; DELETE FROM t")).toEqual([["1"]]);
  });
});
