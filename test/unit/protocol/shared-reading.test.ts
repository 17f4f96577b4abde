// Connections that are taken over so that all of them read into one block: each gets its own bytes, whole and in order, and keeps
// them, whatever the others receive meanwhile.

import { once } from "node:events";
import { connect, createServer, type Server, Socket } from "node:net";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { RECEIVE_BYTES_MIN } from "../../../src/core/limits.ts";
import { Receiver, SharedReading } from "../../../src/protocol/shared-reading.ts";
import { Transport } from "../../../src/protocol/transport.ts";
import { waitFor } from "../../support/time.ts";

/** One connection as its owner sees it. */
interface Taken {
  readonly transport: Transport;
  readonly pieces: Buffer[];
  over: "" | "ended" | "closed";
}

let server: Server | null = null;
const sockets: Socket[] = [];

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  server?.close();
});

/** Where to connect; `taken` gets each connection. */
async function listen(taken: Taken[]): Promise<number> {
  const reading = new SharedReading();
  server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    const receiver = new Receiver();
    const pieces: Buffer[] = [];
    const one: Taken = {
      over: "",
      pieces,
      transport: new Transport(
        reading.take(socket, receiver),
        {
          bytes: (buffer, start, end) => pieces.push(buffer.subarray(start, end)),
          drained: () => {},
          ended: () => {
            one.over = "ended";
          },
          closed: () => {
            one.over = "closed";
          },
        },
        receiver,
      ),
    };
    taken.push(one);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return address !== null && typeof address === "object" ? address.port : 0;
}

async function open(port: number): Promise<Socket> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  sockets.push(socket);
  await once(socket, "connect");
  return socket;
}

const until = (what: string, done: () => boolean): Promise<true> =>
  waitFor(async () => done(), { timeoutMs: 20_000, intervalMs: 1, what });

const connections = (): Promise<number> =>
  new Promise((resolve) => server?.getConnections((_error, count) => resolve(count)));

describe("a connection that reads into the shared block", () => {
  test("gets its own bytes and keeps them, whoever else receives", async () => {
    const sizes = fc.array(fc.tuple(fc.nat(2), fc.integer({ min: 1, max: 3 * RECEIVE_BYTES_MIN })), {
      minLength: 1,
      maxLength: 60,
    });
    await fc.assert(
      fc.asyncProperty(sizes, async (writes) => {
        const taken: Taken[] = [];
        const port = await listen(taken);
        const peers: Socket[] = [];
        for (let index = 0; index < 3; index += 1) {
          peers.push(await open(port));
          await until("it is taken", () => taken.length === peers.length);
        }
        const sent: Buffer[][] = [[], [], []];
        for (const [index, [who, size]] of writes.entries()) {
          const bytes = Buffer.alloc(size, (index % 250) + 1);
          sent[who]?.push(bytes);
          peers[who]?.write(bytes);
        }
        const whole = sent.map((each) => Buffer.concat(each));
        await until("all has come", () =>
          taken.every(({ pieces }, who) => Buffer.concat(pieces).length === whole[who]?.length),
        );
        taken.forEach(({ pieces }, who) => {
          expect(Buffer.concat(pieces).equals(whole[who] ?? Buffer.alloc(0))).toBe(true);
        });
        for (const each of peers) each.destroy();
        await until("all are gone", () => taken.every(({ over }) => over !== ""));
        server?.close();
      }),
      { numRuns: 30 },
    );
  });

  test("may be paused and resumed, hears of the end, and is counted out", async () => {
    const taken: Taken[] = [];
    const port = await listen(taken);
    const peer = await open(port);
    await until("it is taken", () => taken.length === 1);
    const one = taken[0];
    one?.transport.pause();
    peer.write("held");
    const other = await open(port);
    other.end("not held");
    await until("the other's came", () => taken[1]?.over === "ended");
    taken[1]?.transport.destroy();
    expect(one?.pieces).toEqual([]);
    one?.transport.resume();
    await until("it came", () => one?.pieces.length === 1);
    peer.end("end");
    await until("the end came", () => one?.over === "ended");
    expect(Buffer.concat(one?.pieces ?? []).toString()).toBe("heldend");
    one?.transport.write(Buffer.from("still"));
    const [answer] = await once(peer, "data");
    expect(String(answer)).toBe("still");
    one?.transport.end();
    await until("it is over", () => one?.over === "closed");
    expect(await connections()).toBe(0);
  });

  test("is the same that was accepted", async () => {
    const taken: Taken[] = [];
    const peer = await open(await listen(taken));
    await until("it is taken", () => taken.length === 1);
    expect(taken[0]?.transport.socket.remotePort).toBe(peer.localPort);
  });
});

test("a socket without a handle that can read into given memory is left as it is", () => {
  const socket = new Socket();
  sockets.push(socket);
  expect(new SharedReading().take(socket, new Receiver())).toBe(socket);
});
