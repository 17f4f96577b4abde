// Transport over real sockets: every byte once and in order, a slow peer is told of, and the end is told exactly once.

import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Transport, type TransportSink } from "../../../src/protocol/transport.ts";
import { waitFor } from "../../support/time.ts";

/** Notes what it hears. */
class Ear implements TransportSink {
  readonly chunks: Buffer[] = [];
  readonly events: string[] = [];
  /** Depth of calls to the transport: no event may come from within one. */
  inside = false;

  bytes(buffer: Buffer, start: number, end: number): void {
    this.chunks.push(buffer.subarray(start, end));
  }
  drained(): void {
    this.events.push("drained");
  }
  ended(): void {
    this.events.push("ended");
  }
  closed(error: Error | null): void {
    if (this.inside) this.events.push("from within");
    this.events.push(error === null ? "closed" : "closed with error");
  }
  get text(): string {
    return Buffer.concat(this.chunks).toString("latin1");
  }
}

let server: Server;
let transport: Transport;
let peer: Socket;
let ear: Ear;

const until = (what: string, look: () => boolean): Promise<true> =>
  waitFor(look, { timeoutMs: 10_000, intervalMs: 5, what });

beforeEach(async () => {
  server = createServer({ allowHalfOpen: true });
  const accepted = once(server, "connection");
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  peer = connect({ port: address.port, host: "127.0.0.1", allowHalfOpen: true });
  peer.on("error", () => {});
  const [socket] = (await accepted) as [Socket];
  ear = new Ear();
  transport = new Transport(socket, ear);
});

afterEach(async () => {
  peer.destroy();
  transport.destroy();
  await new Promise((resolve) => server.close(resolve));
});

describe("Transport", () => {
  test("gathers what is added and sends it with one flush", async () => {
    const heard: Buffer[] = [];
    peer.on("data", (chunk: Buffer) => heard.push(chunk));
    const buffer = Buffer.from("abcdef");
    transport.add(buffer, 0, 2);
    transport.add(buffer, 4, 6);
    expect(transport.flush()).toBe(true);
    expect(transport.flush()).toBe(true);
    await until("all has arrived", () => Buffer.concat(heard).toString() === "abef");
    expect(heard).toHaveLength(1);
  });

  test("says when the peer is slow, and when it no longer is; no byte is lost", async () => {
    const chunk = Buffer.alloc(65_536, "x");
    peer.pause();
    let sent = 0;
    let flowing = true;
    while (flowing && sent < 4_096) {
      transport.add(chunk, 0, chunk.length);
      flowing = transport.flush();
      sent += 1;
    }
    expect(flowing).toBe(false);
    expect(transport.congested).toBe(true);
    expect(transport.flush()).toBe(false);
    let received = 0;
    peer.on("data", (bytes: Buffer) => {
      received += bytes.length;
    });
    peer.resume();
    await until("the peer has drained it", () => ear.events.includes("drained") && received === sent * chunk.length);
    expect(transport.congested).toBe(false);
    expect(ear.events).toEqual(["drained"]);
  });

  test("reads nothing while paused, and goes on where it was", async () => {
    transport.pause();
    expect(transport.paused).toBe(true);
    peer.write("held");
    await until("it has left", () => peer.writableLength === 0);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(ear.text).toBe("");
    transport.resume();
    await until("it is read", () => ear.text === "held");
  });

  test("keeps the order where it is paused by what it reads, again and again", async () => {
    const sent = Array.from({ length: 200 }, (_, number) => `${number} `.repeat(2_000)).join("");
    peer.end(sent);
    ear.bytes = (buffer, start, end) => {
      ear.chunks.push(buffer.subarray(start, end));
      transport.pause();
      setImmediate(() => transport.resume());
    };
    await until("the end is heard", () => ear.events.includes("ended"));
    expect(ear.text === sent).toBe(true);
  });

  test("tells of the peer's end, and can still be written to", async () => {
    const heard: Buffer[] = [];
    peer.on("data", (chunk: Buffer) => heard.push(chunk));
    peer.end("last");
    await until("the end is heard", () => ear.events.includes("ended"));
    expect(ear.text).toBe("last");
    transport.write(Buffer.from("answer"));
    transport.end();
    await until("the answer has come", () => Buffer.concat(heard).toString() === "answer");
    await until("it is closed", () => ear.events.includes("closed"));
    expect(ear.events).toEqual(["ended", "closed"]);
  });

  test("ends after what was gathered, even paused, and drops what still comes", async () => {
    const heard: Buffer[] = [];
    peer.on("data", (chunk: Buffer) => heard.push(chunk));
    transport.pause();
    const words = Buffer.from("last words");
    transport.add(words, 0, words.length);
    transport.end();
    await once(peer, "end");
    expect(Buffer.concat(heard).toString()).toBe("last words");
    peer.end("too late");
    await until("it is closed", () => ear.events.includes("closed"));
    transport.destroy();
    transport.end();
    expect(transport.write(words)).toBe(true);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(ear.events.filter((event) => event.startsWith("closed"))).toHaveLength(1);
  });

  test("says closed exactly once, and never from within a call, however it is destroyed", async () => {
    ear.inside = true;
    transport.destroy();
    transport.destroy();
    ear.inside = false;
    await until("it is closed", () => ear.events.length > 0);
    transport.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(ear.events).toEqual(["closed"]);
  });

  test("says closed once, with the error, when the peer resets the connection", async () => {
    peer.resetAndDestroy();
    await until("it is closed", () => ear.events.some((event) => event.startsWith("closed")));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(ear.events).toEqual(["closed with error"]);
  });

  test("tells a new owner alone what comes after it took over, and what the former one left", async () => {
    const heir = new Ear();
    transport.attach(heir);
    transport.deliver(Buffer.from("..left.."), 2, 6);
    peer.end(" and more");
    await until("all is heard", () => heir.events.includes("ended"));
    expect(heir.text).toBe("left and more");
    expect(ear.chunks).toEqual([]);
    expect(ear.events).toEqual([]);
  });

  test("keeps the order of a stream in both directions at once", async () => {
    const size = 3_000_000;
    const stream = Buffer.from(Array.from({ length: size }, (_, index) => (index * 31) & 0xff));
    const back: Buffer[] = [];
    peer.on("data", (chunk: Buffer) => back.push(chunk));
    peer.write(stream);
    for (let at = 0; at < size; at += 7_001) transport.add(stream, at, Math.min(size, at + 7_001));
    transport.flush();
    const total = (chunks: readonly Buffer[]) => chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    await until("both have all", () => total(back) === size && total(ear.chunks) === size);
    expect(Buffer.concat(back).equals(stream)).toBe(true);
    expect(Buffer.concat(ear.chunks).equals(stream)).toBe(true);
  });
});
