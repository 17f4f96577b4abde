// A connection of our own that asks one member for users' secrets: extended protocol, one parameter, the first row's first two columns.
// Apart from all pools, so that a login never waits behind one that is full. What it has read is overwritten once it is decoded.

import { assert } from "../core/assert.ts";
import type { Clock, Timer } from "../core/clock.ts";
import { WHOLE_BACKEND_MESSAGE_BYTES_MAX } from "../core/limits.ts";
import { millis } from "../core/units.ts";
import { Backend, Frontend, HEADER_BYTES } from "../protocol/constants.ts";
import { Framer, type FrameSink, STOP, type Verdict, WHOLE } from "../protocol/framer.ts";
import { decodeError, type ErrorFields, isFatal, terminate } from "../protocol/messages.ts";
import { BodyReader, MalformedBody } from "../protocol/reader.ts";
import type { Transport, TransportSink } from "../protocol/transport.ts";
import { MessageWriter } from "../protocol/writer.ts";
import { type LoginFailure, type LoginOptions, ServerLogin } from "./server-login.ts";

/** The name and the secret of the first row. */
export interface AuthRow {
  readonly name: string | null;
  readonly secret: string | null;
}

/** What came of a question; `sqlstate`: of the server's own refusal, null where there was none. */
export type AuthReply =
  | { readonly ok: true; readonly row: AuthRow | null }
  | { readonly ok: false; readonly reason: string; readonly sqlstate: string | null };

interface Question {
  readonly query: string;
  readonly user: string;
  readonly timeoutMs: number;
  readonly done: (reply: AuthReply) => void;
  readonly timer: Timer;
  /** Asked over a connection that was there before: it may be dead without our knowing. */
  reused: boolean;
  row: AuthRow | null;
  error: ErrorFields | null;
}

export class AuthConnection implements TransportSink, FrameSink {
  readonly #clock: Clock;
  readonly #options: Omit<LoginOptions, "timeoutMs">;
  readonly #framer = new Framer(this);
  #login: ServerLogin | null = null;
  #transport: Transport | null = null;
  #question: Question | null = null;

  constructor(clock: Clock, options: Omit<LoginOptions, "timeoutMs">) {
    this.#clock = clock;
    const parameters = new Map([
      ["application_name", "pgsteer"],
      ["client_encoding", "UTF8"],
    ]);
    this.#options = { ...options, parameters };
  }

  get busy(): boolean {
    return this.#question !== null;
  }

  /** Asks for `user`; logs in first where needed. One question at a time. One that takes too long costs the connection. */
  ask(query: string, user: string, timeoutMs: number, done: (reply: AuthReply) => void): void {
    assert(this.#question === null, "asked while a question is under way");
    const timer = this.#clock.after(millis(timeoutMs), () => this.#lost("timeout expired"));
    const reused = this.#transport !== null;
    this.#question = { query, user, timeoutMs, done, timer, reused, row: null, error: null };
    this.#put(this.#question);
  }

  #put(question: Question): void {
    if (this.#transport === null) this.#connect(question.timeoutMs);
    else this.#send(this.#transport, question);
  }

  /** Closes the connection. A question under way fails. */
  close(reason: string): void {
    this.#lost(reason);
  }

  #connect(timeoutMs: number): void {
    this.#login = new ServerLogin(
      this.#clock,
      { ...this.#options, timeoutMs },
      {
        loggedIn: (transport) => {
          this.#login = null;
          this.#transport = transport;
          this.#framer.reset();
          transport.attach(this);
          if (this.#question !== null) this.#send(transport, this.#question);
        },
        failed: (failure: LoginFailure) => {
          this.#login = null;
          this.#finish({ ok: false, reason: failure.reason, sqlstate: sqlstateOf(failure) });
        },
      },
    );
  }

  #send(transport: Transport, { query, user }: Question): void {
    const writer = new MessageWriter().message(Frontend.Parse).byte(0).string(query).byte(0).byte(0);
    // Unnamed portal and statement, formats of parameters by default (text), one parameter, results in text.
    writer.message(Frontend.Bind).byte(0).byte(0).byte(0).byte(0).byte(0).byte(1);
    const name = Buffer.from(user);
    writer.int32(name.length).bytes(name).byte(0).byte(0);
    writer.message(Frontend.Execute).byte(0).int32(1).message(Frontend.Sync);
    transport.write(writer.finish());
  }

  #finish(reply: AuthReply): void {
    const question = this.#question;
    this.#question = null;
    question?.timer.cancel();
    question?.done(reply);
  }

  #lost(reason: string): void {
    this.#hangUp();
    this.#finish({ ok: false, reason, sqlstate: null });
  }

  #hangUp(): void {
    this.#login?.abort();
    this.#login = null;
    const transport = this.#transport;
    if (transport === null) return;
    this.#transport = null;
    transport.attach(deaf);
    transport.write(terminate());
    transport.destroy();
  }

  // TransportSink

  bytes(buffer: Buffer, start: number, end: number): void {
    this.#framer.push(buffer, start, end);
    buffer.fill(0, start, end);
    this.#transport?.reuse();
  }

  drained(): void {}

  ended(): void {
    this.#dropped("server closed the connection");
  }

  closed(error: Error | null): void {
    this.#dropped(error?.message ?? "server closed the connection");
  }

  /** One that was kept may have died unheard: the question is put again over a new one. */
  #dropped(reason: string): void {
    const question = this.#question;
    if (question?.reused !== true || question.row !== null) return this.#lost(reason);
    this.#hangUp();
    question.reused = false;
    question.error = null;
    this.#put(question);
  }

  // FrameSink

  header(_type: number, length: number): Verdict {
    if (this.#transport !== null && length <= WHOLE_BACKEND_MESSAGE_BYTES_MAX) return WHOLE;
    this.#lost("server sent an oversized message");
    return STOP;
  }

  pass(): void {}

  malformed(): void {
    this.#lost("server does not speak the PostgreSQL protocol");
  }

  whole(type: number, buffer: Buffer, start: number, end: number): void {
    try {
      this.#message(type, buffer, start + HEADER_BYTES, end);
    } catch (error) {
      if (!(error instanceof MalformedBody)) throw error;
      this.#lost("server sent a malformed message");
    }
  }

  #message(type: number, buffer: Buffer, start: number, end: number): void {
    const question = this.#question;
    if (type === Backend.ErrorResponse) {
      const fields = decodeError(buffer, start, end);
      if (isFatal(fields)) return this.#dropped(fields.message);
      if (question !== null) question.error = fields;
    } else if (unasked.has(type)) return;
    else if (question === null) this.#lost("server answered what nobody asked");
    else if (type === Backend.DataRow) {
      question.row ??= decodeRow(buffer, start, end);
      buffer.fill(0, start, end);
    } else if (type === Backend.ReadyForQuery) {
      const { error, row } = question;
      this.#finish(error === null ? { ok: true, row } : { ok: false, reason: error.message, sqlstate: error.sqlstate });
    }
  }
}

/** What a server may say at any time. */
const unasked: ReadonlySet<number> = new Set([
  Backend.NoticeResponse,
  Backend.NotificationResponse,
  Backend.ParameterStatus,
]);

const deaf: TransportSink = { bytes: () => {}, drained: () => {}, ended: () => {}, closed: () => {} };

const sqlstateOf = (failure: LoginFailure): string | null =>
  failure.kind === "refused" ? failure.fields.sqlstate : failure.kind === "ours" ? failure.error.sqlstate : null;

/** Columns beyond the second are left alone, those that are missing are null. Throws MalformedBody. */
function decodeRow(buffer: Buffer, start: number, end: number): AuthRow {
  const reader = new BodyReader(buffer, start, end);
  const count = (reader.byte() << 8) | reader.byte();
  const next = (): string | null => {
    const length = reader.int32();
    if (length < 0) return null;
    const bytes = reader.bytes(length);
    const text = bytes.toString("utf8");
    bytes.fill(0);
    return text;
  };
  const name = count > 0 ? next() : null;
  return { name, secret: count > 1 ? next() : null };
}
