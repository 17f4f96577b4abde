// Cancel requests: from the key that we gave a client to the key of the server that it holds now, on a connection of its own, as
// the protocol asks (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS). A request
// that names nobody is closed without a word, so that keys cannot be guessed by asking.

import { timingSafeEqual } from "node:crypto";
import { connect } from "node:net";
import { netAddress } from "../core/addresses.ts";
import type { Clock } from "../core/clock.ts";
import { CANCEL_TIMEOUT_MS } from "../core/limits.ts";
import { millis } from "../core/units.ts";
import type { Server } from "../pool/server.ts";
import { cancelRequest } from "../protocol/startup.ts";

/** Whoever can be cancelled. */
export interface Cancellable {
  /** The server that it holds. */
  readonly server: Server | null;
  /** Cancels a statement that still waits for a server, if there is one. */
  cancelWait(): void;
}

interface Entry {
  readonly key: Buffer;
  readonly client: Cancellable;
}

/** Protocol 3.0 has room for no more. */
const KEY_BYTES_3_0 = 4;
/** From 3.2 on: as long as PostgreSQL's own, beyond guessing. */
const KEY_BYTES_3_2 = 32;

export class CancelKeys {
  readonly #clock: Clock;
  readonly #random: (bytes: number) => Buffer;
  readonly #entries = new Map<number, Entry>();

  constructor(clock: Clock, random: (bytes: number) => Buffer) {
    this.#clock = clock;
    this.#random = random;
  }

  /**
   * A pid (positive, as SQL's int4 takes it) and key for one client, unlike all that are in use. `minor` is the client's minor version
   * of the protocol.
   */
  issue(client: Cancellable, minor = 0): { readonly pid: number; readonly key: Buffer } {
    let pid = 0;
    while (pid === 0 || this.#entries.has(pid)) pid = this.#random(4).readUInt32BE(0) & 0x7fff_ffff;
    const key = this.#random(minor >= 2 ? KEY_BYTES_3_2 : KEY_BYTES_3_0);
    this.#entries.set(pid, { key, client });
    return { pid, key };
  }

  /** The client is gone. */
  revoke(pid: number): void {
    this.#entries.delete(pid);
  }

  /** Passes a request on, if it names a client whose server has work. `done` is called when the server has taken it. */
  cancel(pid: number, key: Buffer, done: (passedOn: boolean) => void): void {
    const entry = this.#entries.get(pid);
    const known = entry !== undefined && key.length === entry.key.length && timingSafeEqual(key, entry.key);
    const server = known ? entry.client.server : null;
    if (server !== null && !server.exchange.empty) return this.#passOn(server, done);
    if (known && server === null) entry.client.cancelWait();
    done(false);
  }

  /** Until the server has closed the connection the signal may still be on its way: it is lent to nobody else meanwhile. */
  #passOn(server: Server, done: (passedOn: boolean) => void): void {
    server.cancelsInFlight += 1;
    const { host, port } = server.endpoint;
    const socket = connect(netAddress(host, port));
    const timer = this.#clock.after(millis(CANCEL_TIMEOUT_MS), () => socket.destroy());
    socket.on("connect", () => socket.write(cancelRequest(server.pid, server.key)));
    socket.on("error", () => {});
    socket.on("close", () => {
      timer.cancel();
      server.cancelsInFlight -= 1;
      done(true);
    });
    socket.resume();
  }
}
