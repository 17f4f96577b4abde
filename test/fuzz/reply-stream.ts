// A server's stream cut into messages and looked at: only types that a server sends, only lengths that make sense. What a client
// hears through a router must keep to that, whatever happened before.

import { Backend } from "../../src/protocol/constants.ts";

const types: ReadonlySet<number> = new Set(Object.values(Backend));

export interface ReplySink {
  /** A complete message, from its type byte at `start` to its end; valid during the call only. */
  message(type: number, buffer: Buffer, start: number, end: number): void;
  /** What came is no server's message; nothing behind it is read. */
  broken(why: string): void;
}

export class ReplyStream {
  readonly #sink: ReplySink;
  readonly #lengthMax: number;
  #held: Buffer = Buffer.alloc(0);
  #wanted = 0;
  #pieces: Buffer[] = [];
  #pieceBytes = 0;
  #broken = false;

  /** `lengthMax`: the longest that makes sense. */
  constructor(sink: ReplySink, lengthMax: number) {
    this.#lengthMax = lengthMax;
    this.#sink = sink;
  }

  push(chunk: Buffer): void {
    if (this.#broken) return;
    this.#pieces.push(chunk);
    this.#pieceBytes += chunk.length;
    // A long message is put together once, when all of it is there.
    if (this.#held.length + this.#pieceBytes < this.#wanted) return;
    const buffer =
      this.#held.length === 0 && this.#pieces.length === 1 ? chunk : Buffer.concat([this.#held, ...this.#pieces]);
    this.#pieces = [];
    this.#pieceBytes = 0;
    const at = this.#cut(buffer);
    this.#held = at === buffer.length ? Buffer.alloc(0) : Buffer.from(buffer.subarray(at));
  }

  /** Hands over what is complete; returns where the rest begins. */
  #cut(buffer: Buffer): number {
    let at = 0;
    this.#wanted = 0;
    while (buffer.length - at >= 5) {
      const type = buffer.readUInt8(at);
      const length = buffer.readInt32BE(at + 1);
      if (!types.has(type) || length < 4 || length > this.#lengthMax) {
        this.#broken = true;
        const around = JSON.stringify(buffer.toString("latin1", Math.max(0, at - 60), at + 40));
        this.#sink.broken(`type 0x${type.toString(16)}, length ${length}, in ${around}`);
        return buffer.length;
      }
      const end = at + length + 1;
      if (end > buffer.length) {
        this.#wanted = length + 1;
        break;
      }
      this.#sink.message(type, buffer, at, end);
      at = end;
    }
    return at;
  }
}
