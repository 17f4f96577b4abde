// One address and port where clients connect, or one Unix-domain socket: opens it, closes it, and leaves nothing behind.

import { createServer, type Server as NetServer, type Socket } from "node:net";
import { isSocketDirectory, netAddress, socketPath } from "../core/addresses.ts";
import { protectSocket, removeStaleSocket } from "./socket-file.ts";

export interface ListenerAddress {
  readonly name: string;
  /** Or the directory of a Unix-domain socket. */
  readonly address: string;
  /** 0: any free port. */
  readonly port: number;
  /** Permissions of a Unix-domain socket. */
  readonly unixSocketMode: number;
}

const BACKLOG = 1024;

export class Listener {
  readonly #server: NetServer;
  readonly #where: ListenerAddress;

  /** `accept` gets sockets that are paused. `failed` hears of connections that could not be accepted: too many open files, say. */
  constructor(where: ListenerAddress, accept: (socket: Socket) => void, failed: (error: Error) => void) {
    this.#where = where;
    // A client may close its sending side and still wait for answers.
    this.#server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, accept);
    this.#server.on("error", (error) => {
      if (this.#server.listening) failed(error);
    });
  }

  /** The port that it listens on. */
  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === "object" ? address.port : this.#where.port;
  }

  /** Rejects with Node's error when the address cannot be had. A socket file that nobody serves any more is replaced. */
  async open(): Promise<void> {
    const { address, port, unixSocketMode } = this.#where;
    const path = isSocketDirectory(address) ? socketPath(address, port) : null;
    if (path !== null) await removeStaleSocket(path);
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ ...netAddress(address, port), backlog: BACKLOG }, () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
    if (path !== null) protectSocket(path, unixSocketMode);
  }

  /** Takes no more connections, and removes its socket file; connections that it took live on. */
  close(): void {
    this.#server.close();
  }
}
