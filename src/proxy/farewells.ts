// Last words to connections that are turned away at once, before anything was made for them. Only so many are waited for to take them:
// the rest is closed without.

import type { Socket } from "node:net";
import type { Clock } from "../core/clock.ts";
import { FAREWELLS_MAX, LINGER_MS } from "../core/limits.ts";
import { millis } from "../core/units.ts";

export class Farewells {
  readonly #clock: Clock;
  #size = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Those that have not closed their side yet. */
  get size(): number {
    return this.#size;
  }

  /** Sends `message`, empty for none, and ends `socket`, of which nothing has been read. */
  say(socket: Socket, message: Buffer): void {
    socket.on("error", () => {});
    if (message.length === 0 || this.#size >= FAREWELLS_MAX) {
      socket.destroy();
      return;
    }
    this.#size += 1;
    const linger = this.#clock.after(millis(LINGER_MS), () => socket.destroy());
    socket.on("close", () => {
      this.#size -= 1;
      linger.cancel();
    });
    // What it sends is read and dropped: an end with bytes unread would take our words with it.
    socket.resume();
    socket.end(message);
  }
}
