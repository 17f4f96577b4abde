// One client connection after login, in exactly one state. Its messages go to the server it was lent, undecoded; it gives the
// server back when nothing is owed and no transaction is open. While it waits no more of it is read than shows that it is there.

import { assert } from "../core/assert.ts";
import type { ProxyError } from "../core/errors.ts";
import { RESET_TIMEOUT_MS } from "../core/limits.ts";
import type { Millis } from "../core/units.ts";
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
import { abandon, Departure } from "./client-departure.ts";
import { settingsNotRestored, transactionRefused, waitCanceled, waitedTooLong } from "./client-errors.ts";
import { carryOut, type LossHost } from "./client-loss.ts";
import { ClientReader, type ReaderHost } from "./client-reader.ts";
import {
  type ClientContext,
  type ClientIdentity,
  type ClientSession,
  type ClientState,
  phaseOf,
} from "./client-session.ts";
import { ClientTimes } from "./client-times.ts";
import { FailedTransaction } from "./failed-transaction.ts";
import { aftermath } from "./failover.ts";
import type { Group } from "./group.ts";
import type { Session } from "./session.ts";
import { prepare, settle, tellUntold } from "./settling.ts";
import type { Seeker } from "./steering.ts";
import type { Waiting } from "./wait-deadlines.ts";

const idle: ClientState = { kind: "idle" };
const waiting: ClientState = { kind: "waiting" };

export class Client implements TransportSink, ReaderHost, ServerHolder, Seeker, LossHost, Waiting {
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
  readonly #times: ClientTimes | null;
  #state: ClientState = idle;
  #replied = false;
  #resends = 0;
  readonly #departure = new Departure();
  /** The state in which its settings are brought about before its statement is sent. */
  #preparing: ClientState | null = null;
  /** Leaves as soon as it is between transactions. */
  #draining: ProxyError | null = null;

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
    this.#times = ClientTimes.of(context.clock, context.timeouts);
    transport.attach(this);
    if (session.lease === null) return;
    this.pool = session.lease.pool;
    this.#attach(session.lease.server);
    this.#times?.rested();
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
    if (this.#times !== null && this.#state.kind === "active") this.#times.asked();
    this.#reader.intake.push(buffer, start, end);
    this.#afterReading();
  }

  /** Reads on: first what was held, then the socket. */
  #advance(): void {
    this.#reader.intake.advance();
    this.#afterReading();
    if (this.#departure.ended) this.#leaveIfDone();
  }

  /** Sends on what was read, and reads no more than can be sent. */
  #afterReading(): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    const flowing = state.kind === "active" ? state.server.flush() : this.#transport.flush();
    if (!flowing || this.#reader.heldBack) this.#transport.pause();
    else this.#transport.resume();
  }

  drained(): void {
    const state = this.#state;
    if (state.kind === "active") state.server.resumeReplies();
    else if (!this.#reader.heldBack) this.#transport.resume();
  }

  ended(): void {
    this.#departure.ended = true;
    this.#leaveIfDone();
    this.#knock();
  }

  #knock(): void {
    if (this.#state.kind !== "closed" && !this.server?.midReply) this.#departure.knock(this.#transport, this.session);
  }

  /** A client that sends nothing more gets what it is owed, then the connection ends. Half a message will never be whole. */
  #leaveIfDone(): void {
    const state = this.#state;
    const { intake } = this.#reader;
    if (intake.holding || state.kind === "waiting" || state.kind === "settling") return;
    if (intake.atBoundary && state.kind === "active" && !state.server.exchange.stalled) return;
    this.leave("client closed the connection");
  }

  closed(error: Error | null): void {
    this.leave(error?.message ?? "client closed the connection", this.#departure.graceMs);
  }

  /** What was asked before the goodbye is still carried out, as PostgreSQL does. */
  goodbye(): void {
    this.#departure.ended = true;
    this.#departure.saidGoodbye = true;
    if (this.#state.kind !== "active" || this.#state.server.exchange.stalled) this.leave("client said goodbye");
  }

  seek(target: Target): Server | null {
    this.target = target;
    const server = this.#context.steering.seek(this);
    if (server !== null) this.#take(server);
    else if (this.#state.kind === "idle") this.#wait();
    return this.server;
  }

  /** idle or waiting → active; or, where settings must be in force before anything else is sent, → settling first. */
  #take(server: Server): void {
    if (!this.session.mustPrepare(server)) return this.#attach(server);
    const pool = this.#takePool();
    const preparing: ClientState = { kind: "settling" };
    this.#state = preparing;
    this.#preparing = preparing;
    prepare(this.#context.clock, server, this.session, (error) => {
      const gone = this.#state !== preparing;
      if (gone || error !== null) pool.release(server, "transaction");
      if (gone) return;
      if (error !== null) return this.end(error);
      this.pool = pool;
      this.#attach(server);
      this.#advance();
    });
  }

  /** idle → waiting. */
  #wait(): void {
    this.waitingSince = this.#context.deadlines.add(this);
    this.#state = waiting;
  }

  waitExpired(): void {
    this.end(waitedTooLong(this.#context.steering.whyWaiting(this)));
  }

  /** idle or waiting → active. */
  #attach(server: Server): void {
    server.lend(this);
    this.#state = { kind: "active", server };
    tellUntold(this.session, server, this.#transport);
    this.#times?.asked();
    server.bringSettingsTo(this.session.settings, this.session.mapper === null);
  }

  granted(server: Server): void {
    const state = this.#state;
    assert(state.kind === "waiting", `granted while ${state.kind}`);
    this.#context.deadlines.remove(this);
    this.#context.traffic.waited(this.#context.clock.now() - this.waitingSince);
    this.#context.steering.witness.granted(this);
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

  get allSent(): boolean {
    return this.#transport.allSent;
  }

  flushReplies(): void {
    const flowing = this.#transport.flush();
    const state = this.#state;
    if (state.kind !== "active") return;
    if (!flowing) state.server.pauseReplies();
    // Requests were held back because too many were unanswered.
    if (this.#reader.intake.holding && !state.server.exchange.full) this.#advance();
    else if (this.#departure.ended) this.#leaveIfDone();
  }

  serverDrained(): void {
    if (!this.#reader.intake.holding) this.#transport.resume();
  }

  ownRequestFailed({ message }: ErrorFields): void {
    this.end(settingsNotRestored(message));
  }

  refusesTransaction(): boolean {
    if (this.session.statementMode) this.end(transactionRefused());
    return this.session.statementMode;
  }

  ready(status: number): void {
    const state = this.#state;
    if (state.kind !== "active") return;
    const owed = !state.server.exchange.empty;
    this.#times?.answered(status !== TransactionStatus.Idle, owed);
    if (owed) return this.#departure.ended ? this.#leaveIfDone() : undefined;
    this.session.answered(state.server);
    this.#replied = false;
    this.#resends = 0;
    if (status === TransactionStatus.Idle) {
      this.#context.traffic.transacted(this.target);
      const { atBoundary } = this.#reader.intake;
      if (atBoundary && this.session.unsettled) return this.#settle(state.server);
      if (atBoundary && !this.session.keepsServer) {
        this.#transport.flush();
        this.#state = idle;
        this.#giveBack(state.server);
      }
      if (this.#draining !== null) return this.end(this.#draining);
    }
    if (this.#state.kind === "idle") this.#advance();
    if (this.#departure.ended) this.#leaveIfDone();
  }

  /** active → settling, until the server has told what is in its session now; then → idle, or active again where that binds. */
  #settle(server: Server): void {
    const pool = this.#takePool();
    this.#transport.flush();
    this.#transport.pause();
    this.#state = { kind: "settling" };
    settle(this.#context.clock, server, this.session, this, (error) => {
      const here = this.#state.kind === "settling";
      const stays = here && error === null && this.session.keepsServer;
      if (!stays) pool.release(server, this.session.remains);
      if (error !== null) return this.end(error);
      if (here) this.#becomeIdle(stays ? { server, pool } : null);
      if (here) this.#advance();
    });
  }

  /** any → idle; at once active again with the server that it keeps. */
  #becomeIdle(kept: { readonly server: Server; readonly pool: Pool } | null = null): void {
    this.#state = idle;
    this.#times?.rested();
    this.pool = kept?.pool ?? this.pool;
    if (kept !== null) this.#take(kept.server);
    if (this.#draining !== null) this.end(this.#draining);
  }

  /** The rest of a message that was begun would be taken from what the next client says. */
  #giveBack(server: Server): void {
    if (!this.#reader.intake.atBoundary) server.close({ kind: "ours", reason: "client left in mid-message" });
    this.#takePool().release(server, this.session.remains);
  }

  #takePool(): Pool {
    const { pool } = this;
    this.pool = null;
    assert(pool !== null, "a server without its pool");
    return pool;
  }

  /** A cancel request for a statement that still waits, or for which settings are brought about: it fails, unexecuted. */
  cancelWait(): void {
    if (this.#state.kind === "waiting") {
      this.#context.deadlines.remove(this);
      this.#context.steering.leave(this);
    } else if (this.#state.kind !== "settling" || this.#state !== this.#preparing) return;
    const error = waitCanceled();
    this.#context.traffic.countError(error.code);
    this.standIn(new FailedTransaction(error, false, false, this.session.mapper));
  }

  lost(cause: LossCause): void {
    const state = this.#state;
    if (state.kind !== "active") return;
    const { server } = state;
    const { steering, traffic } = this.#context;
    const view = this.#reader.lossView(cause, server, steering.isReplica(server), this.#replied, this.#resends);
    const pool = this.#takePool();
    const judged: ClientState = { kind: "settling" };
    this.#state = judged;
    this.#transport.pause();
    pool.release(server, "transaction");
    steering.judge(pool, cause, (memberLives) => {
      if (this.#state !== judged) return;
      this.#state = idle;
      const parts = { reader: this.#reader, transport: this.#transport, session: this.session, traffic };
      carryOut(aftermath({ ...view, memberLives }), server, this, parts);
    });
  }

  goOn(resent: boolean): void {
    if (resent) this.#resends += 1;
    this.#times?.rested();
    this.#advance();
    if (this.#draining !== null && phaseOf(this.#state) === "idle") this.end(this.#draining);
  }

  /** idle or waiting → failed. */
  standIn(transaction: FailedTransaction): void {
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
    if (phaseOf(this.#state) === "idle" || this.session.endless(this.server)) this.end(error);
  }

  /** Disconnects a client that takes too long, and asks one whose end is in doubt. */
  sweep(now: Millis): void {
    const overdue = this.#times?.overdue(now, phaseOf(this.#state)) ?? null;
    if (overdue !== null) this.end(overdue, 0);
    else this.#knock();
  }

  /** Says why, and ends the connection. What it has running may take `graceMs` to end, then it is canceled. */
  end(error: ProxyError, graceMs = RESET_TIMEOUT_MS): void {
    if (this.#state.kind === "closed") return;
    this.#context.traffic.countError(error.code);
    // In the middle of a reply no other message would be understood.
    if (this.server?.midReply) this.#transport.destroy();
    else this.#transport.say(errorResponse(error).finish());
    this.leave(error.message, graceMs);
  }

  /** any → closed. */
  leave(reason: string, graceMs = RESET_TIMEOUT_MS): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    this.#state = { kind: "closed" };
    if (state.kind === "waiting") {
      this.#context.deadlines.remove(this);
      this.#context.steering.leave(this);
    }
    if (state.kind === "active") {
      abandon(this.#context.clock, state.server, this.session, () => this.#giveBack(state.server), graceMs);
    }
    this.session.end();
    this.#transport.hangUp(this.#context.clock);
    this.#context.owner.clientClosed(this.identity, reason);
  }
}
