// One client connection after login: in exactly one of the states idle, waiting, active, failed, closed, and one function moves
// it. Its messages go to the server it was lent, undecoded; it gives the server back when nothing is owed and no transaction is
// open. While it waits its socket is paused and nothing more is read.

import { assert } from "../core/assert.ts";
import type { Clock, Timer } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import { LINGER_MS } from "../core/limits.ts";
import { type Millis, millis } from "../core/units.ts";
import type { Pool } from "../pool/pool.ts";
import type { LossCause, Server, ServerHolder } from "../pool/server.ts";
import { followsClient, type SettingsSet } from "../pool/settings.ts";
import { Frontend, HEADER_BYTES, TransactionStatus } from "../protocol/constants.ts";
import { DROP, type FrameSink, PASS, STOP, type Verdict, WHOLE } from "../protocol/framer.ts";
import { type ErrorFields, errorResponse } from "../protocol/messages.ts";
import { BodyReader, MalformedBody } from "../protocol/reader.ts";
import type { Transport, TransportSink } from "../protocol/transport.ts";
import { MessageWriter } from "../protocol/writer.ts";
import type { Balance } from "../routing/balance.ts";
import { opensTransaction } from "../routing/intent.ts";
import type { Target } from "../routing/target.ts";
import { refuseMessage } from "./client-messages.ts";
import { FailedTransaction, TEXT_BYTES_MAX } from "./failed-transaction.ts";
import { type Aftermath, aftermath, answerOwed } from "./failover.ts";
import { Flight } from "./flight.ts";
import { Intake } from "./intake.ts";
import type { Group, Seeker, Steering } from "./steering.ts";
import type { Traffic } from "./traffic.ts";

/** What a client is from its login on. */
export interface ClientIdentity {
  readonly id: number;
  readonly address: string;
  readonly user: string;
  readonly database: string;
  readonly listener: string;
}

export interface ClientOptions {
  readonly poolMode: "transaction" | "session";
  readonly queryWaitTimeoutMs: number;
  /** 0: never. */
  readonly clientIdleTimeoutMs: number;
  /** Whether a statement's first words may choose the target. */
  readonly readsIntent: boolean;
  readonly sessionTarget: Target;
}

/** Who keeps the list of clients. */
export interface ClientOwner {
  clientClosed(client: Client, reason: string): void;
}

type State =
  | { readonly kind: "idle" }
  | { readonly kind: "waiting"; readonly deadline: Timer }
  | { readonly kind: "active"; readonly server: Server }
  | { readonly kind: "failed"; readonly transaction: FailedTransaction }
  | { readonly kind: "closed" };

const idle: State = { kind: "idle" };

export class Client implements TransportSink, FrameSink, ServerHolder, Seeker {
  readonly identity: ClientIdentity;
  readonly group: Group;
  readonly balance: Balance;
  pool: Pool | null = null;
  target: Target;
  waitingSince: Millis;
  readonly #clock: Clock;
  readonly #transport: Transport;
  readonly #steering: Steering;
  readonly #traffic: Traffic;
  readonly #options: ClientOptions;
  readonly #owner: ClientOwner;
  readonly #intake = new Intake(this);
  readonly #flight = new Flight();
  #settings: SettingsSet;
  #state: State = idle;
  /** Why it keeps its server between transactions; null when it does not. */
  #pinned: string | null = null;
  /** The next body that passes is a Parse's: its first byte tells whether the statement has a name. */
  #looksForName = false;
  #replied = false;
  #resends = 0;
  /** Its sending side is closed. */
  #ended = false;
  /** Leaves as soon as it is between transactions. */
  #draining: ProxyError | null = null;
  #idleSince: Millis;

  constructor(
    clock: Clock,
    transport: Transport,
    steering: Steering,
    traffic: Traffic,
    owner: ClientOwner,
    identity: ClientIdentity,
    options: ClientOptions,
    session: { readonly group: Group; readonly balance: Balance; readonly settings: SettingsSet },
  ) {
    this.#clock = clock;
    this.#transport = transport;
    this.#steering = steering;
    this.#traffic = traffic;
    this.#owner = owner;
    this.#options = options;
    this.identity = identity;
    this.group = session.group;
    this.balance = session.balance;
    this.#settings = session.settings;
    this.target = options.sessionTarget;
    this.waitingSince = clock.now();
    this.#idleSince = clock.now();
    transport.attach(this);
  }

  get state(): State["kind"] {
    return this.#state.kind;
  }

  /** The server that it was lent, if any. */
  get server(): Server | null {
    return this.#state.kind === "active" ? this.#state.server : null;
  }

  // TransportSink

  bytes(buffer: Buffer, start: number, end: number): void {
    if (this.#state.kind === "closed") return;
    this.#intake.push(buffer, start, end);
    this.#afterReading();
  }

  /** Reads on: first what was held, then the socket. */
  #advance(): void {
    this.#intake.advance();
    this.#afterReading();
    if (this.#ended) this.#leaveIfDone();
  }

  /** Sends on what was read, and reads no more than can be sent. */
  #afterReading(): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    const flowing = state.kind === "active" ? state.server.flush() : this.#transport.flush();
    if (this.#intake.holding || state.kind === "waiting" || !flowing) this.#transport.pause();
    else this.#transport.resume();
  }

  drained(): void {
    const state = this.#state;
    if (state.kind === "active") state.server.resumeReplies();
    else if (state.kind !== "waiting" && !this.#intake.holding) this.#transport.resume();
  }

  ended(): void {
    this.#ended = true;
    this.#leaveIfDone();
  }

  /** A client that sends nothing more gets what it is owed, then the connection ends. */
  #leaveIfDone(): void {
    const state = this.#state;
    if (this.#intake.holding || state.kind === "waiting") return;
    if (state.kind === "active" && !state.server.exchange.empty) return;
    this.#leave("client closed the connection");
  }

  closed(error: Error | null): void {
    this.#leave(error?.message ?? "client closed the connection");
  }

  // FrameSink: what the client sends

  header(type: number, length: number): Verdict {
    const refusal = refuseMessage(type, length);
    if (refusal !== null && this.#state.kind !== "closed") {
      this.#end(new ProxyError("protocol_violation", refusal));
      return STOP;
    }
    switch (this.#state.kind) {
      case "active":
        return this.#whileActive(this.#state.server, type);
      case "idle":
        return this.#whileIdle(type, length);
      case "failed":
        return this.#whileFailed(type, length);
      default:
        return STOP;
    }
  }

  #whileIdle(type: number, length: number): Verdict {
    if (type === Frontend.Terminate) {
      this.#leave("client said goodbye");
      return STOP;
    }
    // Read and ignored outside a copy, as PostgreSQL does; there is nothing to flush either.
    if (type === Frontend.CopyData || type === Frontend.CopyDone || type === Frontend.CopyFail) return DROP;
    if (type === Frontend.Flush) return DROP;
    this.target = this.#options.sessionTarget;
    const telling = this.#options.readsIntent && (type === Frontend.Query || type === Frontend.Parse);
    if (telling && length <= TEXT_BYTES_MAX) return WHOLE;
    const server = this.#seek();
    return server === null ? STOP : this.#whileActive(server, type);
  }

  #whileActive(server: Server, type: number): Verdict {
    if (type === Frontend.Terminate) {
      this.#leave("client said goodbye");
      return STOP;
    }
    if (server.exchange.full) return STOP;
    server.exchange.request(type);
    if (type === Frontend.Parse) this.#looksForName = true;
    return PASS;
  }

  #whileFailed(type: number, length: number): Verdict {
    if (type === Frontend.Terminate) {
      this.#leave("client said goodbye");
      return STOP;
    }
    const read = type === Frontend.Query || type === Frontend.Parse || type === Frontend.Describe;
    if (read && length <= TEXT_BYTES_MAX) return WHOLE;
    this.#answerFailed(type, null);
    return DROP;
  }

  pass(buffer: Buffer, start: number, end: number): void {
    const state = this.#state;
    if (state.kind !== "active") return;
    if (this.#looksForName) this.#lookForName(buffer, start, end);
    this.#flight.add(buffer, start, end);
    state.server.add(buffer, start, end);
  }

  whole(type: number, buffer: Buffer, start: number, end: number): void {
    try {
      if (this.#state.kind === "failed") {
        this.#answerFailed(type, buffer.subarray(start + HEADER_BYTES, end));
        return;
      }
      this.target = this.#targetOf(type, buffer, start + HEADER_BYTES, end);
    } catch (error) {
      if (!(error instanceof MalformedBody)) throw error;
      this.#end(new ProxyError("protocol_violation", "invalid string in message"));
      return;
    }
    const server = this.#seek();
    if (server !== null) {
      if (this.#whileActive(server, type) === PASS) this.pass(buffer, start, end);
    } else if (this.#state.kind === "waiting") {
      this.#intake.putBack(Buffer.from(buffer.subarray(start, end)));
    }
  }

  malformed(): void {
    this.#end(new ProxyError("protocol_violation", "invalid message length"));
  }

  /** A transaction that says that it is read-only may go to a replica. */
  #targetOf(type: number, buffer: Buffer, start: number, end: number): Target {
    const reader = new BodyReader(buffer, start, end);
    if (type === Frontend.Parse) reader.string("latin1");
    const readOnly = opensTransaction(reader.string("latin1"))?.readOnly ?? null;
    if (readOnly === null) return this.#options.sessionTarget;
    return readOnly ? "replica" : "primary";
  }

  /** A named statement lives on one server; until statements follow clients, the client stays with it. */
  #lookForName(buffer: Buffer, start: number, end: number): void {
    this.#looksForName = false;
    const unnamed = end - start > HEADER_BYTES && buffer[start + HEADER_BYTES] === 0;
    if (unnamed || this.#pinned !== null) return;
    this.#pinned = "named prepared statement";
    this.#traffic.countPin("named_prepared_statement");
  }

  // Seeking a server

  #seek(): Server | null {
    this.waitingSince = this.#clock.now();
    const server = this.#steering.seek(this);
    if (server !== null) this.#attach(server);
    else if (this.#state.kind === "idle") this.#wait();
    return server;
  }

  /** idle → waiting. */
  #wait(): void {
    this.#transport.pause();
    const deadline = this.#clock.after(millis(this.#options.queryWaitTimeoutMs), () => {
      this.#end(
        new ProxyError("query_wait_timeout", "query_wait_timeout", {
          detail: this.#steering.whyWaiting(this),
          hint: "The statement was not executed.",
        }),
      );
    });
    this.#state = { kind: "waiting", deadline };
  }

  /** idle or waiting → active. */
  #attach(server: Server): void {
    server.lend(this);
    this.#state = { kind: "active", server };
    server.bringSettingsTo(this.#settings);
  }

  granted(server: Server): void {
    const state = this.#state;
    assert(state.kind === "waiting", `granted while ${state.kind}`);
    state.deadline.cancel();
    this.#traffic.waits += 1;
    this.#traffic.waitedMs += this.#clock.now() - this.waitingSince;
    this.#attach(server);
    this.#advance();
  }

  refused(error: ProxyError): void {
    this.#end(error);
  }

  evicted(): void {
    assert(this.#state.kind === "waiting", `evicted while ${this.#state.kind}`);
    this.pool = null;
    const server = this.#steering.seek(this);
    if (server !== null) this.granted(server);
  }

  // ServerHolder: what the server sends

  reply(buffer: Buffer, start: number, end: number): void {
    this.#replied = true;
    this.#transport.add(buffer, start, end);
  }

  flushReplies(): void {
    if (!this.#transport.flush() && this.#state.kind === "active") this.#state.server.pauseReplies();
  }

  serverDrained(): void {
    if (!this.#intake.holding) this.#transport.resume();
  }

  parameterChanged(name: string, value: string): boolean {
    if (!followsClient(name)) return name !== "in_hot_standby";
    this.#settings = this.#settings.with(name, value);
    return true;
  }

  ownRequestFailed(fields: ErrorFields): void {
    this.#end(
      new ProxyError("server_error", `could not restore session settings: ${fields.message}`, {
        sqlstate: fields.sqlstate,
      }),
    );
  }

  ready(status: number): void {
    const state = this.#state;
    if (state.kind !== "active" || !state.server.exchange.empty) return;
    this.#flight.clear();
    this.#replied = false;
    this.#resends = 0;
    if (status === TransactionStatus.Idle) {
      this.#traffic.transactions += 1;
      if (!this.#keepsServer && this.#intake.atBoundary) this.#release(state.server);
      this.#idleSince = this.#clock.now();
      if (this.#draining !== null) return this.#end(this.#draining);
    }
    if (this.#intake.holding) this.#advance();
    if (this.#ended) this.#leaveIfDone();
  }

  get #keepsServer(): boolean {
    return this.#options.poolMode === "session" || this.#pinned !== null;
  }

  /** active → idle. */
  #release(server: Server): void {
    this.#transport.flush();
    this.#state = idle;
    this.#giveBack(server);
  }

  #giveBack(server: Server): void {
    const pool = this.pool;
    this.pool = null;
    assert(pool !== null, "a server without its pool");
    pool.release(server, this.#options.poolMode === "session" || this.#pinned !== null ? "session" : "transaction");
  }

  // The server is gone

  lost(cause: LossCause): void {
    const state = this.#state;
    if (state.kind !== "active") return;
    const { server } = state;
    const purpose = this.pool?.identity.purpose ?? "write";
    const answer = aftermath({
      cause,
      member: server.endpoint.member,
      keepsServer: this.#keepsServer,
      purpose,
      status: server.status,
      quiet: server.exchange.empty,
      midReply: server.midMessage && this.#replied,
      replied: this.#replied,
      midRequest: !this.#intake.atBoundary,
      flight: this.#flight.take(),
      resends: this.#resends,
    });
    this.#state = idle;
    this.#giveBack(server);
    if (cause.kind !== "fenced") this.#steering.serverFailed(server.endpoint.member, cause.reason);
    this.#carryOut(answer, server);
  }

  #carryOut(answer: Aftermath, server: Server): void {
    switch (answer.kind) {
      case "rerun":
        this.#traffic.reruns += 1;
        this.#resends += 1;
        this.#intake.putBack(answer.flight);
        return this.#advance();
      case "fail_statement":
      case "fail_transaction":
        return this.#fail(answer, server);
      case "close":
        return this.#end(answer.error);
      case "close_with":
        this.#transport.add(answer.message, 0, answer.message.length);
        return this.#hangUp("the server ended the session");
      case "break":
        this.#transport.destroy();
        return this.#leave("the server was lost in the middle of a reply");
    }
  }

  /** Answers what the server still owed, and stands in for it until the client has ended the transaction. */
  #fail(answer: Aftermath & { kind: "fail_statement" | "fail_transaction" }, server: Server): void {
    const inTransaction = answer.kind === "fail_transaction";
    if (inTransaction) this.#traffic.failedTransactions += 1;
    this.#traffic.countError(answer.error.code);
    this.#intake.dropRest();
    const writer = new MessageWriter();
    const owed = answerOwed(server.exchange, answer.error, inTransaction, writer);
    this.#send(writer);
    const transaction = new FailedTransaction(owed.told ? null : answer.error, owed.openBatch, inTransaction);
    if (inTransaction || owed.openBatch) this.#state = { kind: "failed", transaction };
    this.#advance();
  }

  #answerFailed(type: number, body: Buffer | null): void {
    const state = this.#state;
    if (state.kind !== "failed") return;
    const writer = new MessageWriter();
    const over = state.transaction.answer(type, body, writer);
    const answer = writer.finish();
    this.#transport.add(answer, 0, answer.length);
    if (!over) return;
    this.#state = idle;
    this.#idleSince = this.#clock.now();
    if (this.#draining !== null) this.#end(this.#draining);
  }

  // The end

  /** Leaves once it is between transactions; at once where it already is. `error` is its last word. */
  drain(error: ProxyError): void {
    this.#draining = error;
    const state = this.#state;
    const between =
      state.kind === "idle" ||
      (state.kind === "active" && state.server.exchange.empty && state.server.status === TransactionStatus.Idle);
    if (between) this.#end(error);
  }

  /** Disconnects a client that has been idle too long. */
  sweep(now: Millis): void {
    const { clientIdleTimeoutMs } = this.#options;
    if (clientIdleTimeoutMs === 0 || this.#state.kind !== "idle") return;
    if (now - this.#idleSince < clientIdleTimeoutMs) return;
    this.#end(new ProxyError("terminated", "terminating connection due to client_idle_timeout"));
  }

  /** Says why, and ends the connection. */
  #end(error: ProxyError): void {
    if (this.#state.kind === "closed") return;
    this.#traffic.countError(error.code);
    this.#send(errorResponse(error));
    this.#hangUp(error.message);
  }

  #send(writer: MessageWriter): void {
    const message = writer.finish();
    this.#transport.add(message, 0, message.length);
    this.#transport.flush();
  }

  /** Ends our side; a peer that does not end its own is cut off after a while. */
  #hangUp(reason: string): void {
    this.#leave(reason);
    this.#clock.after(millis(LINGER_MS), () => this.#transport.destroy());
  }

  /** any → closed. */
  #leave(reason: string): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    this.#state = { kind: "closed" };
    if (state.kind === "waiting") {
      state.deadline.cancel();
      this.#steering.leave(this);
    }
    if (state.kind === "active") this.#giveBack(state.server);
    this.#transport.end();
    this.#owner.clientClosed(this, reason);
  }
}
