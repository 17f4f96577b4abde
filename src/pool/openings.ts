// How a pool comes by a new server: login, the gate for writes, the database's connect_query; and the pause after a failure. While
// the gate is shut, servers in recovery are kept in front of it: when it opens, each has to say that it takes writes now.

import { Backoff } from "../core/backoff.ts";
import type { Clock, Timer } from "../core/clock.ts";
import { EARLY_RETRY_MS, LOGIN_RETRY_INITIAL_MS } from "../core/limits.ts";
import { millis } from "../core/units.ts";
import { TransactionStatus } from "../protocol/constants.ts";
import type { ErrorFields } from "../protocol/messages.ts";
import type { Transport } from "../protocol/transport.ts";
import type { LoginFacts } from "./login-facts.ts";
import { isEarly, type PoolIdentity, type PoolOptions, type PoolSupply } from "./pool-terms.ts";
import { Server, type ServerOwner } from "./server.ts";
import { isTransient, type LoginFailure, ServerLogin } from "./server-login.ts";
import { decodeSettings, settingsQuestion } from "./settings.ts";
import type { TestedServers } from "./tested-servers.ts";

/** The pool, as its openings see it. It owns the servers from their login on. */
export interface OpeningsSink extends ServerOwner {
  /** A server has let us in. `null`: it did not say whether it is in recovery. */
  loggedIn(server: Server, inRecovery: boolean | null): void;
  /** It can be lent. */
  opened(server: Server): void;
  /** There is no connection. */
  loginFailed(failure: LoginFailure): void;
  /** There is a connection, but the database's connect_query failed; the server is closed. */
  refused(failure: LoginFailure): void;
  /** The pause is over. */
  retry(): void;
}

export class Openings {
  readonly #clock: Clock;
  readonly #identity: PoolIdentity;
  readonly #supply: PoolSupply;
  readonly #tested: TestedServers;
  readonly #sink: OpeningsSink;
  readonly #logins = new Set<ServerLogin>();
  /** Logged in, and not yet fit to be lent. */
  readonly #fresh = new Set<Server>();
  /** Logged in, and in front of the gate. */
  readonly #early = new Set<Server>();
  #gateIsShut: boolean;
  #options: PoolOptions;
  #backoff: Backoff;
  #pause: Timer | null = null;
  /** Why the last login failed; null after one that did not. */
  #failure: string | null = null;

  constructor(
    clock: Clock,
    identity: PoolIdentity,
    supply: PoolSupply,
    options: PoolOptions,
    tested: TestedServers,
    sink: OpeningsSink,
  ) {
    this.#clock = clock;
    this.#identity = identity;
    this.#supply = supply;
    this.#options = options;
    this.#tested = tested;
    this.#sink = sink;
    this.#backoff = backoffOf(options);
    this.#gateIsShut = isEarly(identity);
  }

  /** Connections that are not logged in yet. */
  get logins(): number {
    return this.#logins.size;
  }

  /** Servers that will be there soon, if all goes well. */
  get underway(): number {
    return this.#logins.size + this.#fresh.size;
  }

  /** All that are in none of the pool's own lists: logins, and those that wait for the gate. */
  get size(): number {
    return this.#logins.size + this.#early.size;
  }

  /** Servers that wait for the gate. */
  get early(): ReadonlySet<Server> {
    return this.#early;
  }

  /** Whether nothing of it may be lent yet. */
  get gateIsShut(): boolean {
    return this.#gateIsShut;
  }

  /** Why there is no new server, as a sentence; null where none has failed lately. */
  get obstacle(): string | null {
    return this.#failure === null ? null : `The login to the server failed: ${this.#failure}.`;
  }

  /** Nothing should be opened now: it has just failed. */
  get paused(): boolean {
    return this.#pause !== null;
  }

  reconfigure(options: PoolOptions): void {
    if (options.serverLoginRetryMs !== this.#options.serverLoginRetryMs) this.#backoff = backoffOf(options);
    this.#options = options;
  }

  start(): void {
    const { endpoint, user, dbname, dedicated } = this.#identity;
    const { connectQuery, refused, ...how } = this.#supply.login();
    const { serverConnectTimeoutMs: timeoutMs, keepAlive } = this.#options;
    const parameters = dedicated?.parameters ?? new Map<string, string>();
    const isEarlyLogin = this.#gateIsShut;
    const options = { endpoint, user, database: dbname, parameters, ...how, timeoutMs, keepAlive };
    const login = new ServerLogin(this.#clock, options, {
      loggedIn: (transport, facts) => {
        this.#logins.delete(login);
        if (isEarlyLogin) this.#loggedInEarly(transport, facts);
        else this.#loggedIn(transport, facts, connectQuery);
      },
      failed: (failure) => {
        this.#logins.delete(login);
        if (failure.transient) this.pause();
        this.#failure = failure.reason.trim();
        if (failure.kind === "refused" && failure.fields.sqlstate === INVALID_PASSWORD) refused?.();
        this.#sink.loginFailed(failure);
      },
    });
    this.#logins.add(login);
  }

  /** Opens nothing for a while, which grows with each failure; not so in front of the gate, behind which clients wait. */
  pause(): void {
    if (this.#pause !== null) return;
    const wait = this.#gateIsShut ? millis(EARLY_RETRY_MS) : this.#backoff.next();
    this.#pause = this.#clock.after(wait, () => {
      this.#pause = null;
      this.#sink.retry();
    });
  }

  /** A server is closed. One that was not fit to be lent yet makes the next wait. */
  lost(server: Server): void {
    if (this.#fresh.delete(server) || this.#early.delete(server)) this.pause();
  }

  /** The leader takes writes, it is said: each server that waits is asked. */
  openGate(): void {
    this.#gateIsShut = false;
    this.#pause?.cancel();
    this.#pause = null;
    for (const server of this.#early) {
      this.#fresh.add(server);
      this.#prove(server);
    }
    this.#early.clear();
  }

  /** Gives up, for good: the sink hears nothing more. Servers that are logged in are its own to close. */
  abort(): void {
    this.#pause?.cancel();
    this.#pause = null;
    for (const login of this.#logins) login.abort();
    this.#logins.clear();
    this.#fresh.clear();
    this.#early.clear();
  }

  /** Asked at once, so that the answer that counts comes from a server that knows the question. */
  #loggedInEarly(transport: Transport, facts: LoginFacts): void {
    const server = new Server(transport, facts, this.#sink);
    this.#fresh.add(server);
    this.#tested.ask(server, RECOVERY_QUESTION, "the question after recovery", () => {
      if (!this.#gateIsShut) return this.#prove(server);
      this.#fresh.delete(server);
      this.#early.add(server);
    });
  }

  /** Asks a server that was there before the gate opened: what it said at its login is no longer the point. */
  #prove(server: Server): void {
    this.#tested.ask(server, RECOVERY_QUESTION, "the question after recovery", (result) =>
      this.#admit(server, result.ok ? result.row?.[0] === "t" : null, this.#supply.login().connectQuery),
    );
  }

  #loggedIn(transport: Transport, facts: LoginFacts, connectQuery: string | null): void {
    const server = new Server(transport, facts, this.#sink);
    this.#fresh.add(server);
    const reported = facts.parameters.get("in_hot_standby");
    if (reported !== undefined) return this.#admit(server, reported === "on", connectQuery);
    // Before PostgreSQL 14 nothing is reported: ask. What serves physical replication knows no SQL; discovery has asked.
    if (this.#identity.dedicated !== undefined) return this.#admit(server, null, null);
    this.#tested.ask(server, RECOVERY_QUESTION, "the question after recovery", (result) =>
      this.#admit(server, result.ok ? result.row?.[0] === "t" : null, connectQuery),
    );
  }

  /** The gate: a write connection to a server in recovery is none. */
  #admit(server: Server, inRecovery: boolean | null, connectQuery: string | null): void {
    this.#sink.loggedIn(server, inRecovery);
    if (server.state === "closed") return;
    const unknown = inRecovery === null && this.#identity.dedicated !== undefined;
    if (this.#identity.purpose === "write" && inRecovery !== false && !unknown) {
      return server.close({ kind: "ours", reason: "server is in recovery" });
    }
    if (connectQuery === null || this.#identity.dedicated !== undefined) return this.#opened(server);
    this.#tested.ask(server, connectQuery, "connect_query", (result) => {
      if (!result.ok) return this.#connectQueryFailed(server, result.fields);
      if (server.status !== TransactionStatus.Idle) return this.#connectQueryFailed(server, transactionLeftOpen);
      // What it has set is where this server starts from.
      this.#tested.ask(server, settingsQuestion(customNames(connectQuery)), "the question after settings", (answer) => {
        server.base = decodeSettings(answer.ok ? answer.row?.[0] : null) ?? server.base;
        this.#opened(server);
      });
    });
  }

  #connectQueryFailed(server: Server, fields: ErrorFields): void {
    this.#fresh.delete(server);
    const failure = { kind: "refused", fields, transient: isTransient(fields), reason: fields.message } as const;
    if (failure.transient) this.pause();
    server.close({ kind: "ours", reason: `connect_query failed: ${fields.message}` });
    this.#sink.refused(failure);
  }

  #opened(server: Server): void {
    this.#fresh.delete(server);
    this.#failure = null;
    this.#backoff.reset();
    this.#sink.opened(server);
  }
}

const INVALID_PASSWORD = "28P01";
const RECOVERY_QUESTION = "SELECT pg_catalog.pg_is_in_recovery()";

/** Whatever could be a setting of the user's own, in lower case: one that is none has no value. */
const customNames = (sql: string): Set<string> => new Set(sql.toLowerCase().match(/\b[a-z_]\w*\.[a-z_]\w*/g) ?? []);

const transactionLeftOpen: ErrorFields = {
  severity: "ERROR",
  sqlstate: "25001",
  message: "connect_query leaves a transaction open",
  detail: null,
  hint: null,
};

const backoffOf = ({ serverLoginRetryMs }: PoolOptions): Backoff =>
  new Backoff({ initialMs: LOGIN_RETRY_INITIAL_MS, maxMs: serverLoginRetryMs });
