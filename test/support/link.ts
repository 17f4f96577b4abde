// A TCP link that can be cut and mended: stands between a router and what it talks to, so that one loses the other while all else goes on.

import { connect, createServer, type Server, type Socket } from "node:net";
import { freePort } from "./ports.ts";

export class Link {
  readonly url: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #whole = true;

  private constructor(port: number, target: URL) {
    this.url = `http://127.0.0.1:${port}`;
    this.#server = createServer((socket) => {
      if (!this.#whole) return socket.destroy();
      const other = connect({ host: target.hostname, port: Number(target.port) });
      this.#join(socket, other);
      this.#join(other, socket);
    });
  }

  /** To the server behind an http URL. */
  static async to(target: string): Promise<Link> {
    const port = await freePort();
    const link = new Link(port, new URL(target));
    await new Promise<void>((resolve) => link.#server.listen({ host: "127.0.0.1", port }, resolve));
    return link;
  }

  #join(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    from.on("error", () => {});
    from.on("close", () => {
      this.#sockets.delete(from);
      to.destroy();
    });
    from.pipe(to);
  }

  /** Breaks what is open, and refuses what is new. */
  cut(): void {
    this.#whole = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#whole = true;
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}
