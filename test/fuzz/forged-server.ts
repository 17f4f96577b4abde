// A server that lets everybody in and says what a writable PostgreSQL says at a login, without a database behind it. What it
// answers afterwards is its owner's business; the role that a pgsteer asks with is always answered truly.

import { createServer, type Server, type Socket } from "node:net";
import { int32, message } from "../support/raw-client.ts";
import { HostileSession, reply } from "./hostile-session.ts";

/** The role whose questions are answered truly, so that there is a leader to route to. */
const HONEST_ROLE = "pgsteer";

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

/** One connection, as its behaviour sees it. */
export interface Forged {
  readonly socket: Socket;
  readonly session: HostileSession;
  /** Counts from 1. */
  readonly number: number;
}

export interface Behaviour {
  /** The messages that end a login are due. */
  welcome(on: Forged, messages: readonly Buffer[]): void;
  /** These messages answer what was just read. */
  answer(on: Forged, messages: readonly Buffer[]): void;
}

export class ForgedServer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #connections = 0;

  constructor(behaviour: Behaviour) {
    this.#server = createServer({ noDelay: true }, (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {});
      this.#connections += 1;
      const connection = new ForgedConnection(
        { socket, session: new HostileSession(), number: this.#connections },
        behaviour,
      );
      socket.on("data", (chunk: Buffer) => connection.read(chunk));
    });
  }

  listen(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ port, host: "127.0.0.1" }, () => resolve());
    });
  }

  /** Ends all connections; new ones are taken. */
  sever(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.#server.close();
    this.sever();
  }
}

class ForgedConnection {
  readonly #on: Forged;
  readonly #behaviour: Behaviour;
  #state: "startup" | "honest" | "forged" = "startup";
  #held: Buffer = Buffer.alloc(0);

  constructor(on: Forged, behaviour: Behaviour) {
    this.#on = on;
    this.#behaviour = behaviour;
  }

  read(chunk: Buffer): void {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    if (this.#state === "startup" && !this.#startup()) return;
    const { socket, session } = this.#on;
    const answers: Buffer[] = [];
    let at = 0;
    while (this.#held.length - at >= 5) {
      const end = at + this.#held.readInt32BE(at + 1) + 1;
      if (end > this.#held.length) break;
      const type = this.#held.toString("latin1", at, at + 1);
      const body = this.#held.subarray(at + 5, end);
      at = end;
      const said = this.#state === "honest" ? probeAnswer(type) : session.answer(type, body);
      if (said === null) {
        socket.destroySoon();
        return;
      }
      answers.push(...said);
    }
    this.#held = Buffer.from(this.#held.subarray(at));
    if (answers.length === 0) return;
    if (this.#state === "honest") socket.write(Buffer.concat(answers));
    else this.#behaviour.answer(this.#on, answers);
  }

  /** Takes startup packets; true once the session has begun. */
  #startup(): boolean {
    for (;;) {
      if (this.#held.length < 8 || this.#held.length < this.#held.readInt32BE(0)) return false;
      const packet = this.#held.subarray(0, this.#held.readInt32BE(0));
      this.#held = this.#held.subarray(packet.length);
      const code = packet.readInt32BE(4);
      if (code === 80_877_102) {
        this.#on.socket.destroySoon();
        return false;
      }
      if (code !== 80_877_103 && code !== 80_877_104) {
        this.#welcome(packet.toString("latin1", 8));
        return true;
      }
      this.#on.socket.write("N");
    }
  }

  #welcome(parameters: string): void {
    const messages = [
      message("R", int32(0)),
      ...reported.map(([name, value]) => reply.parameter(name, value)),
      message("K", int32(this.#on.number), int32(this.#on.number)),
      reply.ready("I"),
    ];
    const honest = parameters.includes(`user\0${HONEST_ROLE}\0`);
    this.#state = honest ? "honest" : "forged";
    if (honest) this.#on.socket.write(Buffer.concat(messages));
    else this.#behaviour.welcome(this.#on, messages);
  }
}

/** Answers discovery's question: a leader, on timeline 1. */
function probeAnswer(type: string): Buffer[] | null {
  if (type === "X") return null;
  if (type !== "Q") return [];
  const row = reply.row("false", "0/3000148", "1", null, "7300000000000000001");
  return [reply.rowDescription(), row, reply.complete("SELECT 1"), reply.ready("I")];
}
