// Cuts a byte stream into messages without decoding or copying their bodies. The owner is asked once per message, at its header,
// what should become of it; forwarded bodies pass in whatever pieces they arrive in. Nothing is allocated per message, except
// where a message that is wanted whole arrives in pieces; the owner has then already checked its length.

import { Buffer } from "node:buffer";
import { HEAD_BYTES, MESSAGE_BYTES_MAX } from "../core/limits.ts";
import { HEADER_BYTES } from "./constants.ts";

/** Hand its bytes to `pass`, header included, as they come. */
export const PASS = 0;
/** Collect it and hand it to `whole`. The owner checks its length first. */
export const WHOLE = 1;
/** Skip it. */
export const DROP = 2;
/** Leave it, and all that follows, unread; `push` returns where it begins. */
export const STOP = 3;
/** Hand its beginning, at least HEAD_BYTES of it or all, to `head`; what is left passes. */
export const HEAD = 4;
export type Verdict = typeof PASS | typeof WHOLE | typeof DROP | typeof STOP | typeof HEAD;

export interface FrameSink {
  /** A header is complete. `length` counts itself (4 bytes) and the body. Asked again after a STOP. */
  header(type: number, length: number): Verdict;
  /** Bytes of a passing message. `buffer` belongs to the caller and is valid only during the call. */
  pass(buffer: Buffer, start: number, end: number): void;
  /** A whole message from its type byte (at `start`) to its end; valid only during the call. */
  whole(type: number, buffer: Buffer, start: number, end: number): void;
  /**
   * The beginning of a message from its type byte on, all of it where it is shorter; the rest, if any, passes. False to read no
   * further: then these bytes are the owner's, and what follows them is left unread, the rest of the message included.
   */
  head?(type: number, length: number, buffer: Buffer, start: number, end: number): boolean;
  /** A length that no message can have. The stream cannot be understood any further: `push` returns its end. */
  malformed(type: number, length: number): void;
}

export class Framer {
  readonly #sink: FrameSink;
  /** A header that was cut: its first `#carried` bytes. */
  readonly #carry = Buffer.alloc(HEADER_BYTES);
  #carried = 0;
  /** Bytes that the current message still lacks, and what becomes of them. */
  #remaining = 0;
  #verdict: Verdict = PASS;
  #collected: Buffer | null = null;
  #collectedBytes = 0;
  #unread = 0;
  /** The owner did not take the beginning that it was handed. */
  #refused = false;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Whether the stream stands between two messages. */
  get atBoundary(): boolean {
    return this.#remaining === 0 && this.#carried === 0;
  }

  /** While a whole message is handed over: the bytes behind it that were read with it. */
  get unread(): number {
    return this.#unread;
  }

  /** Whether a message is being passed on and has not ended: nothing else may follow it yet. */
  get midPass(): boolean {
    return this.#remaining > 0 && this.#verdict === PASS;
  }

  /** From now on the rest of a message that is being passed on is dropped. One that is being collected is not yet anybody's. */
  dropRest(): void {
    if (this.#collected === null) this.#verdict = DROP;
  }

  /** Takes back what was read of a header that is not complete, or was stopped; null when there is nothing. */
  takeCarry(): Buffer | null {
    if (this.#carried === 0) return null;
    const carried = Buffer.from(this.#carry.subarray(0, this.#carried));
    this.#carried = 0;
    return carried;
  }

  /** Whether a complete header was stopped, and is kept. */
  get stoppedInCarry(): boolean {
    return this.#carried === HEADER_BYTES;
  }

  /** Begins a new stream. */
  reset(): void {
    this.#carried = 0;
    this.#remaining = 0;
    this.#collected = null;
  }

  /** Takes `chunk[start, end)`. Returns where it stopped: `end`, the start of the message that got STOP, or where `head` refused. */
  push(chunk: Buffer, start: number, end: number): number {
    let at = start;
    this.#refused = false;
    if (this.#remaining > 0) at = this.#continue(chunk, at, end);
    if (this.#carried > 0 && this.#remaining === 0) {
      at = this.#completeHeader(chunk, at, end);
      if (this.#carried > 0) return at;
    }
    while (at < end && !this.#refused) {
      const available = end - at;
      if (available < HEADER_BYTES) {
        chunk.copy(this.#carry, 0, at, end);
        this.#carried = available;
        return end;
      }
      const type = chunk[at] as number;
      const length = chunk.readInt32BE(at + 1);
      const verdict = this.#judge(type, length);
      if (verdict === null) return end;
      if (verdict === STOP) return at;
      const size = length + 1;
      if (verdict === HEAD && available >= Math.min(size, HEAD_BYTES)) {
        const stop = Math.min(end, at + size);
        this.#begin(PASS, size);
        this.#remaining -= stop - at;
        this.#head(type, length, chunk, at, stop);
        at = stop;
      } else if (available >= size) {
        if (verdict === PASS) this.#sink.pass(chunk, at, at + size);
        else if (verdict === WHOLE) this.#whole(type, chunk, at, at + size, end);
        at += size;
      } else {
        this.#begin(verdict, size);
        at = this.#continue(chunk, at, end);
      }
    }
    return at;
  }

  #whole(type: number, buffer: Buffer, start: number, end: number, readTo: number): void {
    this.#unread = readTo - end;
    this.#sink.whole(type, buffer, start, end);
    this.#unread = 0;
  }

  #judge(type: number, length: number): Verdict | null {
    if (length < 4 || length > MESSAGE_BYTES_MAX) {
      this.#sink.malformed(type, length);
      return null;
    }
    return this.#sink.header(type, length);
  }

  #begin(verdict: Verdict, size: number): void {
    this.#verdict = verdict;
    this.#remaining = size;
    this.#collected = null;
    if (verdict === WHOLE) this.#collected = Buffer.allocUnsafe(size);
    else if (verdict === HEAD) this.#collected = Buffer.allocUnsafe(Math.min(size, HEAD_BYTES));
    this.#collectedBytes = 0;
  }

  #continue(chunk: Buffer, at: number, end: number): number {
    const collected = this.#collected;
    if (collected !== null) return this.#collect(collected, chunk, at, end);
    const stop = Math.min(end, at + this.#remaining);
    this.#remaining -= stop - at;
    if (this.#verdict === PASS && stop > at) this.#sink.pass(chunk, at, stop);
    return stop;
  }

  /** Adds to what is collected; when that is complete hands it over, and lets what is left of the message pass. */
  #collect(collected: Buffer, chunk: Buffer, at: number, end: number): number {
    const stop = Math.min(end, at + collected.length - this.#collectedBytes);
    chunk.copy(collected, this.#collectedBytes, at, stop);
    this.#collectedBytes += stop - at;
    this.#remaining -= stop - at;
    if (this.#collectedBytes < collected.length) return stop;
    this.#collected = null;
    const type = collected[0] as number;
    if (this.#verdict === WHOLE) this.#whole(type, collected, 0, collected.length, collected.length + end - stop);
    else {
      this.#verdict = PASS;
      this.#head(type, collected.readInt32BE(1), collected, 0, collected.length);
    }
    return this.#remaining > 0 && stop < end ? this.#continue(chunk, stop, end) : stop;
  }

  #head(type: number, length: number, buffer: Buffer, start: number, end: number): void {
    if (this.#sink.head?.(type, length, buffer, start, end) !== false) return;
    this.#refused = true;
    this.#remaining = 0;
  }

  /** Finishes a header that was cut. Returns the new position; leaves `#carried` above 0 when it is still cut, or was stopped. */
  #completeHeader(chunk: Buffer, at: number, end: number): number {
    const take = Math.min(HEADER_BYTES - this.#carried, end - at);
    chunk.copy(this.#carry, this.#carried, at, at + take);
    this.#carried += take;
    if (this.#carried < HEADER_BYTES) return at + take;
    const verdict = this.#judge(this.#carry[0] as number, this.#carry.readInt32BE(1));
    if (verdict === null) return end;
    if (verdict === STOP) return at + take;
    this.#begin(verdict, this.#carry.readInt32BE(1) + 1);
    this.#carried = 0;
    this.#continue(Buffer.from(this.#carry), 0, HEADER_BYTES);
    return this.#remaining > 0 ? this.#continue(chunk, at + take, end) : at + take;
  }
}
