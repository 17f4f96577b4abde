// What a socket reads into: the same memory as long as its owner says that it has used everything, and never what somebody may
// still need.

import { once } from "node:events";
import { connect, createServer } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { RECEIVE_BYTES_MAX, RECEIVE_BYTES_MIN } from "../../../src/core/limits.ts";
import { ReceiveBuffer } from "../../../src/protocol/receive-buffer.ts";
import { Transport } from "../../../src/protocol/transport.ts";
import { waitFor } from "../../support/time.ts";

/** A received range, and what it said when it came. */
interface Received {
  readonly bytes: Buffer;
  readonly copy: Buffer;
}

/** Plays the socket: `read` puts bytes where it was told to; `used` answers what the owner says in the middle of it. */
class Sockets {
  readonly received: Received[] = [];
  readonly buffer = new ReceiveBuffer();
  readonly blocks = new Set<ArrayBufferLike>();
  during: () => void = () => {};
  #view = this.buffer.option.buffer();
  #next = 0;

  constructor() {
    this.buffer.deliver = (block, start, end) => {
      const bytes = block.subarray(start, end);
      this.received.push({ bytes, copy: Buffer.from(bytes) });
      this.during();
    };
  }

  get room(): number {
    return this.#view.length;
  }

  read(length: number): void {
    const view = this.#view;
    this.blocks.add(view.buffer);
    for (let at = 0; at < length; at += 1) view[at] = this.#next++ % 251;
    this.buffer.option.callback(length, view);
    this.#view = this.buffer.option.buffer();
  }

  /** Whether all that was received still says what it said. */
  get intact(): boolean {
    return this.received.every(({ bytes, copy }) => bytes.equals(copy));
  }
}

describe("a receive buffer", () => {
  test("is read into again and again while everything is used at once", () => {
    const socket = new Sockets();
    socket.during = () => socket.buffer.reuse();
    for (let count = 0; count < 1000; count += 1) socket.read(100 + (count % 50));
    expect(socket.blocks.size).toBe(1);
    expect(socket.room).toBe(RECEIVE_BYTES_MIN);
  });

  test("leaves what it brought to whoever got it, unless that says otherwise", () => {
    const socket = new Sockets();
    for (let count = 0; count < 1000; count += 1) socket.read(Math.min(socket.room, 1 + ((count * 37) % 5000)));
    expect(socket.intact).toBe(true);
    expect(socket.received.reduce((sum, { bytes }) => sum + bytes.length, 0)).toBeGreaterThan(1_000_000);
  });

  test("grows where a read fills it, and no further than its bound", () => {
    const socket = new Sockets();
    socket.during = () => socket.buffer.reuse();
    for (let count = 0; count < 10; count += 1) socket.read(socket.room);
    expect(socket.room).toBe(RECEIVE_BYTES_MAX);
    expect(socket.blocks.size).toBe(2);
  });

  test("does with two blocks where each read is used only when the next one is due", () => {
    const socket = new Sockets();
    for (let count = 0; count < 1000; count += 1) {
      socket.read(socket.room);
      expect(socket.received.at(-1)?.bytes.equals(socket.received.at(-1)?.copy ?? Buffer.alloc(0))).toBe(true);
      socket.buffer.reuse();
    }
    expect(socket.blocks.size).toBeLessThanOrEqual(4);
  });

  test("keeps what a former owner was given, whatever the present one says", () => {
    const socket = new Sockets();
    for (let round = 0; round < 50; round += 1) {
      for (let count = 0; count < 3; count += 1) socket.read(Math.min(socket.room, 700 * (1 + (round % 5))));
      const kept = socket.received.splice(0);
      socket.buffer.forsake();
      socket.during = () => socket.buffer.reuse();
      for (let count = 0; count < 20; count += 1) {
        socket.read(Math.min(socket.room, 3000));
        socket.buffer.reuse();
      }
      socket.during = () => {};
      socket.received.splice(0);
      expect(kept.every(({ bytes, copy }) => bytes.equals(copy))).toBe(true);
    }
  });

  test("keeps it too where it changes hands in the middle of a read", () => {
    const socket = new Sockets();
    for (let round = 0; round < 50; round += 1) {
      socket.during = () => {
        socket.buffer.forsake();
        socket.buffer.reuse();
      };
      socket.read(Math.min(socket.room, 2000));
      const kept = socket.received.splice(0);
      socket.during = () => socket.buffer.reuse();
      for (let count = 0; count < 20; count += 1) socket.read(Math.min(socket.room, 3000));
      socket.received.splice(0);
      expect(kept.every(({ bytes, copy }) => bytes.equals(copy))).toBe(true);
    }
  });
});

describe("a transport that reads into one", () => {
  const ends: (() => void)[] = [];

  afterEach(() => {
    for (const end of ends.splice(0)) end();
  });

  test("gets every byte in order, paused and resumed at will, and hears of the end once", async () => {
    const listener = createServer();
    ends.push(() => void listener.close());
    await once(listener.listen(0, "127.0.0.1"), "listening");
    const address = listener.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    const received = new ReceiveBuffer();
    const socket = connect({ port: address.port, host: "127.0.0.1", onread: received.option });
    const [peer] = await once(listener, "connection");
    ends.push(() => peer.destroy());
    const events: string[] = [];
    const blocks = new Set<ArrayBufferLike>();
    let [bytes, wrong] = [0, 0];
    const transport: Transport = new Transport(
      socket,
      {
        bytes: (buffer, start, end) => {
          blocks.add(buffer.buffer);
          for (let at = start; at < end; at += 1) if (buffer[at] !== bytes++ % 251) wrong += 1;
          transport.reuse();
          transport.pause();
          setImmediate(() => transport.resume());
        },
        drained: () => {},
        ended: () => events.push("ended"),
        closed: () => events.push("closed"),
      },
      received,
    );
    ends.push(() => transport.destroy());
    const all = Buffer.from(Array.from({ length: 5_000_000 }, (_, at) => at % 251));
    peer.end(all);
    await waitFor(() => events.includes("ended"), { timeoutMs: 10_000, intervalMs: 5, what: "the end" });
    transport.end();
    await waitFor(() => events.includes("closed"), { timeoutMs: 10_000, intervalMs: 5, what: "the close" });
    expect([bytes, wrong, events]).toEqual([all.length, 0, ["ended", "closed"]]);
    // The first size, and the second.
    expect(blocks.size).toBe(2);
  });
});
