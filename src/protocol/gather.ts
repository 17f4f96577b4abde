// Gathers ranges of buffers without copying them; neighbouring ranges of one buffer become one range.

import { Buffer } from "node:buffer";

export class Gather {
  #buffer: Buffer | null = null;
  #start = 0;
  #end = 0;
  #earlier: Buffer[] = [];
  #earlierBytes = 0;

  /** Bytes gathered. */
  get length(): number {
    return this.#earlierBytes + (this.#end - this.#start);
  }

  /** Adds `buffer[start, end)`; the buffer must not change until `take` or `clear`. */
  add(buffer: Buffer, start: number, end: number): void {
    if (this.#buffer === buffer && this.#end === start) {
      this.#end = end;
      return;
    }
    if (this.#buffer !== null) {
      const whole = this.#start === 0 && this.#end === this.#buffer.length;
      this.#earlier.push(whole ? this.#buffer : this.#buffer.subarray(this.#start, this.#end));
      this.#earlierBytes += this.#end - this.#start;
    }
    this.#buffer = buffer;
    this.#start = start;
    this.#end = end;
  }

  /** All of it, where it is one piece; null otherwise. It stays gathered. */
  peek(): Buffer | null {
    if (this.#buffer === null || this.#earlier.length > 0) return null;
    return this.#buffer.subarray(this.#start, this.#end);
  }

  /** All of it as one buffer, copied only where it came in several pieces; null when there is nothing. */
  take(): Buffer | null {
    const buffer = this.#buffer;
    if (buffer === null) return null;
    const start = this.#start;
    const end = this.#end;
    if (this.#earlier.length > 0) {
      const all = Buffer.allocUnsafe(this.length);
      let at = 0;
      for (const piece of this.#earlier) at += piece.copy(all, at);
      buffer.copy(all, at, start, end);
      this.clear();
      return all;
    }
    this.clear();
    return start === 0 && end === buffer.length ? buffer : buffer.subarray(start, end);
  }

  clear(): void {
    this.#buffer = null;
    this.#start = 0;
    this.#end = 0;
    if (this.#earlier.length > 0) this.#earlier = [];
    this.#earlierBytes = 0;
  }
}
