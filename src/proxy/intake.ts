// A client's incoming stream: cuts it into messages and keeps what must not be read yet, because there is no server for it.

import { Framer, type FrameSink } from "../protocol/framer.ts";

const nothing = Buffer.alloc(0);

export class Intake {
  readonly #framer: Framer;
  #held: Buffer | null = null;

  constructor(sink: FrameSink) {
    this.#framer = new Framer(sink);
  }

  /** Whether something waits to be read. */
  get holding(): boolean {
    return this.#held !== null;
  }

  /** How much. */
  get heldBytes(): number {
    return this.#held?.length ?? 0;
  }

  /** Whether the stream stands between two messages. */
  get atBoundary(): boolean {
    return this.#framer.atBoundary;
  }

  /** Reads `buffer[start, end)`, as far as the sink lets it; holds the rest, and everything while something is held. */
  push(buffer: Buffer, start: number, end: number): void {
    if (this.#held !== null) {
      this.#hold(buffer.subarray(start, end));
      return;
    }
    const stopped = this.#framer.push(buffer, start, end);
    // What the framer keeps of a header comes behind what was put back, and before the rest.
    if (this.holding || this.#framer.stoppedInCarry) this.#hold(this.#framer.takeCarry() ?? nothing);
    if (stopped < end) this.#hold(buffer.subarray(stopped, end));
  }

  /** Reads on with what was held. */
  advance(): void {
    const held = this.#held;
    if (held === null) return;
    this.#held = null;
    this.push(held, 0, held.length);
  }

  /** Puts bytes back in front of everything that is still to be read. */
  putBack(bytes: Buffer): void {
    this.#held = this.#held === null ? bytes : Buffer.concat([bytes, this.#held]);
  }

  /** The rest of the message that is under way is dropped as it comes. */
  dropRest(): void {
    this.#framer.dropRest();
  }

  #hold(bytes: Buffer): void {
    this.#held = this.#held === null ? bytes : Buffer.concat([this.#held, bytes]);
  }
}
