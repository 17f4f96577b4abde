// A server that lets everybody in, says what a writable PostgreSQL says, and then lies: good answers, and answers that are harmed,
// cut, doubled, interrupted or never given. No real server misbehaves so; a router must survive one that does.

import { createServer, type Server, type Socket } from "node:net";
import { int32, message } from "../support/raw-client.ts";
import { HostileSession, reply } from "./hostile-session.ts";
import { harm } from "./mutation.ts";
import { Random } from "./random.ts";
import type { Tally } from "./tally.ts";

/** The role whose questions are answered truly, so that there is a leader to route to. */
const HONEST_ROLE = "pgsteer";
const PARTS_MAX = 100;

const reported: readonly (readonly [string, string])[] = [
  ["server_version", "15.9"],
  ["server_encoding", "UTF8"],
  ["client_encoding", "UTF8"],
  ["application_name", ""],
  ["default_transaction_read_only", "off"],
  ["in_hot_standby", "off"],
  ["is_superuser", "off"],
  ["session_authorization", "app"],
  ["DateStyle", "ISO, MDY"],
  ["IntervalStyle", "postgres"],
  ["TimeZone", "Etc/UTC"],
  ["integer_datetimes", "on"],
  ["standard_conforming_strings", "on"],
];

export class HostileServer {
  readonly #seed: number;
  readonly #tally: Tally;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #connections = 0;
  #tame = false;

  constructor(seed: number, tally: Tally) {
    this.#seed = seed;
    this.#tally = tally;
    this.#server = createServer({ noDelay: true }, (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {});
      this.#connections += 1;
      new HostileConnection(this, socket, new Random(this.#seed ^ 0x5eed, this.#connections), this.#tally);
    });
  }

  listen(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ port, host: "127.0.0.1" }, () => resolve());
    });
  }

  get tame(): boolean {
    return this.#tame;
  }

  /** From now on it does no harm; those whom it left without an answer get none any more. */
  becomeTame(): void {
    this.#tame = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

class HostileConnection {
  readonly #owner: HostileServer;
  readonly #socket: Socket;
  readonly #random: Random;
  readonly #tally: Tally;
  readonly #session = new HostileSession();
  #state: "startup" | "honest" | "hostile" = "startup";
  #held: Buffer = Buffer.alloc(0);

  constructor(owner: HostileServer, socket: Socket, random: Random, tally: Tally) {
    this.#owner = owner;
    this.#socket = socket;
    this.#random = random;
    this.#tally = tally;
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
  }

  #read(chunk: Buffer): void {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    if (this.#state === "startup" && !this.#startup()) return;
    const answers: Buffer[] = [];
    let at = 0;
    while (this.#held.length - at >= 5) {
      const end = at + this.#held.readInt32BE(at + 1) + 1;
      if (end > this.#held.length) break;
      const type = this.#held.toString("latin1", at, at + 1);
      const body = this.#held.subarray(at + 5, end);
      at = end;
      if (this.#state === "honest") {
        if (type === "X") return this.#socket.destroySoon();
        if (type === "Q") this.#answerProbe();
        continue;
      }
      const said = this.#session.answer(type, body);
      if (said === null) return this.#socket.destroySoon();
      answers.push(...said);
    }
    this.#held = Buffer.from(this.#held.subarray(at));
    if (answers.length > 0) this.#say(answers);
  }

  /** Takes startup packets; true once the session has begun. */
  #startup(): boolean {
    for (;;) {
      if (this.#held.length < 8 || this.#held.length < this.#held.readInt32BE(0)) return false;
      const packet = this.#held.subarray(0, this.#held.readInt32BE(0));
      this.#held = this.#held.subarray(packet.length);
      const code = packet.readInt32BE(4);
      if (code === 80_877_102) {
        this.#socket.destroySoon();
        return false;
      }
      if (code !== 80_877_103 && code !== 80_877_104) return this.#welcome(packet.toString("latin1", 8));
      this.#socket.write("N");
    }
  }

  #welcome(parameters: string): boolean {
    const honest = parameters.includes(`user\0${HONEST_ROLE}\0`);
    const messages = [
      message("R", int32(0)),
      ...reported.map(([name, value]) => reply.parameter(name, value)),
      message("K", int32(this.#random.below(30_000)), int32(this.#random.uint32() | 0)),
      reply.ready("I"),
    ];
    this.#state = honest ? "honest" : "hostile";
    if (honest || this.#owner.tame || !this.#random.chance(0.01)) {
      this.#socket.write(Buffer.concat(messages));
      return true;
    }
    this.#harm(messages, "login");
    return true;
  }

  #answerProbe(): void {
    const row = reply.row("false", "0/3000148", "1", null, "7300000000000000001");
    this.#socket.write(Buffer.concat([reply.rowDescription(), row, reply.complete("SELECT 1"), reply.ready("I")]));
  }

  #say(answers: readonly Buffer[]): void {
    const { tame } = this.#owner;
    if (tame || this.#random.chance(0.8)) {
      this.#tally.frames += answers.length;
      this.#socket.write(Buffer.concat(answers));
    } else if (this.#random.chance(0.5)) this.#interrupt(answers);
    else if (this.#random.chance(0.6)) this.#harm(answers, "server");
    else this.#fallSilent(answers);
  }

  /** Something asynchronous at any place, which is every server's right. */
  #interrupt(answers: readonly Buffer[]): void {
    const random = this.#random;
    const said = [...answers];
    const [name, value] = random.pick([
      ["application_name", "told by the server"],
      ["TimeZone", "Europe/Berlin"],
      ["some.thing", "odd 'value' \\ here"],
      ["client_encoding", "LATIN1"],
      ["", ""],
    ] as const);
    const kinds = {
      parameter: () => reply.parameter(name, value),
      notice: () => reply.notice("by the way"),
      notification: () => reply.notification("channel", "payload"),
    };
    const [kind, make] = random.pick(Object.entries(kinds));
    this.#tally.mutated(`server_${kind}`);
    said.splice(random.below(said.length + 1), 0, make());
    this.#tally.frames += said.length;
    // What stands behind the last of them comes when nobody waits, or when somebody else does.
    this.#socket.write(Buffer.concat(said.slice(0, PARTS_MAX)));
    if (said.length > PARTS_MAX) this.#socket.write(Buffer.concat(said.slice(PARTS_MAX)));
  }

  /** Harmed answers in one write. What comes later may belong to anybody. */
  #harm(answers: readonly Buffer[], whose: string): void {
    const { messages, kinds } = harm(answers, this.#random);
    for (const kind of kinds) this.#tally.mutated(`${whose}_${kind}`);
    this.#tally.frames += messages.length;
    this.#session.tainted = true;
    this.#socket.write(Buffer.concat(messages));
  }

  /** Ends in the middle, with or without a word, or says nothing more. */
  #fallSilent(answers: readonly Buffer[]): void {
    const random = this.#random;
    const bytes = Buffer.concat([...answers]);
    const kept = bytes.subarray(0, random.below(bytes.length + 1));
    const how = random.pick(["end", "reset", "fatal", "silence"]);
    this.#tally.mutated(`server_${how}`);
    this.#tally.frames += answers.length;
    if (how === "silence") {
      this.#session.tainted = true;
      this.#socket.write(kept);
      return;
    }
    if (how === "reset") {
      this.#socket.write(kept, () => this.#socket.resetAndDestroy());
      return;
    }
    if (how === "end") {
      this.#socket.end(kept);
      return;
    }
    const code = random.pick(["57P01", "57P02", "57P05", "25P03", "XX000", "53300"]);
    const some = answers.slice(0, random.below(answers.length + 1));
    this.#socket.end(Buffer.concat([...some, reply.error("FATAL", code, "terminating connection for a reason")]));
  }
}
