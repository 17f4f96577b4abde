// One address and port where clients connect, and what it gives them: route, pool mode, login.

import { createServer, type Server as NetServer, type Socket } from "node:net";

export interface ListenerAddress {
  readonly name: string;
  readonly address: string;
  /** 0: any free port. */
  readonly port: number;
}

export class Listener {
  readonly #server: NetServer;
  readonly #where: ListenerAddress;

  constructor(where: ListenerAddress, accept: (socket: Socket) => void) {
    this.#where = where;
    // A client may close its sending side and still wait for answers.
    this.#server = createServer(
      { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 },
      accept,
    );
  }

  /** The port that it listens on. */
  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === "object" ? address.port : this.#where.port;
  }

  /** Rejects with Node's error when the address cannot be had. */
  open(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ host: this.#where.address, port: this.#where.port, backlog: 1024 }, () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
  }

  /** Takes no more connections; those that it took live on. */
  close(): void {
    this.#server.close();
  }
}
