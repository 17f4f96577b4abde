// One client connection after login, in exactly one state. Its messages go to the server it was lent, undecoded; it gives the
// server back when nothing is owed and no transaction is open. While it waits its socket is paused and nothing more is read.

import { assert } from "../core/assert.ts";
import { ProxyError } from "../core/errors.ts";
import { type Millis, millis } from "../core/units.ts";
import type { ServerHolder } from "../pool/holder.ts";
import type { LossCause } from "../pool/loss.ts";
import type { Pool } from "../pool/pool.ts";
import type { Server } from "../pool/server.ts";
import { TransactionStatus } from "../protocol/constants.ts";
import { type ErrorFields, errorResponse } from "../protocol/messages.ts";
import type { Transport, TransportSink } from "../protocol/transport.ts";
import { MessageWriter } from "../protocol/writer.ts";
import type { Balance } from "../routing/balance.ts";
import type { Target } from "../routing/target.ts";
import { ClientReader, type ReaderHost } from "./client-reader.ts";
import type { ClientContext, ClientIdentity, ClientSession, ClientState } from "./client-session.ts";
import { FailedTransaction } from "./failed-transaction.ts";
import { type Aftermath, answerOwed } from "./failover.ts";
import type { Session } from "./session.ts";
import { prepare, settle, tellUntold } from "./settling.ts";
import type { Group, Seeker } from "./steering.ts";

const idle: ClientState = { kind: "idle" };

export class Client implements TransportSink, ReaderHost, ServerHolder, Seeker {
  readonly identity: ClientIdentity;
  readonly group: Group;
  readonly balance: Balance;
  pool: Pool | null = null;
  target: Target;
  waitingSince: Millis;
  readonly #context: ClientContext;
  readonly #transport: Transport;
  readonly #reader: ClientReader;
  readonly session: Session;
  #state: ClientState = idle;
  #replied = false;
  #resends = 0;
  /** Its sending side is closed. */
  #ended = false;
  /** Leaves as soon as it is between transactions. */
  #draining: ProxyError | null = null;
  #idleSince: Millis;

  constructor(context: ClientContext, transport: Transport, identity: ClientIdentity, session: ClientSession) {
    this.#context = context;
    this.#transport = transport;
    this.identity = identity;
    this.group = session.group;
    this.balance = session.balance;
    this.target = session.target;
    this.session = session.session;
    this.#reader = new ClientReader(this, session.target, context.readsIntent, session.session);
    this.waitingSince = context.clock.now();
    this.#idleSince = this.waitingSince;
    transport.attach(this);
  }

  get state(): ClientState["kind"] {
    return this.#state.kind;
  }

  /** The server that it was lent, if any. */
  get server(): Server | null {
    return this.#state.kind === "active" ? this.#state.server : null;
  }

  bytes(buffer: Buffer, start: number, end: number): void {
    if (this.#state.kind === "closed") return;
    this.#reader.intake.push(buffer, start, end);
    this.#afterReading();
  }

  /** Reads on: first what was held, then the socket. */
  #advance(): void {
    this.#reader.intake.advance();
    this.#afterReading();
    if (this.#ended) this.#leaveIfDone();
  }

  /** Sends on what was read, and reads no more than can be sent. */
  #afterReading(): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    const flowing = state.kind === "active" ? state.server.flush() : this.#transport.flush();
    if (this.#reader.intake.holding || this.#waits || !flowing) this.#transport.pause();
    else this.#transport.resume();
  }

  drained(): void {
    const state = this.#state;
    if (state.kind === "active") state.server.resumeReplies();
    else if (!this.#waits && !this.#reader.intake.holding) this.#transport.resume();
  }

  get #waits(): boolean {
    return this.#state.kind === "waiting" || this.#state.kind === "settling";
  }

  ended(): void {
    this.#ended = true;
    this.#leaveIfDone();
  }

  /** A client that sends nothing more gets what it is owed, then the connection ends. Half a message will never be whole. */
  #leaveIfDone(): void {
    const { intake } = this.#reader;
    if (intake.holding || this.#waits) return;
    if (intake.atBoundary && this.server !== null && !this.server.exchange.stalled) return;
    this.#leave("client closed the connection");
  }

  closed(error: Error | null): void {
    this.#leave(error?.message ?? "client closed the connection");
  }

  // ReaderHost: what the client sends

  /** What was asked before the goodbye is still carried out, as PostgreSQL does. */
  goodbye(): void {
    this.#ended = true;
    if (this.#state.kind !== "active" || this.#state.server.exchange.stalled) this.#leave("client said goodbye");
  }

  // Seeking a server

  seek(target: Target): Server | null {
    this.target = target;
    this.waitingSince = this.#context.clock.now();
    const server = this.#context.steering.seek(this);
    if (server !== null) this.#take(server);
    else if (this.#state.kind === "idle") this.#wait();
    return this.server;
  }

  /** idle or waiting → active; or, where settings must be in force before anything else is sent, → settling first. */
  #take(server: Server): void {
    if (!this.session.mustPrepare(server)) return this.#attach(server);
    this.#state = { kind: "settling" };
    prepare(this.#context.clock, server, this.session, (error) => {
      const gone = this.#state.kind !== "settling";
      if (gone || error !== null) this.#takePool().release(server, "transaction");
      if (error !== null) return this.end(error);
      if (gone) return;
      this.#attach(server);
      this.#advance();
    });
  }

  /** idle → waiting. */
  #wait(): void {
    this.#transport.pause();
    const deadline = this.#context.clock.after(millis(this.#context.queryWaitTimeoutMs), () => {
      this.end(
        new ProxyError("query_wait_timeout", "query_wait_timeout", {
          detail: this.#context.steering.whyWaiting(this),
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
    tellUntold(this.session, server, this.#transport);
    server.bringSettingsTo(this.session.settings, this.session.mapper === null);
  }

  granted(server: Server): void {
    const state = this.#state;
    assert(state.kind === "waiting", `granted while ${state.kind}`);
    state.deadline.cancel();
    this.#context.traffic.waits += 1;
    this.#context.traffic.waitedMs += this.#context.clock.now() - this.waitingSince;
    this.#take(server);
    if (this.server !== null) this.#advance();
  }

  refused(error: ProxyError): void {
    this.end(error);
  }

  evicted(): void {
    assert(this.#state.kind === "waiting", `evicted while ${this.#state.kind}`);
    this.pool = null;
    const server = this.#context.steering.seek(this);
    if (server !== null) this.granted(server);
  }

  // ServerHolder: what the server sends

  reply(buffer: Buffer, start: number, end: number): void {
    this.#replied = true;
    this.#transport.add(buffer, start, end);
  }

  flushReplies(): void {
    const flowing = this.#transport.flush();
    const state = this.#state;
    if (state.kind !== "active") return;
    if (!flowing) state.server.pauseReplies();
    // Requests were held back because too many were unanswered.
    if (this.#reader.intake.holding && !state.server.exchange.full) this.#advance();
    else if (this.#ended) this.#leaveIfDone();
  }

  serverDrained(): void {
    if (!this.#reader.intake.holding) this.#transport.resume();
  }

  /** What was sent behind it ran with other settings, or not: nobody knows. */
  ownRequestFailed({ message }: ErrorFields): void {
    const detail = `Session settings could not be restored: ${message}.`;
    this.end(new ProxyError("outcome_unknown", "a statement was sent to a server with other settings", { detail }));
  }

  ready(status: number): void {
    const state = this.#state;
    if (state.kind !== "active") return;
    if (!state.server.exchange.empty) return this.#ended ? this.#leaveIfDone() : undefined;
    this.session.flight.clear();
    this.#replied = false;
    this.#resends = 0;
    if (status === TransactionStatus.Idle) {
      this.#context.traffic.transactions += 1;
      const leaves = !this.session.keepsServer && this.#reader.intake.atBoundary;
      if (leaves && this.session.unsettled) return this.#settle(state.server);
      if (leaves) this.#release(state.server);
      this.#idleSince = this.#context.clock.now();
      if (this.#draining !== null) return this.end(this.#draining);
    }
    if (this.#state.kind === "idle") this.#advance();
    if (this.#ended) this.#leaveIfDone();
  }

  /** active → idle. */
  #release(server: Server): void {
    this.#transport.flush();
    this.#state = idle;
    this.#giveBack(server);
  }

  /** active → waiting, until the server has told which settings it has now; then → idle. */
  #settle(server: Server): void {
    const pool = this.#takePool();
    this.#transport.flush();
    this.#transport.pause();
    this.#state = { kind: "settling" };
    settle(this.#context.clock, server, pool, this.session, (ok) => {
      if (!ok) this.end(new ProxyError("terminated", "terminating connection because its settings were lost"));
      if (this.#state.kind !== "settling") return;
      this.#becomeIdle();
      this.#advance();
    });
  }

  #becomeIdle(): void {
    this.#state = idle;
    this.#idleSince = this.#context.clock.now();
    if (this.#draining !== null) this.end(this.#draining);
  }

  /** The rest of a message that was begun would be taken from what the next client says. */
  #giveBack(server: Server): void {
    if (!this.#reader.intake.atBoundary) server.close({ kind: "ours", reason: "client left in mid-message" });
    this.#takePool().release(server, this.session.leavesTraces ? "session" : "transaction");
  }

  #takePool(): Pool {
    const { pool } = this;
    this.pool = null;
    assert(pool !== null, "a server without its pool");
    return pool;
  }

  /** A cancel request for a statement that still waits: it fails, unexecuted. */
  cancelWait(): void {
    if (this.#state.kind !== "waiting") return;
    this.#state.deadline.cancel();
    this.#context.steering.leave(this);
    const error = new ProxyError("query_canceled", "canceling statement due to user request");
    this.#context.traffic.countError(error.code);
    this.#standIn(new FailedTransaction(error, false, false, this.session.mapper));
  }

  // The server is gone

  lost(cause: LossCause): void {
    const state = this.#state;
    if (state.kind !== "active") return;
    const { server } = state;
    const replica = this.#context.steering.isReplica(server);
    const answer = this.#reader.afterLoss(cause, server, replica, this.#replied, this.#resends);
    if (answer.kind !== "fail_statement" && answer.kind !== "fail_transaction") server.exchange.abandon(() => {});
    this.#state = idle;
    this.#giveBack(server);
    this.#carryOut(answer, server);
  }

  #carryOut(answer: Aftermath, server: Server): void {
    switch (answer.kind) {
      case "rerun":
        this.#context.traffic.reruns += 1;
        this.#resends += 1;
        this.#reader.intake.putBack(answer.flight);
        return this.#advance();
      case "stand_in":
        this.#reader.intake.putBack(answer.flight);
        return this.#standIn(new FailedTransaction(null, false, true, this.session.mapper));
      case "fail_statement":
      case "fail_transaction":
        return this.#fail(answer, server);
      case "close":
        return this.end(answer.error);
      case "close_with":
        this.#transport.say(answer.message);
        return this.#leave("the server ended the session");
      case "break":
        this.#transport.destroy();
        return this.#leave("the server was lost in the middle of a reply");
    }
  }

  /** Answers what the server still owed, and stands in for it until the client has ended the transaction. */
  #fail(answer: Aftermath & { kind: "fail_statement" | "fail_transaction" }, server: Server): void {
    const inTransaction = answer.kind === "fail_transaction";
    if (inTransaction) this.#context.traffic.failedTransactions += 1;
    this.#context.traffic.countError(answer.error.code);
    this.#reader.intake.dropRest();
    const writer = new MessageWriter();
    const { told, openBatch } = answerOwed(server.exchange, answer.error, inTransaction, writer);
    this.#transport.say(writer.finish());
    if (!inTransaction && !openBatch) return this.#advance();
    this.#standIn(new FailedTransaction(told ? null : answer.error, openBatch, inTransaction, this.session.mapper));
  }

  /** idle or waiting → failed. */
  #standIn(transaction: FailedTransaction): void {
    this.#state = { kind: "failed", transaction };
    this.#advance();
  }

  answerFailed(type: number, body: Buffer | null): void {
    if (this.#state.kind !== "failed") return;
    const writer = new MessageWriter();
    const over = this.#state.transaction.answer(type, body, writer);
    this.#transport.say(writer.finish());
    if (over) this.#becomeIdle();
  }

  /** Leaves once it is between transactions; at once where it already is. `error` is its last word. */
  drain(error: ProxyError): void {
    this.#draining = error;
    if (this.#betweenTransactions) this.end(error);
  }

  get #betweenTransactions(): boolean {
    const state = this.#state;
    if (state.kind !== "active") return state.kind === "idle";
    return state.server.exchange.empty && state.server.status === TransactionStatus.Idle;
  }

  /** Disconnects a client that has been idle too long. */
  sweep(now: Millis): void {
    const { clientIdleTimeoutMs } = this.#context;
    if (clientIdleTimeoutMs === 0 || !this.#betweenTransactions) return;
    if (now - this.#idleSince < clientIdleTimeoutMs) return;
    this.end(new ProxyError("terminated", "terminating connection due to client_idle_timeout"));
  }

  /** Says why, and ends the connection. */
  end(error: ProxyError): void {
    if (this.#state.kind === "closed") return;
    this.#context.traffic.countError(error.code);
    // In the middle of a reply no other message would be understood.
    if (this.server?.midReply) this.#transport.destroy();
    else this.#transport.say(errorResponse(error).finish());
    this.#leave(error.message);
  }

  /** any → closed. */
  #leave(reason: string): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    this.#state = { kind: "closed" };
    if (state.kind === "waiting") {
      state.deadline.cancel();
      this.#context.steering.leave(this);
    }
    if (state.kind === "active") this.#giveBack(state.server);
    this.session.end();
    this.#transport.hangUp(this.#context.clock);
    this.#context.owner.clientClosed(this.identity, reason);
  }
}
