// Builds messages. Several messages go into one buffer, so that what belongs together leaves in one write.

import { Buffer } from "node:buffer";
import { HEADER_BYTES } from "./constants.ts";

const INITIAL_BYTES = 256;

export class MessageWriter {
  #buffer = Buffer.allocUnsafe(INITIAL_BYTES);
  #at = 0;
  #lengthAt = -1;

  /** Starts a message of `type`; ends the one before. */
  message(type: number): this {
    this.#seal();
    this.#reserve(HEADER_BYTES);
    this.#buffer[this.#at] = type;
    this.#lengthAt = this.#at + 1;
    this.#at += HEADER_BYTES;
    return this;
  }

  /** Starts a packet without a type byte (startup phase). */
  packet(): this {
    this.#seal();
    this.#reserve(4);
    this.#lengthAt = this.#at;
    this.#at += 4;
    return this;
  }

  int32(value: number): this {
    this.#reserve(4);
    this.#at = this.#buffer.writeInt32BE(value, this.#at);
    return this;
  }

  byte(value: number): this {
    this.#reserve(1);
    this.#buffer[this.#at++] = value;
    return this;
  }

  bytes(value: Uint8Array): this {
    this.#reserve(value.length);
    this.#buffer.set(value, this.#at);
    this.#at += value.length;
    return this;
  }

  /** Text and its zero byte. */
  string(value: string, encoding: "utf8" | "latin1" = "utf8"): this {
    const length = Buffer.byteLength(value, encoding);
    this.#reserve(length + 1);
    this.#at += this.#buffer.write(value, this.#at, encoding);
    this.#buffer[this.#at++] = 0;
    return this;
  }

  /** All messages so far. The writer must not be used afterwards. */
  finish(): Buffer {
    this.#seal();
    return this.#buffer.subarray(0, this.#at);
  }

  #seal(): void {
    if (this.#lengthAt >= 0) this.#buffer.writeInt32BE(this.#at - this.#lengthAt, this.#lengthAt);
    this.#lengthAt = -1;
  }

  #reserve(extra: number): void {
    if (this.#at + extra <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#at + extra));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#buffer = larger;
  }
}
