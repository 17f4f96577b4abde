// Connections to the HTTP port: so many, and when there is one more the oldest of the address that has most is closed, so that whoever
// holds them all keeps no health check out.

import type { Socket } from "node:net";
import { plainAddress } from "../core/addresses.ts";
import { Crowd } from "../proxy/crowd.ts";
import { originOf } from "../proxy/origin.ts";

/** Monitoring and balancers have a handful each. */
const CONNECTIONS_MAX = 128;

export class HttpConnections {
  readonly #crowd = new Crowd<Socket>();

  /** Takes one in. */
  enter(socket: Socket): void {
    if (this.#crowd.size >= CONNECTIONS_MAX) {
      const origin = this.#crowd.largest;
      const eldest = origin === null ? null : this.#crowd.eldest(origin);
      if (origin !== null && eldest !== null) {
        eldest.destroy();
        this.#crowd.leave(origin, eldest);
      }
    }
    const origin = originOf(plainAddress(socket.remoteAddress ?? ""));
    this.#crowd.enter(origin, socket);
    socket.once("close", () => this.#crowd.leave(origin, socket));
  }
}
