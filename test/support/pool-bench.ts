// Pools in tests: made against one server with the test's own clock, and a client as a pool sees it.

import { randomBytes } from "node:crypto";
import { serialize } from "pg-protocol";
import { ScramDerivations } from "../../src/auth/scram.ts";
import type { Secret } from "../../src/auth/secret.ts";
import type { ProxyError } from "../../src/core/errors.ts";
import { silentLogger } from "../../src/core/logger.ts";
import type { ServerHolder } from "../../src/pool/holder.ts";
import type { LossCause } from "../../src/pool/loss.ts";
import { Pool } from "../../src/pool/pool.ts";
import type { PoolIdentity, PoolOptions, Waiter } from "../../src/pool/pool-terms.ts";
import { type QuotaLimits, Quotas } from "../../src/pool/quotas.ts";
import type { Server } from "../../src/pool/server.ts";
import { decodeDataRow, type ErrorFields } from "../../src/protocol/messages.ts";
import { FakeClock } from "./fake-clock.ts";
import { waitFor } from "./time.ts";

/** Waits, in real time, for what a real server does. */
export const until = async <T>(what: string, look: () => T | null | undefined | false): Promise<T> =>
  waitFor(look, { timeoutMs: 15_000, intervalMs: 2, what });

const options: PoolOptions = {
  poolSize: 2,
  minPoolSize: 0,
  reservePoolSize: 0,
  reservePoolTimeoutMs: 5_000,
  waitQueueMax: 10,
  serverIdleTimeoutMs: 60_000,
  serverLifetimeMs: 600_000,
  serverConnectTimeoutMs: 5_000,
  serverLoginRetryMs: 1_000,
  keepAlive: null,
  serverResetQuery: "DISCARD ALL",
  serverResetQueryAlways: false,
  serverCheckQuery: "select 1",
  serverCheckDelayMs: 30_000,
  serverRoundRobin: false,
};

/** No limits. */
const boundless: QuotaLimits = { database: () => 0, user: () => 0 };

interface Changes {
  readonly options?: Partial<PoolOptions>;
  readonly identity?: Partial<PoolIdentity>;
  readonly secret?: Secret;
  readonly connectQuery?: string;
  /** Hears that a server has refused the secret. */
  readonly refused?: () => void;
  readonly inDemand?: () => boolean;
}

/** The pools of one test, with its clock. */
export class PoolBench {
  readonly clock = new FakeClock();
  /** What the pools told of their member. */
  readonly observed: string[] = [];
  readonly quotas: Quotas;
  readonly #pools: Pool[] = [];
  readonly #port: number;

  constructor(port: number, limits: QuotaLimits = boundless) {
    this.#port = port;
    this.quotas = new Quotas(this.clock, limits);
  }

  /** A pool for writes of user `app`, but for `changes`. */
  pool(changes: Changes = {}): Pool {
    const endpoint = { member: "node1", host: "127.0.0.1", port: this.#port };
    const database = changes.identity?.database ?? "postgres";
    const usual = { endpoint, database, dbname: database, user: "app", purpose: "write", epoch: 1 } as const;
    const login = {
      secret: changes.secret ?? null,
      tls: { kind: "off" },
      random: randomBytes,
      derivations: new ScramDerivations(),
      connectQuery: changes.connectQuery ?? null,
      refused: changes.refused ?? (() => {}),
    } as const;
    const identity = { ...usual, ...changes.identity };
    const pool = new Pool(
      this.clock,
      silentLogger,
      this.quotas,
      identity,
      { login: () => login, inDemand: changes.inDemand ?? (() => true) },
      { ...options, ...changes.options },
      {
        loggedIn: (_pool, _parameters, inRecovery) => this.observed.push(`recovery ${inRecovery}`),
        failed: () => this.observed.push("failed"),
      },
    );
    this.#pools.push(pool);
    return pool;
  }

  fence(): void {
    for (const pool of this.#pools) pool.fence("the test is over");
  }
}

/** A client as the pool sees it: waits, holds, asks, gives back. */
export class Holder implements Waiter, ServerHolder {
  readonly pool: Pool;
  readonly name: string;
  readonly log: string[];
  readonly allSent = true;
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
  refusesTransaction(): boolean {
    return false;
  }
  ready(): void {
    this.#ready += 1;
  }
  ownRequestFailed(fields: ErrorFields): void {
    this.ownFailure = fields;
  }
  flushReplies(): void {}
  serverDrained(): void {}

  readonly session = {
    parameterChanged: () => true,
    parameterRestored: () => false,
    failed: () => null,
    commandDone: () => {},
  };

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
