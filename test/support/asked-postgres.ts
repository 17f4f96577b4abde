// A server whose answers to auth_query a test makes up: lets everybody in, or says why not, and answers each question as it is told to,
// or not at all. Real ones are in postgres.ts.

import { createServer, type Server, type Socket } from "node:net";
import { cstring, int32, message } from "./raw-client.ts";

/** `hang` says nothing; `break` ends the connection; an error is sent with its SQLSTATE; otherwise the columns of one row, or none. */
export type Reply = "hang" | "break" | { readonly error: string } | readonly (string | null)[] | null;

const count = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
const error = (sqlstate: string, severity = "ERROR"): Buffer =>
  message(
    "E",
    cstring(`S${severity}`),
    cstring(`V${severity}`),
    cstring(`C${sqlstate}`),
    cstring(`Mit is ${sqlstate}`),
    Buffer.alloc(1),
  );
const ready = message("Z", Buffer.from("I"));
const welcome = Buffer.concat([message("R", int32(0)), message("K", int32(1), int32(1)), ready]);

function answer(reply: Exclude<Reply, "hang" | "break">): Buffer {
  const parsed = Buffer.concat([message("1"), message("2")]);
  if (reply !== null && "error" in reply) return Buffer.concat([error(reply.error), ready]);
  const columns = reply?.map((value) =>
    value === null ? int32(-1) : Buffer.concat([int32(Buffer.byteLength(value)), Buffer.from(value)]),
  );
  const row = columns === undefined ? Buffer.alloc(0) : message("D", count(columns.length), ...columns);
  return Buffer.concat([parsed, row, message("C", cstring("SELECT 1")), ready]);
}

export class AskedPostgres {
  /** What was asked, as `user@database`, in order. */
  readonly asked: string[] = [];
  /** Databases of the connections that were let in. */
  readonly logins: string[] = [];
  /** Refuses logins with this SQLSTATE. */
  refuses: string | null = null;
  port = 0;
  readonly #reply: (user: string, database: string) => Reply;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(reply: (user: string, database: string) => Reply) {
    this.#reply = reply;
    this.#server = createServer((socket) => this.#serve(socket));
  }

  static async start(reply: (user: string, database: string) => Reply): Promise<AskedPostgres> {
    const made = new AskedPostgres(reply);
    await new Promise<void>((resolve) => made.#server.listen(0, "127.0.0.1", resolve));
    const address = made.#server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    made.port = address.port;
    return made;
  }

  /** Open connections. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** Says something that nobody has asked for. */
  blurt(bytes: Buffer): void {
    for (const socket of this.#sockets) socket.write(bytes);
  }

  breakAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  stop(): Promise<void> {
    this.breakAll();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
    let pending = Buffer.alloc(0);
    let database: string | null = null;
    let user = "";
    socket.on("data", (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk]);
      for (;;) {
        const header: number = database === null ? 0 : 1;
        if (pending.length < header + 4) return;
        const end = header + pending.readInt32BE(header);
        if (pending.length < end) return;
        const [type, body] = [pending.toString("latin1", 0, header), pending.subarray(header + 4, end)];
        pending = pending.subarray(end);
        if (database === null) {
          database = /\0database\0([^\0]*)\0/.exec(body.toString("utf8"))?.[1] ?? "";
          if (this.refuses !== null) return void socket.end(error(this.refuses, "FATAL"));
          this.logins.push(database);
          socket.write(welcome);
        } else if (type === "B") {
          // Behind the portal, the statement, no formats and the number of parameters.
          user = body.toString("utf8", 10, 10 + body.readInt32BE(6));
        } else if (type === "S") {
          this.asked.push(`${user}@${database}`);
          const reply = this.#reply(user, database);
          if (reply === "break") socket.destroy();
          else if (reply !== "hang") socket.write(answer(reply));
        }
      }
    });
  }
}
