// A client that moves much and looks at little: it counts bytes and the ends of answers, reads as fast as it is told to, and
// writes no faster than its socket takes it.

import { RawClient } from "../test/support/raw-client.ts";
import type { Login } from "../test/support/sql.ts";
import { now, sleep } from "../test/support/time.ts";
import { BenchError } from "./testbed.ts";

/** How often a slow reader looks how much it may read by now. */
const TICK_MS = 20;
const HEADER_BYTES = 5;
const READY = "Z".charCodeAt(0);
const ERROR = "E".charCodeAt(0);

/** What came in answer to something. */
export interface Received {
  readonly bytes: number;
  /** ReadyForQuery messages. */
  readonly ready: number;
}

export class BulkClient {
  readonly #client: RawClient;
  /** Of the message under way: bytes that it still lacks; its header as far as it has come. */
  #lacking = 0;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  #bytes = 0;
  #ready = 0;
  #failure: Error | null = null;
  /** Bytes that may be read by now, since `#pacedSince`. */
  #rate: number | null = null;
  #pacedSince = 0;
  #pacedBytes = 0;
  #stopped = false;

  private constructor(client: RawClient) {
    this.#client = client;
    const { socket } = client;
    socket.removeAllListeners("data");
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("close", () => {
      this.#failure ??= new BenchError("the connection was closed");
    });
  }

  static async login(login: Login): Promise<BulkClient> {
    return new BulkClient(await RawClient.login(login));
  }

  /** Everything since the login. */
  get received(): Received {
    return { bytes: this.#bytes, ready: this.#ready };
  }

  /** From now on it reads `bytesPerSecond`; null: as fast as it comes; 0: nothing. */
  pace(bytesPerSecond: number | null): void {
    this.#rate = bytesPerSecond;
    this.#pacedSince = now();
    this.#pacedBytes = 0;
    this.#stopped = bytesPerSecond === 0;
    if (this.#stopped) this.#client.socket.pause();
    else this.#client.socket.resume();
  }

  /** Hands bytes to the socket; resolves once it would take more. */
  async send(bytes: Buffer): Promise<void> {
    const { socket } = this.#client;
    if (socket.write(bytes)) return;
    while (socket.writableNeedDrain && this.#failure === null) await sleep(1);
    if (this.#failure !== null) throw this.#failure;
  }

  /** Hands bytes to the socket, which keeps what it cannot send yet. */
  push(bytes: Buffer): void {
    this.#client.socket.write(bytes);
  }

  /** Waits for `count` ReadyForQuery messages since the login (which had one of its own that does not count). */
  async untilReady(count: number): Promise<void> {
    while (this.#ready < count) {
      if (this.#failure !== null) throw this.#failure;
      await sleep(1);
    }
  }

  /** Sends a query and waits for its end. */
  async run(query: Buffer): Promise<number> {
    const before = this.#bytes;
    const target = this.#ready + 1;
    await this.send(query);
    await this.untilReady(target);
    return this.#bytes - before;
  }

  destroy(): void {
    this.#client.destroy();
  }

  #take(chunk: Buffer): void {
    this.#bytes += chunk.length;
    this.#cut(chunk);
    if (this.#rate === null || this.#stopped) return;
    this.#pacedBytes += chunk.length;
    if (this.#pacedBytes < this.#allowed()) return;
    this.#client.socket.pause();
    this.#waitForAllowance();
  }

  #allowed(): number {
    return ((now() - this.#pacedSince) / 1000) * (this.#rate ?? 0);
  }

  #waitForAllowance(): void {
    setTimeout(() => {
      if (this.#rate === null) return;
      if (!this.#stopped && this.#pacedBytes < this.#allowed()) this.#client.socket.resume();
      else if (!this.#stopped) this.#waitForAllowance();
    }, TICK_MS);
  }

  #cut(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#lacking > 0) {
        const step = Math.min(this.#lacking, chunk.length - at);
        this.#lacking -= step;
        at += step;
        continue;
      }
      const copied = chunk.copy(this.#header, this.#headerBytes, at, at + HEADER_BYTES - this.#headerBytes);
      this.#headerBytes += copied;
      at += copied;
      if (this.#headerBytes < HEADER_BYTES) return;
      this.#headerBytes = 0;
      this.#lacking = this.#header.readInt32BE(1) - 4;
      if (this.#header[0] === READY) this.#ready += 1;
      if (this.#header[0] === ERROR)
        this.#failure ??= new BenchError(`error: ${chunk.toString("latin1", at, at + 200)}`);
    }
  }
}
