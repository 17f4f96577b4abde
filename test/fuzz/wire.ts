// One connection of a tester to a router: logs in, sends bytes as they are, and reports each message that comes back. Waits are
// bounded and never reject: what did not come is for the caller to judge.

import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { ScramDerivations } from "../../src/auth/scram.ts";
import { ServerAuthentication } from "../../src/auth/server-authentication.ts";
import { Backend } from "../../src/protocol/constants.ts";
import { errorFields, message, startup } from "../support/raw-client.ts";
import type { Login } from "../support/sql.ts";
import { type ReplySink, ReplyStream } from "./reply-stream.ts";

/** One derivation for all connections: a thousand logins shall not cost a thousand times 4096 hashes. */
const derivations = new ScramDerivations();

/** No test asks PostgreSQL for longer messages. */
const HONEST_LENGTH_MAX = 16_777_216;

export type Waited = "done" | "closed" | "late";

export class Wire implements ReplySink {
  readonly socket: Socket;
  /** ReadyForQuery messages so far. */
  readies = 0;
  /** Transaction status of the last of them, as a letter. */
  status = "";
  closed = false;
  /** Why the stream is no server's; null while it is. */
  brokenBy: string | null = null;
  /** What a cancel request needs. */
  key: Buffer | null = null;
  /** SQLSTATE of the last error. */
  lastError = "";
  readonly #stream: ReplyStream;
  readonly #hear: (type: number, buffer: Buffer, start: number, end: number) => void;
  #byteWanted = false;
  #authentication: ServerAuthentication | null = null;
  #waiter: { readonly satisfied: () => boolean; readonly settle: (how: Waited) => void } | null = null;

  /** `hear` gets each message. `lengthMax`: the longest that makes sense. */
  constructor(
    login: Login,
    hear: (type: number, buffer: Buffer, start: number, end: number) => void,
    lengthMax = HONEST_LENGTH_MAX,
  ) {
    this.#hear = hear;
    this.#stream = new ReplyStream(this, lengthMax);
    this.socket = connect({ host: login.host, port: login.port, noDelay: true, allowHalfOpen: false });
    this.socket.on("data", (chunk: Buffer) => {
      this.#stream.push(this.#byteWanted ? this.#withoutByte(chunk) : chunk);
      this.#look();
    });
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.closed = true;
      this.#look();
    });
  }

  /** The next byte answers an SSLRequest or GSSENCRequest, and is no message. */
  expectByte(): void {
    this.#byteWanted = true;
  }

  untilByte(timeoutMs: number): Promise<Waited> {
    return this.until(() => !this.#byteWanted, timeoutMs);
  }

  #withoutByte(chunk: Buffer): Buffer {
    this.#byteWanted = false;
    return chunk[0] === "N".charCodeAt(0) || chunk[0] === "S".charCodeAt(0) ? chunk.subarray(1) : chunk;
  }

  message(type: number, buffer: Buffer, start: number, end: number): void {
    if (type === Backend.ReadyForQuery) {
      this.readies += 1;
      this.status = buffer.toString("latin1", start + 5, end);
    } else if (type === Backend.Authentication) this.#authenticate(buffer.subarray(start + 5, end));
    else if (type === Backend.BackendKeyData) this.key = Buffer.from(buffer.subarray(start + 5, end));
    else if (type === Backend.ErrorResponse) this.lastError = errorFields(buffer.subarray(start + 5, end))["C"] ?? "";
    this.#hear(type, buffer, start, end);
  }

  broken(why: string): void {
    this.brokenBy = why;
    this.socket.destroy();
  }

  send(bytes: Buffer): void {
    if (!this.socket.destroyed && this.socket.writable) this.socket.write(bytes);
  }

  /** Sends a startup message and answers what is asked, up to the first ReadyForQuery. */
  login({ user, password, database }: Login, parameters: Readonly<Record<string, string>>, timeoutMs: number) {
    this.expectLogin(user, password);
    this.send(startup({ user, database, ...parameters }));
    return this.until(() => this.readies > 0, timeoutMs);
  }

  /** Answers requests for a password from now on. */
  expectLogin(user: string, password: string): void {
    const secret = { kind: "plain", password } as const;
    this.#authentication = new ServerAuthentication({ user, secret, random: randomBytes, derivations });
  }

  #authenticate(body: Buffer): void {
    if (this.#authentication === null || body.length < 4) return;
    const step = this.#authentication.request(body.readInt32BE(0), Buffer.from(body.subarray(4)));
    if (step.kind === "send") this.send(message("p", step.body));
    else if (step.kind === "failed") this.socket.destroy();
  }

  /** Waits for so many ReadyForQuery messages in all. */
  untilReady(total: number, timeoutMs: number): Promise<Waited> {
    return this.until(() => this.readies >= total, timeoutMs);
  }

  untilClosed(timeoutMs: number): Promise<Waited> {
    return this.until(() => this.closed, timeoutMs);
  }

  /** One wait at a time. */
  until(satisfied: () => boolean, timeoutMs: number): Promise<Waited> {
    if (satisfied()) return Promise.resolve("done");
    if (this.closed) return Promise.resolve("closed");
    return new Promise((resolve) => {
      const settle = (how: Waited) => {
        clearTimeout(timer);
        this.#waiter = null;
        resolve(how);
      };
      const timer = setTimeout(() => settle("late"), timeoutMs);
      this.#waiter = { satisfied, settle };
    });
  }

  #look(): void {
    const waiter = this.#waiter;
    if (waiter === null) return;
    if (waiter.satisfied()) waiter.settle("done");
    else if (this.closed) waiter.settle("closed");
  }
}
