// What a pool is told and what it tells: its settings, its identity, how it logs in, who waits for it, who hears of it.

import type { ServerSecret } from "../auth/proven-keys.ts";
import type { ScramDerivations } from "../auth/scram.ts";
import type { ServerTls } from "../auth/tls-options.ts";
import type { ProxyError } from "../core/errors.ts";
import type { KeepAlive } from "../core/keepalive.ts";
import type { Endpoint } from "./login-facts.ts";
import type { Pool } from "./pool.ts";
import type { Server } from "./server.ts";

/** Settings of a pool, under PgBouncer's names in the configuration. Times in ms, 0 for "never". */
export interface PoolOptions {
  readonly poolSize: number;
  /** Servers that are kept open where the pool is in demand; never more than `poolSize`. */
  readonly minPoolSize: number;
  /** Servers beyond `poolSize`, for those who have waited `reservePoolTimeoutMs`; 0: none. */
  readonly reservePoolSize: number;
  readonly reservePoolTimeoutMs: number;
  readonly waitQueueMax: number;
  readonly serverIdleTimeoutMs: number;
  readonly serverLifetimeMs: number;
  readonly serverConnectTimeoutMs: number;
  readonly serverLoginRetryMs: number;
  /** Null: connections are not probed. */
  readonly keepAlive: KeepAlive | null;
  /** Sent when a session ends; empty for none. */
  readonly serverResetQuery: string;
  /** Whether it is sent at the end of each transaction, too. */
  readonly serverResetQueryAlways: boolean;
  /** Asked of a server that was unused for `serverCheckDelayMs` before it is lent; empty: an empty query; null: nothing. */
  readonly serverCheckQuery: string | null;
  readonly serverCheckDelayMs: number;
  /** Whether idle servers take turns; otherwise the one that was used last is lent first. */
  readonly serverRoundRobin: boolean;
}

/** Where clients of one database and user are led. */
export interface Place {
  /** The name by which clients ask for the database. */
  readonly database: string;
  /** The database's name in PostgreSQL. */
  readonly dbname: string;
  /** The role that logs in there. */
  readonly user: string;
}

/** Of a pool that serves one client alone: its server is logged in as the client asks, and closed when the client leaves it. */
export interface Dedicated {
  /** The client's number. */
  readonly client: number;
  /** Startup parameters beyond user and database. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** What distinguishes one pool from another. */
export interface PoolIdentity extends Place {
  readonly endpoint: Endpoint;
  /** `write`: its servers must be out of recovery; `read`: they may be anything. */
  readonly purpose: "write" | "read";
  /** Sequence of the leadership under which its write connections serve; EARLY before there is any, 0 for reads. */
  readonly epoch: number;
  /** Absent: it serves whoever comes. */
  readonly dedicated?: Dedicated;
}

/** Of a pool for writes whose gate is still shut: it opens servers, and lends none before it has an epoch. */
export const EARLY = 0;

/** Whether the pool gets ready for a leader that does not take writes yet. */
export const isEarly = ({ purpose, epoch }: PoolIdentity): boolean => purpose === "write" && epoch === EARLY;

/** How a pool logs in to its servers. */
export interface PoolLogin {
  readonly secret: ServerSecret | null;
  /** The server has refused the secret. */
  readonly refused?: () => void;
  readonly tls: ServerTls;
  readonly random: (bytes: number) => Buffer;
  readonly derivations: ScramDerivations;
  /** Run on each new server, and again after a reset query, before it is lent; null: nothing. */
  readonly connectQuery: string | null;
}

/** What a pool lives on. */
export interface PoolSupply {
  /** Asked anew for each login: passwords change. */
  login(): PoolLogin;
  /** Whether somebody is there for whom `minPoolSize` servers are to be kept. */
  inDemand(): boolean;
}

/** Who waits for a server. Exactly one of the calls ends a wait. */
export interface Waiter {
  granted(server: Server): void;
  refused(error: ProxyError): void;
  /** The pool was fenced: wait elsewhere. */
  evicted(): void;
}

/** What a pool learns about its member in passing. */
export interface PoolObserver {
  loggedIn(pool: Pool, parameters: ReadonlyMap<string, string>, inRecovery: boolean | null): void;
  failed(pool: Pool, reason: string): void;
}

/** Counters since the start. */
export interface PoolCounters {
  logins: number;
  loginFailures: number;
  serversClosed: number;
  leases: number;
}
