// One logged-in connection to PostgreSQL. It cuts the server's stream into replies, keeps the ledger of what is owed, and hands
// replies to whoever holds the lease. It is in exactly one of the states idle, active, tested, closed (login is
// server-login.ts's), and one function moves it.

import { assert } from "../core/assert.ts";
import { MESSAGE_BYTES_MAX, WHOLE_BACKEND_MESSAGE_BYTES_MAX } from "../core/limits.ts";
import type { Millis } from "../core/units.ts";
import { Backend, HEADER_BYTES, TransactionStatus } from "../protocol/constants.ts";
import { Exchange, FAKE_DEALLOCATE, type Outcome, SWALLOW, UNEXPECTED } from "../protocol/exchange.ts";
import { DROP, Framer, type FrameSink, PASS, STOP, type Verdict, WHOLE } from "../protocol/framer.ts";
import { decodeError, decodeParameterStatus, isFatal, query, terminate } from "../protocol/messages.ts";
import { MalformedBody } from "../protocol/reader.ts";
import type { Transport, TransportSink } from "../protocol/transport.ts";
import { CancelsInFlight } from "./cancels-in-flight.ts";
import { droppingTags, tellingLengths, tellingTags } from "./command-tags.ts";
import { fakeAnswer } from "./fake-answers.ts";
import type { ServerHolder } from "./holder.ts";
import type { Endpoint, LoginFacts } from "./login-facts.ts";
import { type LossCause, lossFields } from "./loss.ts";
import { OwnAnswer, type OwnResult } from "./own-answer.ts";
import { followsClient, SettingsSet } from "./settings.ts";
import { describes } from "./shape.ts";
import { provoked, roleDoubts } from "./sqlstates.ts";
import { ServerStatements } from "./statements.ts";

/** Who owns the server: its pool. */
export interface ServerOwner {
  /** Left all lists: closed for whatever reason. */
  serverClosed(server: Server, cause: LossCause): void;
}

type State =
  | { readonly kind: "idle"; readonly since: Millis }
  | { readonly kind: "active"; readonly holder: ServerHolder }
  /** `holder`: whose server it is meanwhile, and who hears what comes unasked. */
  | {
      readonly kind: "tested";
      readonly done: (result: OwnResult) => void;
      readonly now: () => Millis;
      readonly holder: ServerHolder | null;
    }
  | { readonly kind: "closed" };

export class Server implements FrameSink, TransportSink {
  readonly endpoint: Endpoint;
  readonly parameters: Map<string, string>;
  readonly pid: number;
  readonly key: Buffer;
  readonly loggedInAt: Millis;
  readonly exchange = new Exchange();
  readonly statements = new ServerStatements();
  /** What connect_query has set: the settings from which its sessions start. */
  base: SettingsSet = SettingsSet.empty;
  /** A client has undone what connect_query did. */
  baseLost = false;
  /** Session settings in force beyond those of the login and of connect_query. */
  settings: SettingsSet = SettingsSet.empty;
  /** Transaction status at the last ReadyForQuery. */
  status: number = TransactionStatus.Idle;
  readonly cancels = new CancelsInFlight();
  /** Whether its role may be gone: to be asked before anybody else gets it. */
  doubtful = false;
  readonly #transport: Transport;
  readonly #framer = new Framer(this);
  readonly #owner: ServerOwner;
  #state: State;
  readonly #own = new OwnAnswer();

  constructor(transport: Transport, facts: LoginFacts, owner: ServerOwner) {
    this.endpoint = facts.endpoint;
    this.parameters = facts.parameters;
    this.pid = facts.pid;
    this.key = facts.key;
    this.loggedInAt = facts.loggedInAt;
    this.#transport = transport;
    this.#owner = owner;
    this.#state = { kind: "idle", since: facts.loggedInAt };
    transport.attach(this);
  }

  get state(): State["kind"] {
    return this.#state.kind;
  }

  get idleSince(): Millis {
    assert(this.#state.kind === "idle", "not idle");
    return this.#state.since;
  }

  /** Whether it is in the middle of a message, or has said more than what was read so far. */
  get midMessage(): boolean {
    return !this.#framer.atBoundary || this.#framer.unread > 0;
  }

  /** Whether part of a reply was handed over: nothing else can follow it. */
  get midReply(): boolean {
    return this.#framer.midPass;
  }

  /** idle → active. */
  lend(holder: ServerHolder): void {
    assert(this.#state.kind === "idle", `lent while ${this.#state.kind}`);
    this.#state = { kind: "active", holder };
  }

  /** active → idle. Its ledger is empty and it is outside a transaction. */
  takeBack(now: Millis): void {
    assert(this.#state.kind === "active", `taken back while ${this.#state.kind}`);
    assert(this.exchange.empty && this.status === TransactionStatus.Idle, "taken back dirty");
    this.#toIdle(now);
  }

  /** Whether what the holder was given is still on its way to the client. */
  #unsent(): boolean {
    const state = this.#state;
    const holder = state.kind === "active" || state.kind === "tested" ? state.holder : null;
    return holder !== null && !holder.allSent;
  }

  #toIdle(now: Millis): void {
    if (this.#unsent()) this.#transport.forsake();
    this.#state = { kind: "idle", since: now };
    this.#transport.resume();
  }

  /**
   * Queues SQL in front of what the holder sends next; leaves in the same write. `alone`: prepared statements are the holder's own
   * affair, and it must find none.
   */
  bringSettingsTo(wanted: SettingsSet, alone = false): void {
    if (!alone && wanted.equals(this.settings)) return;
    const drops = alone && this.statements.size > 0 ? "DEALLOCATE ALL" : null;
    const parts = [drops, wanted.sqlFrom(this.settings, this.base)];
    if (alone) {
      this.statements.clear();
      this.statements.unnamed = null;
    }
    const sql = parts.filter((part) => part !== null).join(";");
    if (sql === "") return;
    this.#ownQuery();
    this.send(query(sql));
    this.settings = wanted;
  }

  /** A simple query of our own, which takes the unnamed statement away, as any. */
  #ownQuery(): void {
    this.exchange.ownQuery();
    this.statements.unnamed = null;
  }

  /** Gathers a message of our own making for the server. */
  send(message: Buffer): void {
    this.#transport.add(message, 0, message.length);
  }

  /** Answers a simple query that deallocates a statement, when its turn comes. Not inside an open batch. */
  answerDeallocate(outcome: Outcome): void {
    const completed = (): void => (this.status === TransactionStatus.Failed ? outcome.failed() : outcome.completed());
    this.exchange.account(FAKE_DEALLOCATE, { ...outcome, completed });
  }

  /** Gives the answers that are ours to give, as far as it is their turn. Returns whether there were any. */
  #giveFakes(holder: ServerHolder): boolean {
    let given = false;
    for (let fake = this.exchange.takeFake(); fake !== null; fake = this.exchange.takeFake()) {
      const answer = fakeAnswer(fake, this.status);
      holder.reply(answer, 0, answer.length);
      given = true;
      if (fake === FAKE_DEALLOCATE) holder.ready(this.status);
    }
    return given;
  }

  /**
   * active or idle → tested: runs `sql` for ourselves. When `done` is called the server is idle again, or closed. Notifications
   * that come meanwhile are for `holder`.
   */
  run(sql: string, now: () => Millis, done: (result: OwnResult) => void, holder: ServerHolder | null = null): void {
    assert(this.#state.kind === "idle" || this.#state.kind === "active", `run while ${this.#state.kind}`);
    assert(this.exchange.empty, "run with replies owed");
    if (this.#unsent()) this.#transport.forsake();
    this.#state = { kind: "tested", done, now, holder };
    this.#ownQuery();
    this.#transport.write(query(sql));
  }

  /** Gathers bytes for the server; `flush` sends them. */
  add(buffer: Buffer, start: number, end: number): void {
    this.#transport.add(buffer, start, end);
  }

  /** Sends what was gathered. False when the server is slow: wait for `serverDrained`. */
  flush(): boolean {
    const flowing = this.#transport.flush();
    // Between two messages what is ours to answer can be answered at once.
    if (this.#state.kind === "active" && !this.midMessage) {
      const { holder } = this.#state;
      if (this.#giveFakes(holder)) holder.flushReplies();
    }
    return flowing;
  }

  /** Whether it does not take bytes as fast as they come. */
  get congested(): boolean {
    return this.#transport.congested;
  }

  pauseReplies(): void {
    this.#transport.pause();
  }

  resumeReplies(): void {
    if (!this.#unsent()) this.#transport.reuse();
    this.#transport.resume();
  }

  /** Says goodbye and closes. Safe in any state. */
  close(cause: LossCause): void {
    if (this.#state.kind === "closed") return;
    if (cause.kind === "fenced") {
      this.#transport.destroy();
    } else {
      this.#transport.take();
      this.#transport.write(terminate());
      this.#transport.end();
    }
    this.#lose(cause);
  }

  #lose(cause: LossCause): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    this.#state = { kind: "closed" };
    this.#transport.destroy();
    this.#owner.serverClosed(this, cause);
    if (state.kind === "active") state.holder.lost(cause);
    if (state.kind === "tested") state.done({ ok: false, fields: lossFields(cause) });
  }

  // TransportSink

  bytes(buffer: Buffer, start: number, end: number): void {
    if (this.#state.kind === "closed") return;
    if (this.#transport.holdsEarlier && !this.#unsent()) this.#transport.reuseEarlier();
    this.#framer.push(buffer, start, end);
    const state = this.#state;
    if (state.kind === "active" && !this.midMessage) this.#giveFakes(state.holder);
    if (state.kind === "active") state.holder.flushReplies();
    if (!this.#unsent()) this.#transport.reuse();
  }

  drained(): void {
    if (this.#state.kind === "active") this.#state.holder.serverDrained();
  }

  ended(): void {
    this.#endOfStream(null);
  }

  closed(error: Error | null): void {
    this.#endOfStream(error);
  }

  #endOfStream(error: Error | null): void {
    this.#lose({ kind: "closed", reason: error?.message ?? "server closed the connection unexpectedly" });
  }

  // FrameSink

  header(type: number, length: number): Verdict {
    const state = this.#state.kind;
    if (state === "closed") return STOP;
    if (type === Backend.ErrorResponse || type === Backend.ParameterStatus || type === Backend.ReadyForQuery) {
      if (length <= WHOLE_BACKEND_MESSAGE_BYTES_MAX) return WHOLE;
      this.#violation(`message type 0x${type.toString(16)} of ${length} bytes`);
      return STOP;
    }
    if (state === "idle") return this.#whileIdle(type);
    if (this.#state.kind === "active") this.#giveFakes(this.#state.holder);
    if (describes(type) && this.exchange.hearer !== null && length <= WHOLE_BACKEND_MESSAGE_BYTES_MAX) return WHOLE;
    const verdict = this.exchange.reply(type);
    if (verdict === UNEXPECTED) {
      this.#violation(`unexpected message type 0x${type.toString(16)}`);
      return STOP;
    }
    if (this.#state.kind === "tested" && type === Backend.NotificationResponse) {
      return this.#state.holder === null ? DROP : PASS;
    }
    if (verdict === SWALLOW || state === "tested") {
      return length <= WHOLE_BACKEND_MESSAGE_BYTES_MAX && this.#own.wants(type) ? WHOLE : DROP;
    }
    return type === Backend.CommandComplete && tellingLengths.has(length) ? WHOLE : PASS;
  }

  #whileIdle(type: number): Verdict {
    if (type === Backend.NoticeResponse || type === Backend.NotificationResponse) return DROP;
    this.#violation(`unexpected message type 0x${type.toString(16)} while idle`);
    return STOP;
  }

  pass(buffer: Buffer, start: number, end: number): void {
    const { kind } = this.#state;
    if (kind === "active" || kind === "tested") this.#state.holder?.reply(buffer, start, end);
  }

  whole(type: number, buffer: Buffer, start: number, end: number): void {
    try {
      if (type === Backend.ReadyForQuery) this.#readyForQuery(buffer, start, end);
      else if (type === Backend.ErrorResponse) this.#errorResponse(buffer, start, end);
      else if (type === Backend.ParameterStatus) this.#parameterStatus(buffer, start, end);
      else if (type === Backend.CommandComplete) this.#commandComplete(buffer, start, end);
      else if (describes(type)) this.#description(type, buffer, start, end);
      else this.#own.add(type, buffer, start, end);
    } catch (error) {
      if (!(error instanceof MalformedBody)) throw error;
      this.#violation(`malformed message of type 0x${type.toString(16)}`);
    }
  }

  malformed(type: number, length: number): void {
    this.#violation(`message type 0x${type.toString(16)} with length ${length}, at most ${MESSAGE_BYTES_MAX}`);
  }

  #readyForQuery(buffer: Buffer, start: number, end: number): void {
    if (end - start !== HEADER_BYTES + 1) throw new MalformedBody("ReadyForQuery of a wrong length");
    if (this.#state.kind === "active") this.#giveFakes(this.#state.holder);
    const own = this.exchange.own;
    if (this.exchange.reply(Backend.ReadyForQuery) === UNEXPECTED) return this.#violation("unexpected ReadyForQuery");
    this.status = buffer[start + HEADER_BYTES] as number;
    const state = this.#state;
    if (own) return this.#ownReady();
    if (state.kind !== "active") return;
    if (this.status !== TransactionStatus.Idle && state.holder.refusesTransaction()) return;
    state.holder.reply(buffer, start, end);
    state.holder.ready(this.status);
  }

  #ownReady(): void {
    const result = this.#own.take();
    const state = this.#state;
    if (state.kind === "tested") {
      this.#toIdle(state.now());
      state.done(result);
    } else if (state.kind === "active" && !result.ok) state.holder.ownRequestFailed(result.fields);
  }

  #errorResponse(buffer: Buffer, start: number, end: number): void {
    const fields = decodeError(buffer, start + HEADER_BYTES, end);
    if (isFatal(fields)) {
      // Not forwarded yet: what the client sees is decided when the connection ends, which is now.
      const message = Buffer.from(buffer.subarray(start, end));
      return this.#lose({ kind: "fatal", reason: fields.message, fields, message });
    }
    if (this.#state.kind === "active") this.#giveFakes(this.#state.holder);
    const replacement = provoked.has(fields.sqlstate) ? this.exchange.replacement : null;
    const verdict = this.exchange.reply(Backend.ErrorResponse);
    if (verdict === UNEXPECTED) return this.#violation("unexpected ErrorResponse");
    if (verdict === SWALLOW) this.#own.failed(fields);
    if (verdict === SWALLOW || this.#state.kind !== "active") return;
    if (roleDoubts.has(fields.sqlstate)) this.doubtful = true;
    const instead = this.#state.holder.session.failed(fields) ?? replacement;
    if (instead !== null) this.#state.holder.reply(instead, 0, instead.length);
    else this.#state.holder.reply(buffer, start, end);
  }

  /** Some commands change the session beyond their transaction. */
  #commandComplete(buffer: Buffer, start: number, end: number): void {
    if (this.#state.kind !== "active") return;
    this.#state.holder.reply(buffer, start, end);
    const tag = buffer.toString("latin1", start + HEADER_BYTES, end - 1);
    if (droppingTags.has(tag)) this.statements.clear();
    if (tellingTags.has(tag)) this.#state.holder.session.commandDone(tag);
  }

  /** An answer to a Describe that somebody hears, the client or we alone. */
  #description(type: number, buffer: Buffer, start: number, end: number): void {
    this.exchange.hearer?.hear?.(type, buffer, start + HEADER_BYTES, end);
    const verdict = this.exchange.reply(type);
    if (verdict === UNEXPECTED) return this.#violation("unexpected description");
    if (verdict !== SWALLOW && this.#state.kind === "active") this.#state.holder.reply(buffer, start, end);
  }

  #parameterStatus(buffer: Buffer, start: number, end: number): void {
    const { name, value } = decodeParameterStatus(buffer, start + HEADER_BYTES, end);
    this.parameters.set(name, value);
    // A rollback of our own undoes what a client has set.
    if (this.#state.kind === "tested" && this.settings.has(name)) this.settings = this.settings.with(name, value);
    if (this.#state.kind !== "active") return;
    if (this.exchange.own) {
      if (this.#state.holder.session.parameterRestored(name, value)) this.#state.holder.reply(buffer, start, end);
      return;
    }
    if (followsClient(name)) this.settings = this.settings.with(name, value);
    if (this.#state.holder.session.parameterChanged(name, value)) this.#state.holder.reply(buffer, start, end);
  }

  #violation(what: string): void {
    this.#lose({ kind: "violation", reason: `protocol violation by the server: ${what}` });
  }
}
