// Cancel requests on their way, over real sockets to a server whose end is forged: which of them are sent, when they count as
// arrived, and that the same pid on two members is two clients.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type Server as NetServer, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CANCEL_RETRY_MS, CANCEL_TIMEOUT_MS } from "../../../src/core/limits.ts";
import { millis } from "../../../src/core/units.ts";
import { Server } from "../../../src/pool/server.ts";
import { SettingsSet } from "../../../src/pool/settings.ts";
import { Frontend } from "../../../src/protocol/constants.ts";
import { Transport } from "../../../src/protocol/transport.ts";
import { CancelKeys, type Cancellable } from "../../../src/proxy/cancel.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { message } from "../../support/raw-client.ts";
import { waitFor } from "../../support/time.ts";

const PID = 4711;

let listener: NetServer;
let clock: FakeClock;
let keys: CancelKeys;
/** Our ends of the servers, and the cancel requests that came. */
let peers: Socket[];
let requests: { socket: Socket; bytes: Buffer }[];
const sockets = new Set<Socket>();

const until = (what: string, look: () => boolean): Promise<true> =>
  waitFor(look, { timeoutMs: 10_000, intervalMs: 2, what });

beforeEach(async () => {
  clock = new FakeClock();
  keys = new CancelKeys(clock, randomBytes);
  keys.waitMs = 10_000;
  peers = [];
  requests = [];
  listener = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("data", (bytes: Buffer) => {
      if (bytes.toString("latin1", 0, 1) === "!") peers.push(socket);
      else requests.push({ socket, bytes });
    });
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
});

afterEach(() => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  listener.close();
});

function port(): number {
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** A client that holds a server with this secret; both of them at work. */
async function working(secret: string, at = port()): Promise<Cancellable & { server: Server; readOn: number }> {
  const socket = connect({ port: port(), host: "127.0.0.1" });
  sockets.add(socket);
  socket.write("!");
  const facts = {
    endpoint: { member: "node1", host: "127.0.0.1", port: at },
    parameters: new Map<string, string>(),
    pid: PID,
    key: Buffer.from(secret),
    loggedInAt: millis(0),
  };
  const seen = peers.length;
  const server = new Server(new Transport(socket, { bytes() {}, drained() {}, ended() {}, closed() {} }), facts, {
    serverClosed: () => {},
  });
  await until("the server is there", () => peers.length > seen);
  server.lend({
    reply: () => {},
    session: {
      parameterChanged: () => true,
      parameterRestored: () => false,
      failed: () => null,
      commandDone: () => {},
    },
    refusesTransaction: () => false,
    ready: () => {},
    ownRequestFailed: () => {},
    flushReplies: () => {},
    allSent: true,
    serverDrained: () => {},
    lost: () => {},
  });
  const client = {
    server,
    readOn: 0,
    cancelWait: () => {},
    flushReplies: () => {
      client.readOn += 1;
    },
  };
  return client;
}

const ready = message("Z", Buffer.from("I"));

describe("a cancel request", () => {
  test("finds its client by pid and secret, where two members gave the same pid", async () => {
    const [one, other] = [await working("0001"), await working("0002")];
    const issued = [keys.issue(one), keys.issue(other)];
    expect(issued.map(({ pid }) => pid)).toEqual([PID, PID]);
    for (const { server } of [one, other]) server.exchange.request(Frontend.Query);
    keys.cancel(PID, issued[1]?.key ?? Buffer.alloc(0), () => {});
    await until("it came", () => requests.length === 1);
    expect(requests[0]?.bytes.toString("latin1", 12)).toBe("0002");
    expect([one.server.cancels.none, other.server.cancels.none]).toEqual([true, false]);
    keys.revoke(PID, other);
    const refused: boolean[] = [];
    keys.cancel(PID, issued[1]?.key ?? Buffer.alloc(0), (passedOn) => refused.push(passedOn));
    expect(refused).toEqual([false]);
    keys.cancel(PID, issued[0]?.key ?? Buffer.alloc(0), () => {});
    await until("the other's came", () => requests.length === 2);
    expect(requests[1]?.bytes.toString("latin1", 12)).toBe("0001");
  });

  test("is a made-up pid's where the client has no server: beyond all that kernels give", () => {
    const pids = Array.from(
      { length: 200 },
      () => keys.issue({ server: null, cancelWait() {}, flushReplies() {} }).pid,
    );
    expect(Math.min(...pids)).toBeGreaterThanOrEqual(0x4000_0000);
    expect(Math.max(...pids)).toBeLessThanOrEqual(0x7fff_ffff);
    expect(new Set(pids).size).toBe(pids.length);
  });

  test("has arrived when the server closes its connection", async () => {
    const one = await working("0001");
    const { key } = keys.issue(one);
    one.server.exchange.request(Frontend.Query);
    const done: boolean[] = [];
    keys.cancel(PID, key, (passedOn) => done.push(passedOn));
    await until("it came", () => requests.length === 1);
    expect([one.server.cancels.none, one.server.cancels.underWay, done, one.readOn]).toEqual([false, true, [], 0]);
    requests[0]?.socket.end();
    await until("it has arrived", () => done.length === 1);
    expect([one.server.cancels.none, one.server.cancels.underWay, done, one.readOn]).toEqual([true, false, [true], 1]);
  });

  test("that the server does not take counts as one that may still arrive, after CANCEL_TIMEOUT_MS", async () => {
    const one = await working("0001");
    const { key } = keys.issue(one);
    one.server.exchange.request(Frontend.Query);
    const done: boolean[] = [];
    keys.cancel(PID, key, (passedOn) => done.push(passedOn));
    await until("it came", () => requests.length === 1);
    await clock.advance(CANCEL_TIMEOUT_MS - 1);
    expect(one.server.cancels.lost).toBe(false);
    await clock.advance(1);
    await until("it is given up", () => done.length === 1);
    expect([one.server.cancels.none, one.server.cancels.lost]).toEqual([false, true]);
  });

  test("that finds nobody is dropped at once, and harms nothing", async () => {
    const free = createServer();
    free.listen(0, "127.0.0.1");
    await once(free, "listening");
    const address = free.address();
    const closed = address !== null && typeof address === "object" ? address.port : 0;
    await new Promise((resolve) => free.close(resolve));
    const one = await working("0001", closed);
    const { key } = keys.issue(one);
    one.server.exchange.request(Frontend.Query);
    const done: boolean[] = [];
    keys.cancel(PID, key, (passedOn) => done.push(passedOn));
    await until("it is dropped", () => done.length === 1);
    expect([one.server.cancels.none, done]).toEqual([true, [false]]);
  });

  test("waits while a request of our own is in front, looking every CANCEL_RETRY_MS, and no longer than cancel_wait_timeout", async () => {
    for (const answered of [true, false]) {
      const one = await working("0001");
      const { key } = keys.issue(one);
      one.server.bringSettingsTo(SettingsSet.of([["work_mem", "77kB"]]));
      one.server.exchange.request(Frontend.Query);
      const done: boolean[] = [];
      const before = requests.length;
      keys.cancel(PID, key, (passedOn) => done.push(passedOn));
      await clock.advance(CANCEL_RETRY_MS * 3);
      expect([requests.length, done, one.server.cancels.none]).toEqual([before, [], true]);
      if (answered) {
        peers.at(-1)?.write(Buffer.concat([message("C", Buffer.from("SELECT 1\0")), ready]));
        await until("the settings are in force", () => !one.server.exchange.own);
        await clock.advance(CANCEL_RETRY_MS);
        await until("the request came", () => requests.length === before + 1);
      } else {
        await clock.advance(keys.waitMs);
        expect([requests.length, done]).toEqual([before, [false]]);
      }
      keys.revoke(PID, one);
    }
  });

  test("for what is over before it can be sent is not sent", async () => {
    const one = await working("0001");
    const { key } = keys.issue(one);
    one.server.exchange.request(Frontend.Query);
    const done: boolean[] = [];
    keys.cancel(PID, key, (passedOn) => done.push(passedOn));
    one.server.exchange.abandon(() => {});
    await until("it is dropped", () => done.length === 1);
    expect([requests.length, done, one.server.cancels.none]).toEqual([0, [false], true]);
  });
});
