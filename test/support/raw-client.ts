// A client that speaks the PostgreSQL protocol byte for byte, for tests in which the messages themselves are the matter
// (https://www.postgresql.org/docs/current/protocol-message-formats.html). Waits are bounded; nothing is retried.

import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { ServerAuthentication } from "../../src/auth/server-authentication.ts";
import type { Login } from "./sql.ts";

/** One message of the server. */
export interface RawMessage {
  readonly type: string;
  readonly body: Buffer;
}

/** Fields of an ErrorResponse or NoticeResponse by their code letter. */
export type RawFields = Readonly<Record<string, string>>;

const int16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
};

export const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};

export const cstring = (text: string): Buffer => Buffer.from(`${text}\0`);

/** A message with its type and length; without type for the startup phase. */
export function message(type: string, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}

/** StartupMessage 3.0, or of another minor version. */
export function startup(parameters: Readonly<Record<string, string>>, minor = 0): Buffer {
  const pairs = Object.entries(parameters).flatMap(([name, value]) => [cstring(name), cstring(value)]);
  return message("", int32(196_608 + minor), ...pairs, Buffer.alloc(1));
}

/** Messages of a client that is logged in. */
export const frontend = {
  query: (sql: string): Buffer => message("Q", cstring(sql)),
  parse: (sql: string, name = ""): Buffer => message("P", cstring(name), cstring(sql), int16(0)),
  bind: (statement = "", portal = ""): Buffer =>
    message("B", cstring(portal), cstring(statement), int16(0), int16(0), int16(0)),
  describe: (name = "", kind: "S" | "P" = "P"): Buffer => message("D", Buffer.from(kind), cstring(name)),
  execute: (rows = 0, portal = ""): Buffer => message("E", cstring(portal), int32(rows)),
  sync: (): Buffer => message("S"),
  flush: (): Buffer => message("H"),
  terminate: (): Buffer => message("X"),
  copyData: (bytes: Buffer): Buffer => message("d", bytes),
  copyDone: (): Buffer => message("c"),
  /** Parse, Bind, Describe, Execute, Sync of one statement without parameters. */
  extended: (sql: string, name = ""): Buffer =>
    Buffer.concat([
      frontend.parse(sql, name),
      frontend.bind(name),
      frontend.describe(),
      frontend.execute(),
      frontend.sync(),
    ]),
} as const;

/** Fields of an ErrorResponse or NoticeResponse. */
export function errorFields(body: Buffer): RawFields {
  const fields: Record<string, string> = {};
  for (let at = 0; at < body.length && body[at] !== 0; ) {
    const end = body.indexOf(0, at);
    fields[String.fromCharCode(body[at] ?? 0)] = body.toString("utf8", at + 1, end);
    at = end + 1;
  }
  return fields;
}

/** First column of a DataRow as text; null for NULL. */
export function firstColumn(body: Buffer): string | null {
  const length = body.readInt32BE(2);
  return length < 0 ? null : body.toString("utf8", 6, 6 + length);
}

/** Short for tests: `E FATAL 08007`, `Z I`, `C INSERT 0 1`, `D 42`, `EOF`, or the type alone. Notices and parameters are left out. */
export function outline(messages: readonly (RawMessage | null)[]): string[] {
  return messages
    .filter((each) => each === null || !["S", "N"].includes(each.type))
    .map((each) => {
      if (each === null) return "EOF";
      const { type, body } = each;
      if (type === "E") {
        const { V, C } = errorFields(body);
        return `E ${V} ${C}`;
      }
      if (type === "Z") return `Z ${body.toString("latin1")}`;
      if (type === "C") return `C ${body.toString("utf8", 0, body.length - 1)}`;
      return type === "D" ? `D ${firstColumn(body)}` : type;
    });
}

const DEADLINE_MS = 30_000;

/** One connection. */
export class RawClient {
  readonly socket: Socket;
  /** Everything that was reported by ParameterStatus, as last seen. */
  readonly parameters = new Map<string, string>();
  #pending: Buffer = Buffer.alloc(0);
  #ended = false;
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
      this.#wake();
    });
    const end = () => {
      this.#ended = true;
      this.#wake();
    };
    socket.on("error", end);
    socket.on("end", end);
    socket.on("close", end);
  }

  /** Speaks over a connection that is there already. */
  static over(socket: Socket): RawClient {
    return new RawClient(socket);
  }

  /** Connects, from `localAddress` if it is given; says nothing. */
  static open(port: number, host = "127.0.0.1", localAddress?: string): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host, ...(localAddress === undefined ? {} : { localAddress }) });
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.off("error", reject);
        socket.setNoDelay(true);
        resolve(new RawClient(socket));
      });
    });
  }

  /** Connects and logs in, up to the first ReadyForQuery. Rejects when the server refuses. */
  static async login(login: Login, parameters: Readonly<Record<string, string>> = {}): Promise<RawClient> {
    const client = await RawClient.open(login.port, login.host);
    client.send(startup({ user: login.user, database: login.database, ...parameters }));
    const seen = await client.authenticate(login.user, login.password);
    if (seen.at(-1)?.type !== "Z") throw new Error(`login: ${outline(seen).join(", ")}`);
    return client;
  }

  /** Answers the server's requests behind a startup message. Everything seen, up to ReadyForQuery, an error or the end (null). */
  async authenticate(user: string, password: string): Promise<(RawMessage | null)[]> {
    const authentication = new ServerAuthentication({
      user,
      secret: { kind: "plain", password },
      random: randomBytes,
    });
    const seen: (RawMessage | null)[] = [];
    for (;;) {
      const next = await this.next();
      seen.push(next);
      if (next === null || next.type === "Z" || next.type === "E") return seen;
      if (next.type !== "R") continue;
      const step = authentication.request(next.body.readInt32BE(0), next.body.subarray(4));
      if (step.kind === "failed") throw step.error;
      if (step.kind === "send") this.send(message("p", step.body));
    }
  }

  send(...messages: readonly Buffer[]): void {
    if (!this.socket.destroyed) this.socket.write(Buffer.concat(messages));
  }

  /** The next message; null at the end of the stream. Rejects when neither comes in time. */
  async next(timeoutMs = DEADLINE_MS): Promise<RawMessage | null> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const found = this.#take();
      if (found !== null) return found;
      if (this.#ended) return null;
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`no message within ${timeoutMs} ms`);
      await this.#more(left);
    }
  }

  /** `count` bytes as they are, for what has no message format; fewer at the end of the stream. */
  async bytes(count: number, timeoutMs = DEADLINE_MS): Promise<Buffer> {
    const deadline = performance.now() + timeoutMs;
    while (this.#pending.length < count && !this.#ended) {
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`no ${count} bytes within ${timeoutMs} ms`);
      await this.#more(left);
    }
    const found = this.#pending.subarray(0, count);
    this.#pending = this.#pending.subarray(count);
    return found;
  }

  /** All up to the next ReadyForQuery, or up to the end of the stream, which is null. */
  async untilReady(timeoutMs = DEADLINE_MS): Promise<(RawMessage | null)[]> {
    const seen: (RawMessage | null)[] = [];
    for (;;) {
      const next = await this.next(timeoutMs);
      seen.push(next);
      if (next === null || next.type === "Z") return seen;
    }
  }

  /** Everything up to the end of the stream. */
  async untilEnd(timeoutMs = DEADLINE_MS): Promise<(RawMessage | null)[]> {
    const seen: (RawMessage | null)[] = [];
    for (;;) {
      const next = await this.next(timeoutMs);
      seen.push(next);
      if (next === null) return seen;
    }
  }

  /** Sends one simple query and outlines what came back. */
  async simple(sql: string, timeoutMs = DEADLINE_MS): Promise<string[]> {
    this.send(frontend.query(sql));
    return outline(await this.untilReady(timeoutMs));
  }

  /** Sends one statement by the extended protocol and outlines what came back. */
  async extended(sql: string, name = ""): Promise<string[]> {
    this.send(frontend.extended(sql, name));
    return outline(await this.untilReady());
  }

  /** First column of the first row of a simple query; the whole outline where there is none. */
  async value(sql: string): Promise<string> {
    const seen = await this.simple(sql);
    return seen.find((each) => each.startsWith("D "))?.slice(2) ?? seen.join(", ");
  }

  /** Whether messages are there, or the end is, that nobody has read yet. */
  get heard(): boolean {
    return this.#pending.length > 0 || this.#ended;
  }

  destroy(): void {
    this.socket.destroy();
  }

  #take(): RawMessage | null {
    if (this.#pending.length < 5) return null;
    const length = this.#pending.readInt32BE(1);
    if (length < 4) throw new Error(`a message of length ${length}`);
    if (this.#pending.length < length + 1) return null;
    const found = { type: this.#pending.toString("latin1", 0, 1), body: this.#pending.subarray(5, length + 1) };
    this.#pending = this.#pending.subarray(length + 1);
    if (found.type === "S") {
      const [name = "", value = ""] = found.body.toString("utf8").split("\0");
      this.parameters.set(name, value);
    }
    return found;
  }

  #more(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
