// A server that lets everybody in and answers every query with "done", for tests in which the number of connections is the matter
// and not what they do. Real ones are in postgres.ts.

import { createServer, type Server, type Socket } from "node:net";
import { cstring, int32, message } from "./raw-client.ts";

const welcome = Buffer.concat([
  message("R", int32(0)),
  message("S", cstring("in_hot_standby"), cstring("off")),
  message("K", int32(1), int32(1)),
  message("Z", Buffer.from("I")),
]);
const done = Buffer.concat([message("C", cstring("SELECT 0")), message("Z", Buffer.from("I"))]);

export class FakePostgres {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  private constructor(server: Server, sockets: Set<Socket>, port: number) {
    this.#server = server;
    this.#sockets = sockets;
    this.port = port;
  }

  static async start(): Promise<FakePostgres> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => sockets.delete(socket));
      serve(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    return new FakePostgres(server, sockets, address.port);
  }

  /** Breaks one of the connections. */
  breakOne(which: number): void {
    const all = [...this.#sockets];
    all[which % Math.max(1, all.length)]?.destroy();
  }

  stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}

function serve(socket: Socket): void {
  let pending = Buffer.alloc(0);
  let started = false;
  socket.on("data", (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    for (;;) {
      // The first message has no type.
      const header = started ? 1 : 0;
      if (pending.length < header + 4) return;
      const end = header + pending.readInt32BE(header);
      if (pending.length < end) return;
      const type = started ? pending.toString("latin1", 0, 1) : "";
      pending = pending.subarray(end);
      if (type === "X") socket.end();
      else socket.write(started ? done : welcome);
      started = true;
    }
  });
}
