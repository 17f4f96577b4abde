// How a pool comes by a new server: login, the gate for writes, the database's connect_query; and the pause after a failure.

import { Backoff } from "../core/backoff.ts";
import type { Clock, Timer } from "../core/clock.ts";
import { LOGIN_RETRY_INITIAL_MS } from "../core/limits.ts";
import { TransactionStatus } from "../protocol/constants.ts";
import type { ErrorFields } from "../protocol/messages.ts";
import type { Transport } from "../protocol/transport.ts";
import type { LoginFacts } from "./login-facts.ts";
import type { PoolIdentity, PoolOptions, PoolSupply } from "./pool-terms.ts";
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
  #options: PoolOptions;
  #backoff: Backoff;
  #pause: Timer | null = null;

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
  }

  /** Connections that are not logged in yet. */
  get logins(): number {
    return this.#logins.size;
  }

  /** Servers that will be there soon, if all goes well. */
  get underway(): number {
    return this.#logins.size + this.#fresh.size;
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
    const { connectQuery, ...how } = this.#supply.login();
    const { serverConnectTimeoutMs: timeoutMs, keepAlive } = this.#options;
    const parameters = dedicated?.parameters ?? new Map<string, string>();
    const options = { endpoint, user, database: dbname, parameters, ...how, timeoutMs, keepAlive };
    const login = new ServerLogin(this.#clock, options, {
      loggedIn: (transport, facts) => {
        this.#logins.delete(login);
        this.#loggedIn(transport, facts, connectQuery);
      },
      failed: (failure) => {
        this.#logins.delete(login);
        if (failure.transient) this.pause();
        this.#sink.loginFailed(failure);
      },
    });
    this.#logins.add(login);
  }

  /** Opens nothing for a while, which grows with each failure. */
  pause(): void {
    if (this.#pause !== null) return;
    this.#pause = this.#clock.after(this.#backoff.next(), () => {
      this.#pause = null;
      this.#sink.retry();
    });
  }

  /** A server is closed. One that was not fit to be lent yet makes the next wait. */
  lost(server: Server): void {
    if (this.#fresh.delete(server)) this.pause();
  }

  /** Gives up, for good: the sink hears nothing more. Servers that are logged in are its own to close. */
  abort(): void {
    this.#pause?.cancel();
    this.#pause = null;
    for (const login of this.#logins) login.abort();
    this.#logins.clear();
    this.#fresh.clear();
  }

  #loggedIn(transport: Transport, facts: LoginFacts, connectQuery: string | null): void {
    const server = new Server(transport, facts, this.#sink);
    this.#fresh.add(server);
    const reported = facts.parameters.get("in_hot_standby");
    if (reported !== undefined) return this.#admit(server, reported === "on", connectQuery);
    // Before PostgreSQL 14 nothing is reported: ask. What serves physical replication knows no SQL; discovery has asked.
    if (this.#identity.dedicated !== undefined) return this.#admit(server, null, null);
    this.#tested.ask(server, "SELECT pg_catalog.pg_is_in_recovery()", "the question after recovery", (result) =>
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
    this.#backoff.reset();
    this.#sink.opened(server);
  }
}

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
