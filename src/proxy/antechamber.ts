// A client that is let in and waits for its welcome: for a server, or for a leader. What it sends early is kept, within a bound, for
// the client that it becomes; and when it leaves, which applications do that give up connecting, that is noticed: otherwise all who
// gave up during a failover would count as clients until their wait is over.

import { WAITING_BYTES_MAX } from "../core/limits.ts";
import { parameterStatus } from "../protocol/messages.ts";
import type { Transport, TransportSink } from "../protocol/transport.ts";
import { MessageWriter } from "../protocol/writer.ts";

export class Antechamber implements TransportSink {
  readonly #transport: Transport;
  readonly #left: () => void;
  /** Null once nobody waits here any more. */
  #held: Buffer | null;
  #ended = false;

  /** `early`: what came behind the login. `left` is called when the connection is gone. */
  constructor(transport: Transport, early: Buffer, left: () => void) {
    this.#transport = transport;
    this.#held = early;
    this.#left = left;
    transport.attach(this);
  }

  bytes(buffer: Buffer, start: number, end: number): void {
    if (this.#held === null) return;
    this.#held = Buffer.concat([this.#held, buffer.subarray(start, end)]);
    if (this.#held.length > WAITING_BYTES_MAX) this.#transport.pause();
  }

  drained(): void {}

  ended(): void {
    this.#ended = true;
    this.knock();
  }

  closed(): void {
    this.#left();
  }

  /**
   * Asks one that sends nothing more whether it has gone, by a parameter that the welcome will tell anyway: the system of one that
   * has gone resets the connection, which the next call runs into.
   */
  knock(): void {
    if (!this.#ended || this.#held === null || this.#transport.congested) return;
    this.#transport.say(parameterStatus("client_encoding", "UTF8", new MessageWriter()).finish());
  }

  /** Nobody waits here any more. What came early, and whether nothing more will come. */
  dismiss(): { readonly early: Buffer; readonly ended: boolean } {
    const early = this.#held ?? Buffer.alloc(0);
    this.#held = null;
    return { early, ended: this.#ended };
  }
}
