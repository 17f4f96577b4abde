// The servers of one member, database, user and purpose. Lends them, oldest waiter first, opens new ones up to the pool's size,
// and takes back only clean ones. Knows nothing of topology: its owner fences it when the member is no longer what it was.

import type { ScramDerivations } from "../auth/scram.ts";
import type { Secret } from "../auth/secret.ts";
import type { ServerTls } from "../auth/tls-options.ts";
import { assert } from "../core/assert.ts";
import { Backoff } from "../core/backoff.ts";
import type { Clock, Timer } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import { LOGIN_RETRY_INITIAL_MS, RESET_TIMEOUT_MS } from "../core/limits.ts";
import type { Logger } from "../core/logger.ts";
import { millis } from "../core/units.ts";
import { TransactionStatus } from "../protocol/constants.ts";
import type { Transport } from "../protocol/transport.ts";
import { isShutdown, type LossCause, memberIsGoing } from "./loss.ts";
import { type Endpoint, Server, type ServerOwner } from "./server.ts";
import { type LoginFacts, type LoginFailure, ServerLogin } from "./server-login.ts";
import { WaitQueue } from "./wait-queue.ts";

/** Settings of a pool, under PgBouncer's names in the configuration. Times in ms, 0 for "never". */
export interface PoolOptions {
  readonly defaultPoolSize: number;
  readonly waitQueueMax: number;
  readonly serverIdleTimeoutMs: number;
  readonly serverLifetimeMs: number;
  readonly serverConnectTimeoutMs: number;
  readonly serverLoginRetryMs: number;
  /** Sent when a session ends; empty for none. */
  readonly serverResetQuery: string;
}

/** What distinguishes one pool from another. */
export interface PoolIdentity {
  readonly endpoint: Endpoint;
  readonly database: string;
  readonly user: string;
  /** `write`: its servers must be out of recovery; `read`: they may be anything. */
  readonly purpose: "write" | "read";
  /** Sequence of the leadership under which its write connections were opened; 0 for reads. */
  readonly epoch: number;
}

/** How a pool logs in to its servers. */
export interface PoolLogin {
  readonly secret: Secret | null;
  readonly tls: ServerTls;
  readonly random: (bytes: number) => Buffer;
  readonly derivations: ScramDerivations;
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

export class Pool implements ServerOwner {
  readonly identity: PoolIdentity;
  readonly counters: PoolCounters = { logins: 0, loginFailures: 0, serversClosed: 0, leases: 0 };
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** Asked anew for each login: passwords change. */
  readonly #login: () => PoolLogin;
  #options: PoolOptions;
  readonly #observer: PoolObserver;
  /** Last used first, so that what is not needed grows old. */
  readonly #idle: Server[] = [];
  readonly #active = new Set<Server>();
  readonly #tested = new Set<Server>();
  readonly #logins = new Set<ServerLogin>();
  readonly #waiters: WaitQueue<Waiter>;
  readonly #backoff: Backoff;
  #retry: Timer | null = null;
  #fenced = false;

  constructor(
    clock: Clock,
    logger: Logger,
    identity: PoolIdentity,
    login: () => PoolLogin,
    options: PoolOptions,
    observer: PoolObserver,
  ) {
    this.#clock = clock;
    this.#logger = logger;
    this.identity = identity;
    this.#login = login;
    this.#options = options;
    this.#observer = observer;
    this.#waiters = new WaitQueue(options.waitQueueMax);
    this.#backoff = new Backoff({ initialMs: LOGIN_RETRY_INITIAL_MS, maxMs: options.serverLoginRetryMs });
  }

  /** Connections by state, and who waits. */
  get counts(): { idle: number; active: number; tested: number; login: number; waiting: number } {
    return {
      idle: this.#idle.length,
      active: this.#active.size,
      tested: this.#tested.size,
      login: this.#logins.size,
      waiting: this.#waiters.size,
    };
  }

  /** Connections in its lists. */
  get #size(): number {
    return this.#idle.length + this.#active.size + this.#tested.size + this.#logins.size;
  }

  get unused(): boolean {
    return this.#size + this.#waiters.size === 0;
  }

  /** Takes new settings. Servers that are too many leave as they are released. */
  reconfigure(options: PoolOptions): void {
    this.#options = options;
    this.#waiters.resize(options.waitQueueMax);
    this.#open();
  }

  /** Cut for good: ask for another pool. */
  get fenced(): boolean {
    return this.#fenced;
  }

  /** A server now; or null: the waiter stands in the queue, or has already been refused. The caller lends it to its holder. */
  acquire(waiter: Waiter): Server | null {
    assert(!this.#fenced, "acquired from a fenced pool");
    if (this.#waiters.size === 0) {
      const server = this.#idle.pop();
      if (server !== undefined) return this.#take(server);
    }
    const full = this.#waiters.add(waiter);
    if (full !== null) waiter.refused(full);
    else this.#open();
    return null;
  }

  /** The waiter has lost interest. */
  leave(waiter: Waiter): void {
    this.#waiters.remove(waiter);
  }

  #take(server: Server): Server {
    this.#active.add(server);
    this.counters.leases += 1;
    return server;
  }

  /** Takes a lent server back, clean, dirty or closed: what is not clean is made clean or closed. */
  release(server: Server, mode: "transaction" | "session"): void {
    assert(this.#active.delete(server), "released a server that was not lent");
    if (server.state === "closed") return this.#open();
    if (this.#fenced) return server.close(fencedCause);
    if (!server.exchange.empty || server.midMessage)
      return this.#discard(server, "client left with a request under way");
    if (server.cancelsInFlight > 0) return this.#discard(server, "cancel request under way");
    if (server.status !== TransactionStatus.Idle) return this.#clean(server, "ROLLBACK", mode);
    if (mode === "session" && this.#options.serverResetQuery !== "") {
      return this.#clean(server, this.#options.serverResetQuery, "transaction");
    }
    if (server.state === "active") server.takeBack(this.#clock.now());
    this.#offer(server);
  }

  /** Runs `sql`, within a deadline, then takes the server back as clean. */
  #clean(server: Server, sql: string, next: "transaction" | "session"): void {
    this.#tested.add(server);
    const deadline = this.#clock.after(millis(RESET_TIMEOUT_MS), () => this.#discard(server, "reset took too long"));
    server.run(
      sql,
      () => this.#clock.now(),
      (result) => {
        deadline.cancel();
        this.#tested.delete(server);
        if (server.state === "closed") return;
        if (!result.ok || server.status !== TransactionStatus.Idle) return this.#discard(server, "reset failed");
        if (sql === this.#options.serverResetQuery) server.sessionReset();
        if (next === "session" && this.#options.serverResetQuery !== "") {
          return this.#clean(server, this.#options.serverResetQuery, "transaction");
        }
        this.#offer(server);
      },
    );
  }

  /** An idle server: to the oldest waiter, or to the others that are idle. */
  #offer(server: Server): void {
    if (this.#fenced) return server.close(fencedCause);
    if (this.#expired(server)) this.#discard(server, "server_lifetime");
    else if (this.#size >= this.#options.defaultPoolSize) this.#discard(server, "default_pool_size");
    else {
      const waiter = this.#waiters.shift();
      if (waiter === null) this.#idle.push(server);
      else waiter.granted(this.#take(server));
    }
    if (this.#waiters.size > 0) this.#open();
  }

  #discard(server: Server, reason: string): void {
    server.close({ kind: "ours", reason });
  }

  /** Opens as many connections as there are waiters, up to the size of the pool. */
  #open(): void {
    if (this.#retry !== null || this.#fenced) return;
    let room = this.#options.defaultPoolSize - this.#size;
    let wanted = this.#waiters.size - this.#logins.size;
    while (room > 0 && wanted > 0) {
      room -= 1;
      wanted -= 1;
      this.#startLogin();
    }
  }

  #startLogin(): void {
    const { endpoint, user, database } = this.identity;
    const options = { endpoint, user, database, ...this.#login(), timeoutMs: this.#options.serverConnectTimeoutMs };
    const login = new ServerLogin(this.#clock, options, {
      loggedIn: (transport, facts) => {
        this.#logins.delete(login);
        this.#loggedIn(transport, facts);
      },
      failed: (failure) => {
        this.#logins.delete(login);
        this.#loginFailed(failure);
      },
    });
    this.#logins.add(login);
  }

  #loggedIn(transport: Transport, facts: LoginFacts): void {
    const server = new Server(transport, facts, this);
    this.counters.logins += 1;
    const reported = facts.parameters.get("in_hot_standby");
    if (reported !== undefined) return this.#admit(server, reported === "on");
    // Before PostgreSQL 14 nothing is reported: ask.
    this.#tested.add(server);
    server.run(
      "SELECT pg_catalog.pg_is_in_recovery()",
      () => this.#clock.now(),
      (result) => {
        this.#tested.delete(server);
        if (server.state === "closed") return;
        this.#admit(server, result.ok ? result.row?.[0] === "t" : null);
      },
    );
  }

  /** The gate: a write connection to a server in recovery is none. */
  #admit(server: Server, inRecovery: boolean | null): void {
    this.#observer.loggedIn(this, server.parameters, inRecovery);
    if (this.identity.purpose === "write" && inRecovery !== false) {
      this.#retryLater();
      this.#discard(server, "server is in recovery");
      return;
    }
    this.#backoff.reset();
    this.#offer(server);
  }

  #loginFailed(failure: LoginFailure): void {
    this.counters.loginFailures += 1;
    const { endpoint, user, database } = this.identity;
    this.#logger.warn({ member: endpoint.member, user, database, reason: failure.reason }, "server login failed");
    if (failure.transient) {
      // Too many connections, say, is no sign that the member is going.
      const away = failure.kind === "unreachable" || isShutdown(failure.fields);
      if (away) this.#observer.failed(this, failure.reason);
      this.#retryLater();
      return;
    }
    const error = loginError(failure);
    for (const waiter of this.#waiters.drain()) waiter.refused(error);
  }

  #retryLater(): void {
    if (this.#fenced || this.#retry !== null) return;
    this.#retry = this.#clock.after(this.#backoff.next(), () => {
      this.#retry = null;
      this.#open();
    });
  }

  serverClosed(server: Server, cause: LossCause): void {
    this.counters.serversClosed += 1;
    const at = this.#idle.indexOf(server);
    if (at >= 0) this.#idle.splice(at, 1);
    this.#tested.delete(server);
    // An active one stays listed until its holder, who hears of it next, releases it.
    const { endpoint, user, database } = this.identity;
    const level = cause.kind === "violation" ? "error" : "debug";
    this.#logger[level]({ member: endpoint.member, user, database, reason: cause.reason }, "server connection closed");
    if (memberIsGoing(cause)) this.#observer.failed(this, cause.reason);
    this.#open();
  }

  #expired(server: Server): boolean {
    const { serverLifetimeMs } = this.#options;
    return serverLifetimeMs > 0 && this.#clock.now() - server.loggedInAt >= serverLifetimeMs;
  }

  /** Closes idle servers that are too old or too long unused. */
  sweep(): void {
    const { serverIdleTimeoutMs } = this.#options;
    const now = this.#clock.now();
    for (const server of [...this.#idle]) {
      const unused = serverIdleTimeoutMs > 0 && now - server.idleSince >= serverIdleTimeoutMs;
      if (unused) this.#discard(server, "server_idle_timeout");
      else if (this.#expired(server)) this.#discard(server, "server_lifetime");
    }
  }

  /** Cuts every connection at once, whatever TCP thinks, and sends the waiters elsewhere. For good. */
  fence(reason: string): void {
    if (this.#fenced) return;
    this.#fenced = true;
    this.#retry?.cancel();
    for (const login of this.#logins) login.abort();
    this.#logins.clear();
    const cause: LossCause = { kind: "fenced", reason };
    for (const server of [...this.#idle, ...this.#tested, ...this.#active]) server.close(cause);
    for (const waiter of this.#waiters.drain()) waiter.evicted();
  }

  /** Sends the waiters elsewhere; connections stay. */
  evictWaiters(): void {
    for (const waiter of this.#waiters.drain()) waiter.evicted();
  }
}

const fencedCause: LossCause = { kind: "fenced", reason: "the member was deposed" };

/** A refusal that will not go away, in the server's own words. */
function loginError(failure: LoginFailure): ProxyError {
  if (failure.kind === "ours") return failure.error;
  if (failure.kind === "unreachable") return new ProxyError("server_login_failed", failure.reason);
  const { message, sqlstate, detail, hint } = failure.fields;
  return new ProxyError("server_login_failed", message, {
    sqlstate,
    ...(detail === null ? {} : { detail }),
    ...(hint === null ? {} : { hint }),
  });
}
