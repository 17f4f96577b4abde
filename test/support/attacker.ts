// A program that attacks a port from many addresses: opens connections that never log in, nor finish a request, and keeps them. Started by
// attack.ts as a process of its own, so that neither its files nor its time are those of who measures. Ends with its standard input.

import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { z } from "zod";
import { int32, message, startup } from "./raw-client.ts";

/** What each connection does once it is there. */
const kinds = ["silent", "byte", "drip", "startup", "sslrequest", "handshake", "http"] as const;

const plan = z.object({
  port: z.number(),
  count: z.number(),
  kind: z.enum(kinds),
  /** Source addresses, taken in turns. */
  from: z.array(z.string()).min(1),
  /** Connections that are being opened at once. */
  abreast: z.number(),
  /** Whether one that was closed is opened anew. */
  insist: z.boolean(),
});

export type AttackPlan = z.infer<typeof plan>;

/** A line of the program's output. */
export interface AttackState {
  open: number;
  opened: number;
  closed: number;
  failed: number;
  /** How often the other side said what: an error's SQLSTATE, HTTP's status, or else its first byte; `secure` when TLS began. */
  said: Record<string, number>;
}

const state: AttackState = { open: 0, opened: 0, closed: 0, failed: 0, said: {} };
const DRIP_EVERY_MS = 1_000;
const TELL_EVERY_MS = 100;

const hello = (): Buffer => startup({ user: "app", database: "app" });
const sslRequest = message("", int32(80_877_103));

function act({ kind }: AttackPlan, socket: Socket): void {
  switch (kind) {
    case "silent":
      return;
    case "byte":
      socket.write(Buffer.alloc(1));
      return;
    case "drip":
      return drip(socket, hello());
    case "http":
      socket.write("GET /livez HTTP/1.1\r\nhost: x\r\n");
      return drip(socket, Buffer.from(`x-slow: ${"x".repeat(1000)}`));
    case "startup":
      socket.write(hello());
      return;
    case "sslrequest":
      socket.write(sslRequest);
      return;
    case "handshake":
      socket.removeAllListeners("data");
      socket.write(sslRequest);
      socket.once("data", (chunk: Buffer) => {
        if (chunk[0] !== "S".charCodeAt(0)) return hear(chunk);
        const secure = connectTls({ socket, rejectUnauthorized: false });
        secure.on("error", () => {}).once("secureConnect", () => count("secure"));
        secure.on("data", hear);
      });
  }
}

/** Sends one byte, and then one at a time. */
function drip(socket: Socket, bytes: Buffer): void {
  let at = 0;
  const next = (): boolean => socket.write(bytes.subarray(at, ++at));
  const timer = setInterval(next, DRIP_EVERY_MS);
  socket.on("close", () => clearInterval(timer));
  next();
}

function count(heard: string): void {
  state.said[heard] = (state.said[heard] ?? 0) + 1;
}

function hear(chunk: Buffer): void {
  const text = chunk.toString("latin1");
  count(/\0C(\w{5})\0/.exec(text)?.[1] ?? /^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? text.slice(0, 1));
}

function attack(given: AttackPlan): void {
  let begun = 0;
  let connecting = 0;
  const more = (): void => {
    while (
      connecting < given.abreast &&
      (begun < given.count || (given.insist && state.open + connecting < given.count))
    ) {
      open(given.from[begun % given.from.length] ?? "127.0.0.1");
      begun += 1;
    }
  };
  const open = (localAddress: string): void => {
    connecting += 1;
    let connected = false;
    const socket = connect({ port: given.port, host: "127.0.0.1", localAddress });
    socket.on("connect", () => {
      connected = true;
      connecting -= 1;
      state.open += 1;
      state.opened += 1;
      act(given, socket);
      more();
    });
    socket.on("data", hear);
    socket.on("error", () => {});
    socket.on("close", () => {
      if (connected) [state.open, state.closed] = [state.open - 1, state.closed + 1];
      else [connecting, state.failed] = [connecting - 1, state.failed + 1];
      setImmediate(more);
    });
  };
  more();
}

setInterval(() => process.stdout.write(`${JSON.stringify(state)}\n`), TELL_EVERY_MS);
process.stdin.resume().on("end", () => process.exit());
attack(plan.parse(JSON.parse(process.argv[2] ?? "")));
