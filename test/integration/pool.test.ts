// A pool and its servers against a real PostgreSQL, with time in the test's hands: who gets a server, when, and how clean it is.

import { randomBytes } from "node:crypto";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { serialize } from "pg-protocol";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ScramDerivations } from "../../src/auth/scram.ts";
import type { Secret } from "../../src/auth/secret.ts";
import type { ProxyError } from "../../src/core/errors.ts";
import { RESET_TIMEOUT_MS } from "../../src/core/limits.ts";
import { silentLogger } from "../../src/core/logger.ts";
import { Pool, type PoolIdentity, type PoolOptions, type Waiter } from "../../src/pool/pool.ts";
import type { LossCause, Server, ServerHolder } from "../../src/pool/server.ts";
import { SettingsSet } from "../../src/pool/settings.ts";
import { decodeDataRow, type ErrorFields } from "../../src/protocol/messages.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

let postgres: Postgres;
let clock: FakeClock;
let pools: Pool[];
/** What the pools told of their member. */
let observed: string[];

const until = async <T>(what: string, look: () => T | null | undefined | false): Promise<T> =>
  waitFor(look, { timeoutMs: 15_000, intervalMs: 2, what });

const options: PoolOptions = {
  defaultPoolSize: 2,
  waitQueueMax: 10,
  serverIdleTimeoutMs: 60_000,
  serverLifetimeMs: 600_000,
  serverConnectTimeoutMs: 5_000,
  serverLoginRetryMs: 1_000,
  serverResetQuery: "DISCARD ALL",
};

interface Changes {
  readonly options?: Partial<PoolOptions>;
  readonly identity?: Partial<PoolIdentity>;
  readonly secret?: Secret;
}

function makePool(changes: Changes = {}): Pool {
  const endpoint = { member: "node1", host: "127.0.0.1", port: postgres.port };
  const identity = {
    endpoint,
    database: "postgres",
    user: "app",
    purpose: "write",
    epoch: 1,
    ...changes.identity,
  } as const;
  const login = {
    secret: changes.secret ?? null,
    tls: { kind: "off" },
    random: randomBytes,
    derivations: new ScramDerivations(),
  } as const;
  const pool = new Pool(
    clock,
    silentLogger,
    identity,
    login,
    { ...options, ...changes.options },
    {
      loggedIn: (_pool, _parameters, inRecovery) => observed.push(`recovery ${inRecovery}`),
      failed: () => observed.push("failed"),
    },
  );
  pools.push(pool);
  return pool;
}

/** A client as the pool sees it: waits, holds, asks, gives back. */
class Holder implements Waiter, ServerHolder {
  readonly pool: Pool;
  readonly name: string;
  readonly log: string[];
  server: Server | null = null;
  error: ProxyError | null = null;
  cause: LossCause | null = null;
  evictions = 0;
  ownFailure: ErrorFields | null = null;
  #replies: Buffer[] = [];
  #ready = 0;

  constructor(pool: Pool, name = "", log: string[] = []) {
    this.pool = pool;
    this.name = name;
    this.log = log;
  }

  acquire(): this {
    const server = this.pool.acquire(this);
    if (server !== null) this.granted(server);
    return this;
  }

  async acquired(): Promise<Server> {
    this.acquire();
    return until(`${this.name} has a server`, () => this.server);
  }

  granted(server: Server): void {
    server.lend(this);
    this.server = server;
    this.log.push(this.name);
  }
  refused(error: ProxyError): void {
    this.error = error;
    this.log.push(`${this.name} refused`);
  }
  evicted(): void {
    this.evictions += 1;
  }

  reply(buffer: Buffer, start: number, end: number): void {
    this.#replies.push(Buffer.from(buffer.subarray(start, end)));
  }
  parameterChanged(): boolean {
    return true;
  }
  ready(): void {
    this.#ready += 1;
  }
  ownRequestFailed(fields: ErrorFields): void {
    this.ownFailure = fields;
  }
  flushReplies(): void {}
  serverDrained(): void {}
  lost(cause: LossCause): void {
    this.cause = cause;
    this.release();
  }

  send(...messages: Buffer[]): void {
    const { server } = this;
    if (server === null) throw new Error("has no server");
    for (const message of messages) {
      server.exchange.request(message[0] ?? 0);
      server.add(message, 0, message.length);
    }
    server.flush();
  }

  /** Pieces of answers since the last question. */
  get answers(): number {
    return this.#replies.length;
  }

  /** Runs SQL and returns its rows. */
  async ask(sql: string): Promise<(string | null)[][]> {
    this.#replies = [];
    const before = this.#ready;
    this.send(serialize.query(sql));
    await until(`an answer to ${sql}`, () => this.#ready > before);
    const bytes = Buffer.concat(this.#replies);
    const rows: (string | null)[][] = [];
    for (let at = 0; at < bytes.length; at += 1 + bytes.readInt32BE(at + 1)) {
      const end = at + 1 + bytes.readInt32BE(at + 1);
      if (bytes[at] === "D".charCodeAt(0)) rows.push(decodeDataRow(bytes, at + 5, end));
    }
    return rows;
  }

  release(mode: "transaction" | "session" = "transaction"): void {
    const { server } = this;
    this.server = null;
    if (server !== null) this.pool.release(server, mode);
  }
}

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
  clock = new FakeClock();
  pools = [];
  observed = [];
});

afterEach(async () => {
  for (const pool of pools) pool.fence("the test is over");
  await waitFor(async () => (await backends()) === 0, { timeoutMs: 10_000, what: "PostgreSQL has no client left" });
});

describe("a pool", () => {
  test("opens no more servers than its size, and serves first those who came first", async () => {
    const pool = makePool();
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
    const pool = makePool();
    const first = new Holder(pool);
    const second = new Holder(pool);
    const pids = [(await first.acquired()).pid, (await second.acquired()).pid];
    first.release();
    second.release();
    expect((await new Holder(pool).acquired()).pid).toBe(pids[1]);
    expect(pool.counters.logins).toBe(2);
  });

  test("passes over a waiter who has left", async () => {
    const pool = makePool({ options: { defaultPoolSize: 1 } });
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
    const pool = makePool({ options: { defaultPoolSize: 1, waitQueueMax: 1 } });
    await new Holder(pool).acquired();
    new Holder(pool).acquire();
    expect(new Holder(pool).acquire().error).toMatchObject({ code: "wait_queue_full", sqlstate: "53300" });
    expect(pool.counts.waiting).toBe(1);
  });

  test("closes what is too old or too long unused, and nothing else", async () => {
    const pool = makePool();
    const [old, idle] = [new Holder(pool), new Holder(pool)];
    await old.acquired();
    await idle.acquired();
    idle.release();
    await clock.advance(59_999);
    pool.sweep();
    expect(pool.counts.idle).toBe(1);
    await clock.advance(1);
    pool.sweep();
    expect(pool.counts).toMatchObject({ idle: 0, active: 1 });
    await clock.advance(540_000);
    pool.sweep();
    expect(pool.counts.active).toBe(1);
    old.release();
    expect(pool.counts).toMatchObject({ idle: 0, active: 0 });
    expect(pool.counters.serversClosed).toBe(2);
  });

  test("replaces a server that PostgreSQL ended while it was idle, without anybody noticing", async () => {
    const pool = makePool();
    const holder = new Holder(pool);
    const { pid } = await holder.acquired();
    holder.release();
    await queryOnce(postgres.login, "SELECT pg_terminate_backend($1)", [pid]);
    await until("it is gone", () => pool.counts.idle === 0);
    expect((await new Holder(pool).acquired()).pid).not.toBe(pid);
    expect(observed).toContain("failed");
  });
});

describe("a server that is given back", () => {
  test("inside a transaction is rolled back before the next one gets it", async () => {
    const pool = makePool({ options: { defaultPoolSize: 1 } });
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
    const pool = makePool({ options: { defaultPoolSize: 1 } });
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
    const pool = makePool({ options: { defaultPoolSize: 1 } });
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
    const pool = makePool({ options: { defaultPoolSize: 1 } });
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
    const pool = makePool({ options: { defaultPoolSize: 1 } });
    const holder = new Holder(pool);
    const { pid } = await holder.acquired();
    await holder.ask("BEGIN");
    process.kill(pid, "SIGSTOP");
    try {
      holder.release();
      const next = new Holder(pool).acquire();
      await clock.advance(RESET_TIMEOUT_MS - 1);
      expect([next.server, pool.counts.tested]).toEqual([null, 1]);
      await clock.advance(1);
      expect((await until("a new server", () => next.server)).pid).not.toBe(pid);
    } finally {
      process.kill(pid, "SIGCONT");
    }
  });

  test("is not lent while a cancel request is on its way to it", async () => {
    const pool = makePool({ options: { defaultPoolSize: 1 } });
    const holder = new Holder(pool);
    const server = await holder.acquired();
    server.cancelsInFlight = 1;
    holder.release();
    expect((await new Holder(pool).acquired()).pid).not.toBe(server.pid);
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
      const pool = makePool({ options: { defaultPoolSize: 1 } });
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
    const pool = makePool({ options: { defaultPoolSize: 1 } });
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
    const pool = makePool();
    const holder = new Holder(pool);
    (await holder.acquired()).bringSettingsTo(SettingsSet.of([["DateStyle", "nonsense"]]));
    holder.send(serialize.query("SELECT 1"));
    expect(await until("the refusal", () => holder.ownFailure)).toMatchObject({ sqlstate: "22023" });
  });
});

describe("a fence", () => {
  test("closes every server at once, tells who held them, and sends who waits elsewhere", async () => {
    const pool = makePool();
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
    expect(observed.filter((line) => line === "failed")).toEqual([]);
    await queryOnce(postgres.login, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'");
  });

  test("ends a login that is under way, and no other begins", async () => {
    const pool = makePool();
    const waiter = new Holder(pool).acquire();
    expect(pool.counts.login).toBe(1);
    pool.fence("deposed");
    expect([waiter.evictions, pool.counts.login]).toEqual([1, 0]);
    await clock.advance(60_000);
    expect([waiter.server, pool.counters.logins]).toEqual([null, 0]);
  });
});

describe("a login", () => {
  test("that PostgreSQL refuses for good is told to everybody who waits, in PostgreSQL's words", async () => {
    const pool = makePool({ identity: { user: "locked" }, secret: { kind: "plain", password: "wrong" } });
    const waiters = [1, 2, 3].map(() => new Holder(pool).acquire());
    for (const waiter of waiters) {
      expect(await until("the refusal", () => waiter.error)).toMatchObject({
        sqlstate: "28P01",
        severity: "FATAL",
        message: 'password authentication failed for user "locked"',
      });
    }
    await until("all logins are over", () => pool.unused);
    const right = makePool({ identity: { user: "locked" }, secret: { kind: "plain", password: "right" } });
    const holder = new Holder(right);
    await holder.acquired();
    expect(await holder.ask("SELECT current_user")).toEqual([["locked"]]);
  });

  test.each([
    ["an unknown database", { database: "nowhere" }, "3D000"],
    ["an unknown role", { user: "nobody" }, "28000"],
  ])("with %s is refused with PostgreSQL's own SQLSTATE", async (_name, identity, sqlstate) => {
    const waiter = new Holder(makePool({ identity })).acquire();
    expect(await until("the refusal", () => waiter.error)).toMatchObject({ sqlstate });
  });

  test("that finds too many connections is tried again until there is room", async () => {
    await queryOnce(postgres.login, "ALTER ROLE app CONNECTION LIMIT 0");
    try {
      const pool = makePool();
      const waiter = new Holder(pool).acquire();
      await until("a failure", () => pool.counters.loginFailures > 0);
      expect([waiter.error, pool.counts.waiting]).toEqual([null, 1]);
      await queryOnce(postgres.login, "ALTER ROLE app CONNECTION LIMIT -1");
      await until("success", () => {
        void clock.advance(1_000);
        return waiter.server;
      });
    } finally {
      await queryOnce(postgres.login, "ALTER ROLE app CONNECTION LIMIT -1");
    }
  });

  test("that nobody answers is tried again until the server comes, and the wait is kept", async () => {
    await postgres.stop();
    const pool = makePool();
    const waiter = new Holder(pool).acquire();
    try {
      for (let failures = 1; failures <= 3; failures += 1) {
        await until("a failure", () => pool.counters.loginFailures === failures && pool.counts.login === 0);
        expect([waiter.error, pool.counts.waiting]).toEqual([null, 1]);
        await clock.advance(1_000);
      }
      expect(observed.filter((line) => line === "failed").length).toBeGreaterThanOrEqual(3);
    } finally {
      await postgres.start();
    }
    await until("a server", () => {
      void clock.advance(1_000);
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
    const writes = makePool();
    const writer = new Holder(writes).acquire();
    await until("a login", () => observed.includes("recovery true") && writes.counts.login === 0);
    expect([writer.server, writer.error, writes.counts.waiting]).toEqual([null, null, 1]);
    // One login a step of the backoff: the next only when its time has come.
    const logins = writes.counters.logins;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect([writes.counters.logins, writes.counts.login]).toEqual([logins, 0]);
    expect(logins).toBe(1);

    const reader = new Holder(makePool({ identity: { purpose: "read", epoch: 0 } }));
    const replica = await reader.acquired();
    expect(replica.parameters.get("in_hot_standby")).toBe("on");
    expect(await reader.ask("SELECT pg_is_in_recovery()")).toEqual([["t"]]);

    await queryOnce(postgres.login, "SELECT pg_promote()", [], 20_000);
    const server = await until("a writable server", () => {
      void clock.advance(1_000);
      return writer.server;
    });
    expect(server.parameters.get("in_hot_standby")).toBe("off");
    expect(await writer.ask("INSERT INTO t VALUES (1) RETURNING id; DELETE FROM t")).toEqual([["1"]]);
  });
});
