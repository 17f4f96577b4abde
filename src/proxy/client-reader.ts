// What a client sends: cut into messages, checked against the protocol's bounds, and passed to the server that the client holds,
// or held back until there is one.

import { ProxyError } from "../core/errors.ts";
import { WAITING_BYTES_MAX } from "../core/limits.ts";
import type { LossCause } from "../pool/loss.ts";
import type { Server } from "../pool/server.ts";
import { Frontend, HEADER_BYTES } from "../protocol/constants.ts";
import { DROP, type FrameSink, PASS, STOP, type Verdict, WHOLE } from "../protocol/framer.ts";
import { BodyReader, MalformedBody } from "../protocol/reader.ts";
import { opensTransaction } from "../routing/intent.ts";
import type { Target } from "../routing/target.ts";
import { refuseMessage } from "./client-messages.ts";
import { TEXT_BYTES_MAX } from "./failed-transaction.ts";
import type { LossView } from "./failover.ts";
import { Intake } from "./intake.ts";
import type { Session } from "./session.ts";
import { HELD } from "./statement-mapper.ts";

/** The client, as far as its reader needs it. */
export interface ReaderHost {
  readonly state: "idle" | "waiting" | "settling" | "active" | "failed" | "closed";
  /** The server that it holds while active. */
  readonly server: Server | null;
  /** idle → active with the server that is returned, or waiting, or closed. */
  seek(target: Target): Server | null;
  /** In state failed: answers a message; `body` is null where it is too long to matter. */
  answerFailed(type: number, body: Buffer | null): void;
  /** Ends the connection with an error. */
  end(error: ProxyError): void;
  /** The client has said Terminate. */
  goodbye(): void;
}

export class ClientReader implements FrameSink {
  readonly intake = new Intake(this);
  readonly #host: ReaderHost;
  readonly #target: Target;
  readonly #readsIntent: boolean;
  readonly #session: Session;

  /** `readsIntent`: whether a statement's first words may choose another target than the session's. */
  constructor(host: ReaderHost, target: Target, readsIntent: boolean, session: Session) {
    this.#host = host;
    this.#target = target;
    this.#readsIntent = readsIntent;
    this.#session = session;
  }

  /** Whether no more may be read of what the client sends. While it waits for a server a little is, so that its end is noticed. */
  get heldBack(): boolean {
    const { state } = this.#host;
    if (state === "waiting") return this.intake.heldBytes > WAITING_BYTES_MAX;
    return this.intake.holding || state === "settling";
  }

  header(type: number, length: number): Verdict {
    const { state } = this.#host;
    if (state === "closed" || state === "waiting" || state === "settling") return STOP;
    const refusal = refuseMessage(type, length);
    if (refusal !== null) {
      this.#host.end(new ProxyError("protocol_violation", refusal));
      return STOP;
    }
    if (type === Frontend.Terminate) {
      this.#host.goodbye();
      return STOP;
    }
    const { server } = this.#host;
    if (server !== null) return this.#toServer(server, type, length);
    return state === "idle" ? this.#whileIdle(type, length) : this.#whileFailed(type, length);
  }

  #whileIdle(type: number, length: number): Verdict {
    // Read and ignored outside a copy, as PostgreSQL does; there is nothing to flush either.
    if (type === Frontend.CopyData || type === Frontend.CopyDone || type === Frontend.CopyFail) return DROP;
    if (type === Frontend.Flush) return DROP;
    this.#session.mapper?.settled();
    const telling = this.#readsIntent && (type === Frontend.Query || type === Frontend.Parse);
    if (telling && length <= TEXT_BYTES_MAX) return WHOLE;
    const server = this.#host.seek(this.#target);
    return server === null ? STOP : this.#toServer(server, type, length);
  }

  #toServer(server: Server, type: number, length: number): Verdict {
    if (this.#session.bars(server, type)) return STOP;
    if (type === Frontend.Sync) this.#session.mapper?.synced();
    const verdict = this.#session.verdict(type, length);
    if (verdict === PASS) server.exchange.request(type);
    return verdict;
  }

  #whileFailed(type: number, length: number): Verdict {
    const read =
      type === Frontend.Query || type === Frontend.Parse || type === Frontend.Bind || type === Frontend.Describe;
    if (read && length <= TEXT_BYTES_MAX) return WHOLE;
    this.#host.answerFailed(type, null);
    return DROP;
  }

  pass(buffer: Buffer, start: number, end: number): void {
    const { server } = this.#host;
    if (server === null) return;
    this.#session.flight.add(buffer, start, end);
    server.add(buffer, start, end);
  }

  whole(type: number, buffer: Buffer, start: number, end: number): void {
    this.head(type, end - start - 1, buffer, start, end);
  }

  head(type: number, length: number, buffer: Buffer, start: number, end: number): boolean {
    const complete = end - start === length + 1;
    const { server, state } = this.#host;
    try {
      if (state === "failed")
        this.#host.answerFailed(type, complete ? buffer.subarray(start + HEADER_BYTES, end) : null);
      else if (server !== null) return this.#send(server, type, length, buffer, start, end);
      else if (complete) this.#dispatch(type, buffer, start, end);
      else this.#host.end(new ProxyError("server_error", "the server was lost while a message for it arrived"));
    } catch (error) {
      if (!(error instanceof MalformedBody)) throw error;
      this.#host.end(new ProxyError("protocol_violation", "invalid string in message"));
    }
    return true;
  }

  /** A message that was read to know where it goes. */
  #dispatch(type: number, buffer: Buffer, start: number, end: number): void {
    const server = this.#host.seek(this.#targetOf(type, buffer, start + HEADER_BYTES, end));
    if (server !== null) {
      this.#send(server, type, end - start - 1, buffer, start, end);
    } else if (this.#host.state === "waiting" || this.#host.state === "settling") {
      this.intake.putBack(Buffer.from(buffer.subarray(start, end)));
    }
  }

  /** To the server, as the server must see it. False where it has to wait for an answer, and is put back. */
  #send(server: Server, type: number, length: number, buffer: Buffer, start: number, end: number): boolean {
    let sent = true;
    if (type === Frontend.Query || type === Frontend.Parse) {
      const instead = this.#session.observe(server, type, length, buffer, start, end);
      if (instead !== null) this.#forward(server, type, instead.length - 1, instead, 0, instead.length);
      else this.#forward(server, type, length, buffer, start, end);
    } else sent = this.#forward(server, type, length, buffer, start, end);
    if (sent) this.#session.flight.add(buffer, start, end);
    else this.intake.putBack(Buffer.from(buffer.subarray(start, end)));
    return sent;
  }

  #forward(server: Server, type: number, length: number, buffer: Buffer, start: number, end: number): boolean {
    let from = start;
    const { mapper } = this.#session;
    if (mapper === null) server.exchange.request(type);
    else from = mapper.send(server, type, length, buffer, start, end);
    if (from === HELD) return false;
    if (from < end) server.add(buffer, from, end);
    return true;
  }

  /** What is known of a loss. What is in flight is taken. */
  lossView(cause: LossCause, server: Server, replica: boolean, replied: boolean, resends: number): LossView {
    const { mapper, keepsServer } = this.#session;
    return {
      cause,
      member: server.endpoint.member,
      keepsServer,
      replica,
      status: server.status,
      quiet: server.exchange.empty,
      midReply: server.midReply,
      replied,
      midRequest: !this.intake.atBoundary,
      flight: this.#session.lost(),
      resends,
      memberLives: false,
      textOf: (name) => mapper?.textOf(name) ?? null,
    };
  }

  malformed(): void {
    this.#host.end(new ProxyError("protocol_violation", "invalid message length"));
  }

  /** A transaction that says that it is read-only may go to a replica. */
  #targetOf(type: number, buffer: Buffer, start: number, end: number): Target {
    const reader = new BodyReader(buffer, start, end);
    if (type === Frontend.Parse) reader.string("latin1");
    const readOnly = opensTransaction(reader.string("latin1"))?.readOnly ?? null;
    if (readOnly === null) return this.#target;
    return readOnly ? "replica" : "primary";
  }
}
