// What a client sends: cut into messages, checked against the protocol's bounds, and passed to the server that the client holds,
// or held back until there is one. Keeps what is in flight.

import { ProxyError } from "../core/errors.ts";
import type { Server } from "../pool/server.ts";
import { Frontend, HEADER_BYTES } from "../protocol/constants.ts";
import { DROP, type FrameSink, PASS, STOP, type Verdict, WHOLE } from "../protocol/framer.ts";
import { BodyReader, MalformedBody } from "../protocol/reader.ts";
import { opensTransaction } from "../routing/intent.ts";
import type { Target } from "../routing/target.ts";
import { refuseMessage } from "./client-messages.ts";
import { TEXT_BYTES_MAX } from "./failed-transaction.ts";
import { Flight } from "./flight.ts";
import { Intake } from "./intake.ts";

/** The client, as far as its reader needs it. */
export interface ReaderHost {
  readonly state: "idle" | "waiting" | "active" | "failed" | "closed";
  /** The server that it holds while active. */
  readonly server: Server | null;
  /** idle → active with the server that is returned, or waiting, or closed. */
  seek(target: Target): Server | null;
  /** In state failed: answers a message; `body` is null where it is too long to matter. */
  answerFailed(type: number, body: Buffer | null): void;
  pin(cause: string): void;
  /** Ends the connection with an error. */
  end(error: ProxyError): void;
  /** The client has said Terminate. */
  goodbye(): void;
}

export class ClientReader implements FrameSink {
  readonly intake = new Intake(this);
  readonly flight = new Flight();
  readonly #host: ReaderHost;
  readonly #target: Target;
  readonly #readsIntent: boolean;
  /** The next body that passes is a Parse's: its first byte tells whether the statement has a name. */
  #looksForName = false;

  /** `readsIntent`: whether a statement's first words may choose another target than the session's. */
  constructor(host: ReaderHost, target: Target, readsIntent: boolean) {
    this.#host = host;
    this.#target = target;
    this.#readsIntent = readsIntent;
  }

  header(type: number, length: number): Verdict {
    const { state } = this.#host;
    if (state === "closed" || state === "waiting") return STOP;
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
    if (server !== null) return this.#toServer(server, type);
    return state === "idle" ? this.#whileIdle(type, length) : this.#whileFailed(type, length);
  }

  #whileIdle(type: number, length: number): Verdict {
    // Read and ignored outside a copy, as PostgreSQL does; there is nothing to flush either.
    if (type === Frontend.CopyData || type === Frontend.CopyDone || type === Frontend.CopyFail) return DROP;
    if (type === Frontend.Flush) return DROP;
    const telling = this.#readsIntent && (type === Frontend.Query || type === Frontend.Parse);
    if (telling && length <= TEXT_BYTES_MAX) return WHOLE;
    const server = this.#host.seek(this.#target);
    return server === null ? STOP : this.#toServer(server, type);
  }

  #toServer(server: Server, type: number): Verdict {
    if (server.exchange.full) return STOP;
    server.exchange.request(type);
    if (type === Frontend.Parse) this.#looksForName = true;
    return PASS;
  }

  #whileFailed(type: number, length: number): Verdict {
    const read = type === Frontend.Query || type === Frontend.Parse || type === Frontend.Describe;
    if (read && length <= TEXT_BYTES_MAX) return WHOLE;
    this.#host.answerFailed(type, null);
    return DROP;
  }

  pass(buffer: Buffer, start: number, end: number): void {
    const { server } = this.#host;
    if (server === null) return;
    if (this.#looksForName) this.#lookForName(buffer, start, end);
    this.flight.add(buffer, start, end);
    server.add(buffer, start, end);
  }

  whole(type: number, buffer: Buffer, start: number, end: number): void {
    try {
      if (this.#host.state === "failed") this.#host.answerFailed(type, buffer.subarray(start + HEADER_BYTES, end));
      else this.#dispatch(type, buffer, start, end);
    } catch (error) {
      if (!(error instanceof MalformedBody)) throw error;
      this.#host.end(new ProxyError("protocol_violation", "invalid string in message"));
    }
  }

  /** A message that was read to know where it goes. */
  #dispatch(type: number, buffer: Buffer, start: number, end: number): void {
    const server = this.#host.seek(this.#targetOf(type, buffer, start + HEADER_BYTES, end));
    if (server !== null) {
      this.#toServer(server, type);
      this.pass(buffer, start, end);
    } else if (this.#host.state === "waiting") {
      this.intake.putBack(Buffer.from(buffer.subarray(start, end)));
    }
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

  /** A named statement lives on one server; until statements follow clients, the client stays with it. */
  #lookForName(buffer: Buffer, start: number, end: number): void {
    this.#looksForName = false;
    const unnamed = end - start > HEADER_BYTES && buffer[start + HEADER_BYTES] === 0;
    if (!unnamed) this.#host.pin("named_prepared_statement");
  }
}
