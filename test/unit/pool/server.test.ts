// A server connection whose other end is forged: what no PostgreSQL sends must cost the connection, never more, and its holder
// hears of it exactly once.

import { once } from "node:events";
import { connect, createServer, type Server as NetServer, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MESSAGE_BYTES_MAX, WHOLE_BACKEND_MESSAGE_BYTES_MAX } from "../../../src/core/limits.ts";
import { millis } from "../../../src/core/units.ts";
import type { ServerHolder } from "../../../src/pool/holder.ts";
import { type LossCause, memberIsGoing } from "../../../src/pool/loss.ts";
import { Server } from "../../../src/pool/server.ts";
import { SettingsSet } from "../../../src/pool/settings.ts";
import { query } from "../../../src/protocol/messages.ts";
import { Transport } from "../../../src/protocol/transport.ts";
import { message } from "../../support/raw-client.ts";
import { waitFor } from "../../support/time.ts";

let listener: NetServer;
let peer: Socket;
let server: Server;
/** What the owner and the holder heard, in order. */
let heard: string[];
let causes: LossCause[];
let replies: Buffer[];

const holder: ServerHolder = {
  reply: (buffer, start, end) => void replies.push(Buffer.from(buffer.subarray(start, end))),
  session: {
    parameterChanged: (name, value) => {
      heard.push(`${name}=${value}`);
      return true;
    },
    parameterRestored: () => false,
    failed: () => null,
    commandDone: () => {},
  },
  refusesTransaction: () => false,
  ready: (status) => heard.push(`ready ${String.fromCharCode(status)}`),
  ownRequestFailed: ({ message: words }) => heard.push(`own request failed: ${words}`),
  flushReplies: () => {},
  allSent: true,
  serverDrained: () => {},
  lost: (cause) => {
    heard.push(`lost: ${cause.kind}`);
    causes.push(cause);
  },
};

const until = (what: string, look: () => boolean): Promise<true> =>
  waitFor(look, { timeoutMs: 10_000, intervalMs: 2, what });

beforeEach(async () => {
  heard = [];
  causes = [];
  replies = [];
  listener = createServer();
  const accepted = once(listener, "connection");
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const socket = connect({ port: address.port, host: "127.0.0.1" });
  [peer] = (await accepted) as [Socket];
  if (socket.connecting) await once(socket, "connect");
  peer.on("error", () => {});
  peer.resume();
  const endpoint = { member: "node1", host: "127.0.0.1", port: address.port };
  const facts = {
    endpoint,
    parameters: new Map<string, string>(),
    pid: 1,
    key: Buffer.alloc(4),
    loggedInAt: millis(0),
  };
  server = new Server(new Transport(socket, { bytes() {}, drained() {}, ended() {}, closed() {} }), facts, {
    serverClosed: (_server, cause) => heard.push(`closed: ${cause.kind}`),
  });
});

afterEach(async () => {
  server.close({ kind: "fenced", reason: "the test is over" });
  peer.destroy();
  await new Promise((resolve) => listener.close(resolve));
});

const ask = (sql = "SELECT 1"): void => {
  const bytes = query(sql);
  server.exchange.request("Q".charCodeAt(0));
  server.add(bytes, 0, bytes.length);
  server.flush();
};
const header = (type: string, length: number): Buffer => {
  const bytes = Buffer.alloc(5, type);
  bytes.writeInt32BE(length, 1);
  return bytes;
};
const text = (words: string): Buffer => Buffer.from(words, "latin1");
const ready = (status = "I"): Buffer => message("Z", text(status));
const error = (severity: string, sqlstate: string): Buffer =>
  message("E", text(`S${severity}\0V${severity}\0C${sqlstate}\0Mwords\0\0`));

describe("a server that is lent", () => {
  test.each<[string, Buffer]>([
    ["a length of nothing", header("D", 3)],
    ["a negative length", header("D", -1)],
    ["a length beyond any message", header("D", MESSAGE_BYTES_MAX + 1)],
    ["an error too long to read", header("E", WHOLE_BACKEND_MESSAGE_BYTES_MAX + 1)],
    ["a parameter too long to read", header("S", WHOLE_BACKEND_MESSAGE_BYTES_MAX + 1)],
    ["a ReadyForQuery of a wrong length", message("Z", text("II"))],
    ["a ReadyForQuery without status", message("Z")],
    ["one ReadyForQuery too many", Buffer.concat([message("C", text("SELECT 1\0")), ready(), ready()])],
    ["an error without its end", message("E", text("SERROR\0VERROR"))],
    ["a parameter without value", message("S", text("name\0"))],
    ["a reply that nobody asked for", Buffer.concat([ready(), message("D", text("\0\0"))])],
    ["what is no PostgreSQL", text("HTTP/1.1 400 Bad Request\r\n\r\n")],
  ])("is given up when it sends %s, and its holder hears of it once", async (_name, bytes) => {
    server.lend(holder);
    ask();
    peer.write(bytes);
    await until("it is given up", () => server.state === "closed");
    await until("the peer hears of it", () => peer.destroyed || peer.readableEnded);
    expect(heard.filter((line) => !line.startsWith("ready"))).toEqual(["closed: violation", "lost: violation"]);
    expect(memberIsGoing(causes[0] ?? { kind: "ours", reason: "" })).toBe(false);
  });

  test("takes the longest error that it reads", async () => {
    server.lend(holder);
    ask();
    const long = text(`SERROR\0VERROR\0C42601\0M${"x".repeat(WHOLE_BACKEND_MESSAGE_BYTES_MAX - 4 - 24)}\0\0`);
    const bytes = message("E", long);
    expect(bytes.readInt32BE(1)).toBeLessThanOrEqual(WHOLE_BACKEND_MESSAGE_BYTES_MAX);
    peer.write(Buffer.concat([bytes, ready("E")]));
    await until("it is ready", () => heard.includes("ready E"));
    expect(Buffer.concat(replies).length).toBe(bytes.length + 6);
  });

  test("passes on what comes in pieces, byte by byte, and nothing twice", async () => {
    server.lend(holder);
    ask();
    const bytes = Buffer.concat([
      message("T", text("\0\0")),
      message("D", text("\0\0")),
      message("C", text("X\0")),
      ready(),
    ]);
    for (const byte of bytes) {
      peer.write(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until("it is ready", () => heard.includes("ready I"));
    expect(Buffer.concat(replies)).toEqual(bytes);
    expect([server.exchange.empty, server.midMessage]).toEqual([true, false]);
  });

  test("says whether it was lost in the middle of a message", async () => {
    server.lend(holder);
    ask();
    peer.write(Buffer.concat([message("T", text("\0\0")), header("D", 100)]));
    await until("the message has begun", () => server.midMessage);
    peer.destroy();
    await until("it is lost", () => server.state === "closed");
    expect(heard).toEqual(["closed: closed", "lost: closed"]);
    expect([server.midMessage, memberIsGoing(causes[0] ?? { kind: "ours", reason: "" })]).toEqual([true, true]);
  });

  test.each([
    ["FATAL", "57P01", true],
    ["FATAL", "57P02", true],
    ["PANIC", "57P03", true],
    ["FATAL", "25P03", false],
  ])("keeps the server's last words (%s %s) for its holder to decide upon", async (severity, sqlstate, going) => {
    server.lend(holder);
    ask();
    const words = error(severity, sqlstate);
    peer.write(words);
    await until("it is lost", () => server.state === "closed");
    expect(heard).toEqual(["closed: fatal", "lost: fatal"]);
    const [cause] = causes;
    expect(cause?.kind === "fatal" && cause.message).toEqual(words);
    expect(cause !== undefined && memberIsGoing(cause)).toBe(going);
    expect(replies).toEqual([]);
  });

  test("keeps answers to requests of our own to itself, and tells where they failed", async () => {
    server.lend(holder);
    server.bringSettingsTo(SettingsSet.of([["a", "b"]]));
    ask();
    const own = [
      message("T", text("\0\0")),
      message("D", text("\0\x01\0\0\0\x01b")),
      message("S", text("a\0b\0")),
      message("C", text("S\0")),
      ready(),
    ];
    const theirs = [message("I"), ready()];
    peer.write(Buffer.concat([...own, ...theirs]));
    await until("it is ready", () => heard.includes("ready I"));
    expect(Buffer.concat(replies)).toEqual(Buffer.concat(theirs));
    expect(server.parameters.get("a")).toBe("b");
    server.bringSettingsTo(SettingsSet.empty);
    server.flush();
    peer.write(Buffer.concat([error("ERROR", "22023"), ready()]));
    await until("the failure is told", () => heard.includes("own request failed: words"));
  });

  test("tells its holder of parameters that change, in their place among the replies", async () => {
    server.lend(holder);
    ask();
    const bytes = [message("S", text("DateStyle\0ISO\0")), message("C", text("SET\0")), ready()];
    peer.write(Buffer.concat(bytes));
    await until("it is ready", () => heard.includes("ready I"));
    expect(heard).toEqual(["DateStyle=ISO", "ready I"]);
    expect(Buffer.concat(replies)).toEqual(Buffer.concat(bytes));
    expect(server.settings.equals(SettingsSet.of([["DateStyle", "ISO"]]))).toBe(true);
  });
});

describe("a server that is idle", () => {
  test.each<[string, Buffer, string[]]>([
    ["a notice", message("N", text("SNOTICE\0\0")), []],
    ["a notification", message("A", text("\0\0\0\x01c\0p\0")), []],
    ["a parameter", message("S", text("a\0b\0")), []],
    ["its last words", error("FATAL", "57P01"), ["closed: fatal"]],
    ["a ReadyForQuery", ready(), ["closed: violation"]],
    ["a row", message("D", text("\0\0")), ["closed: violation"]],
    ["an error", error("ERROR", "42601"), ["closed: violation"]],
  ])("that sends %s", async (_name, bytes, expected) => {
    peer.write(Buffer.concat([bytes, message("S", text("last\0one\0"))]));
    await until("it has read that", () => server.state === "closed" || server.parameters.has("last"));
    expect(heard).toEqual(expected);
  });

  test("that runs something for ourselves tells how it went, or that it is gone", async () => {
    const results: unknown[] = [];
    server.run(
      "SELECT 1",
      () => millis(7),
      (result) => results.push(result),
    );
    expect(server.state).toBe("tested");
    peer.write(
      Buffer.concat([
        message("D", text("\0\x01\0\0\0\x011")),
        message("D", text("\0\0")),
        message("C", text("S\0")),
        ready(),
      ]),
    );
    await until("it is done", () => results.length === 1);
    expect(results).toEqual([{ ok: true, row: ["1"], notices: [] }]);
    expect([server.state, server.idleSince]).toEqual(["idle", 7]);
    server.run(
      "SELECT 2",
      () => millis(8),
      (result) => results.push(result),
    );
    peer.destroy();
    await until("it is gone", () => results.length === 2);
    expect(results[1]).toMatchObject({ ok: false, fields: { sqlstate: "08006" } });
    expect(heard).toEqual(["closed: closed"]);
  });

  test("says goodbye when it is closed in good order, and is gone at once when it is fenced", async () => {
    const seen: Buffer[] = [];
    peer.on("data", (chunk: Buffer) => seen.push(chunk));
    server.close({ kind: "ours", reason: "old" });
    await until("the peer hears the end", () => peer.readableEnded || peer.destroyed);
    expect(Buffer.concat(seen)).toEqual(message("X"));
    server.close({ kind: "ours", reason: "again" });
    expect(heard).toEqual(["closed: ours"]);
  });
});
