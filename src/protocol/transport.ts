// A socket as the data plane wants it: bytes in to one typed sink, bytes out gathered into as few writes as possible, a word when
// the peer is slow, and exactly one word when it is gone.

import { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import { Readable } from "node:stream";
import { assert } from "../core/assert.ts";
import type { Clock, Timer } from "../core/clock.ts";
import { LINGER_MS } from "../core/limits.ts";
import { millis } from "../core/units.ts";
import { Gather } from "./gather.ts";
import { ReceiveBuffer } from "./receive-buffer.ts";
import type { Receiver } from "./shared-reading.ts";

export interface TransportSink {
  /** Bytes arrived. `buffer` is the receiver's to keep, unless it says `reuse`. */
  bytes(buffer: Buffer, start: number, end: number): void;
  /** The peer has taken what was written: a `flush` that returned false is made good. */
  drained(): void;
  /** The peer will send nothing more; it may still read. */
  ended(): void;
  /** Gone, for whatever reason; `error` is null for an orderly end. Called exactly once, never from within a call to us. */
  closed(error: Error | null): void;
}

export class Transport {
  #socket: Socket;
  #sink: TransportSink;
  #error: Error | null = null;
  readonly #out = new Gather();
  #paused = false;
  #linger: Timer | null = null;
  #received: ReceiveBuffer | null;

  /** `received`: what `socket` was told to read into, if anything. */
  constructor(socket: Socket, sink: TransportSink, received: ReceiveBuffer | Receiver | null = null) {
    this.#socket = socket;
    this.#sink = sink;
    this.#received = received instanceof ReceiveBuffer ? received : null;
    if (received !== null) received.deliver = (buffer, start, end) => this.#sink.bytes(buffer, start, end);
    this.#listen();
  }

  get socket(): Socket {
    return this.#socket;
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** Whether the peer is slow: what was written has not left yet. */
  get congested(): boolean {
    return this.#socket.writableNeedDrain;
  }

  /** Whether nothing that was added or written waits to leave. */
  get allSent(): boolean {
    return this.#out.length === 0 && this.#socket.writableLength === 0;
  }

  /** All bytes received so far have been used, those of the present call included: their memory is free. */
  reuse(): void {
    this.#received?.reuse();
  }

  /** Whether bytes received before the present call keep memory that could be read into again. */
  get holdsEarlier(): boolean {
    return this.#received?.holdsEarlier === true;
  }

  /** All bytes received before the present call have been used. */
  reuseEarlier(): void {
    this.#received?.reuseEarlier();
  }

  /** Bytes received so far are in somebody's hands who will not say when they have been used. */
  forsake(): void {
    this.#received?.forsake();
  }

  /** Hands the stream to another owner. */
  attach(sink: TransportSink): void {
    this.#sink = sink;
  }

  /** Gives bytes that the former owner left unread to the present one. */
  deliver(buffer: Buffer, start: number, end: number): void {
    this.#sink.bytes(buffer, start, end);
  }

  /** Continues on a socket that wraps the present one (TLS). */
  wrap(make: (socket: Socket) => Socket): void {
    assert(this.#out.length === 0, "wrapped with bytes unsent");
    for (const event of ["data", "end", "error", "close", "drain"]) this.#socket.removeAllListeners(event);
    // The wrapped socket reports its end through the wrapper; an error of its own must not go unheard.
    this.#socket.on("error", (error) => {
      this.#error ??= error;
    });
    // TLS takes the bytes from below and has memory of its own.
    this.#received = null;
    const secure = make(this.#socket);
    this.#socket = secure;
    // A TLSSocket that is a server's without a tls.Server keeps to itself what goes wrong behind the handshake: a record that is
    // forged would leave the connection there for good.
    secure.on("_tlsError", (error: Error) => secure.destroy(error));
    this.#listen();
  }

  #listen(): void {
    const socket = this.#socket;
    this.#shorten(socket);
    socket.on("data", (chunk: Buffer) => this.#sink.bytes(chunk, 0, chunk.length));
    socket.on("drain", () => this.#sink.drained());
    socket.on("end", () => this.#sink.ended());
    socket.on("error", (error) => {
      this.#error ??= error;
    });
    socket.on("close", () => {
      this.#linger?.cancel();
      this.#sink.closed(this.#error);
    });
    if (this.#paused) socket.pause();
  }

  /**
   * Net hands each read to `push`, which would carry it through the stream's buffer and look for more in the next tick, to emit it as
   * "data" after all. While the stream flows and its buffer is empty it can come to us at once.
   */
  #shorten(socket: Socket): void {
    socket.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
      const direct = chunk instanceof Buffer && socket.readableFlowing === true && socket.readableLength === 0;
      if (!direct || socket !== this.#socket) return Readable.prototype.push.call(socket, chunk, encoding);
      this.#sink.bytes(chunk, 0, chunk.length);
      return true;
    };
  }

  /** Gathers `buffer[start, end)` for the next flush; neighbouring ranges of one buffer are joined. No copy is made. */
  add(buffer: Buffer, start: number, end: number): void {
    this.#out.add(buffer, start, end);
  }

  /** Takes what was gathered, as one buffer; null when there is nothing. */
  take(): Buffer | null {
    return this.#out.take();
  }

  /** Writes what was gathered. False when the peer is slow: wait for `drained`. */
  flush(): boolean {
    const buffer = this.#out.take();
    return buffer === null ? !this.#socket.writableNeedDrain : this.write(buffer);
  }

  /** Writes `buffer`, which the caller does not touch again. False when the peer is slow. */
  write(buffer: Buffer): boolean {
    return this.#socket.writable ? this.#socket.write(buffer) : true;
  }

  /** Writes `message` behind what was gathered. */
  say(message: Buffer): void {
    this.#out.add(message, 0, message.length);
    this.flush();
  }

  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#socket.resume();
  }

  /** Sends what was gathered, then the end of the stream. What the peer still sends is read and dropped. */
  end(): void {
    this.flush();
    this.#socket.end();
    this.resume();
  }

  /** Ends our side; a peer that does not end its own is cut off after a while. */
  hangUp(clock: Clock): void {
    if (this.#socket.destroyed) return;
    this.end();
    this.#linger ??= clock.after(millis(LINGER_MS), () => this.destroy());
  }

  /** Closes at once; unsent bytes are lost. */
  destroy(): void {
    this.#socket.destroy();
  }
}
