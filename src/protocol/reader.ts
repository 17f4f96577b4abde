// Reads fields of one message body, never past its end. Used where a message is read at all: login, errors, parameters.

/** A body that ends before its fields do, or goes on after them. The peer's fault, never a bug here. */
export class MalformedBody extends Error {
  override readonly name = "MalformedBody";
}

export class BodyReader {
  readonly #buffer: Buffer;
  readonly #end: number;
  #at: number;

  /** Reads `buffer[start, end)`. */
  constructor(buffer: Buffer, start: number, end: number) {
    this.#buffer = buffer;
    this.#at = start;
    this.#end = end;
  }

  get remaining(): number {
    return this.#end - this.#at;
  }

  int32(): number {
    const at = this.#take(4);
    return this.#buffer.readInt32BE(at);
  }

  byte(): number {
    return this.#buffer[this.#take(1)] as number;
  }

  /** A copy of the next `length` bytes. */
  bytes(length: number): Buffer {
    const at = this.#take(length);
    return Buffer.from(this.#buffer.subarray(at, at + length));
  }

  /** Text up to the next zero byte. `latin1` keeps every byte as it is. */
  string(encoding: "utf8" | "latin1" = "utf8"): string {
    const stop = this.#buffer.indexOf(0, this.#at);
    if (stop < 0 || stop >= this.#end) throw new MalformedBody("string without its end");
    const text = this.#buffer.toString(encoding, this.#at, stop);
    this.#at = stop + 1;
    return text;
  }

  #take(length: number): number {
    const at = this.#at;
    if (length < 0 || at + length > this.#end) throw new MalformedBody("body ends too early");
    this.#at = at + length;
    return at;
  }
}
