// A client that knows what it should see: runs a model's requests, alone and in pipelines, and compares every message that comes
// back with what the model foretold.

import { Backend } from "../../src/protocol/constants.ts";
import { frontend } from "../support/raw-client.ts";
import type { Login } from "../support/sql.ts";
import { sleep } from "../support/time.ts";
import { marksIn } from "./marker.ts";
import { Model, type Plan } from "./model.ts";
import { outlineOf } from "./outline.ts";
import type { Random } from "./random.ts";
import { cancelRequest } from "./requests.ts";
import { valueFor } from "./settings-model.ts";
import { type Waited, Wire } from "./wire.ts";

const BOUND_MS = 60_000;

/** What model clients did, and everything that was not as it should be. */
export interface ModelLog {
  answers: number;
  transactions: number;
  logins: number;
  disconnects: number;
  pins: number;
  cancels: number;
  wrong(client: number, what: string): void;
}

/** Places at servers that clients may keep for themselves. */
export class PinTickets {
  #free: number;

  constructor(count: number) {
    this.#free = count;
  }

  take(): boolean {
    if (this.#free === 0) return false;
    this.#free -= 1;
    return true;
  }

  give(): void {
    this.#free += 1;
  }
}

export interface ModelOptions {
  /** Null: it never ties itself to a server. */
  readonly pins: PinTickets | null;
  /** Whether it asks for cancellations, and leaves now and then, in any state. */
  readonly restless: boolean;
}

/** One life: from a login to its end. */
export class ModelClient {
  readonly #random: Random;
  readonly #model: Model;
  readonly #log: ModelLog;
  readonly #options: ModelOptions;
  readonly #wire: Wire;
  readonly #login: Login;
  readonly #startup: Record<string, string>;
  readonly #told = new Map<string, string>();
  #lines: string[] = [];
  /** What was sent last, for whoever has to understand a finding. */
  #sent: (readonly Buffer[])[] = [];
  #heard = new Map<string, number>();
  #pinned = false;
  #fine = true;

  constructor(login: Login, random: Random, number: number, log: ModelLog, options: ModelOptions) {
    this.#random = random;
    this.#log = log;
    this.#options = options;
    this.#login = login;
    this.#startup = {};
    if (random.chance(0.5)) this.#startup["application_name"] = valueFor("application_name", random, number);
    if (random.chance(0.3)) this.#startup["TimeZone"] = valueFor("TimeZone", random, number);
    if (random.chance(0.3)) this.#startup["work_mem"] = valueFor("work_mem", random, number);
    this.#model = new Model(random, number, this.#startup);
    this.#wire = new Wire(login, (type, buffer, start, end) => this.#hear(type, buffer, start, end));
  }

  /** Lives until `over` says so, or until it chooses to leave. */
  async live(over: () => boolean): Promise<void> {
    try {
      if (!(await this.#begin())) return;
      const turns = this.#options.restless ? this.#random.pick([1, 3, 10, 40]) : Number.POSITIVE_INFINITY;
      for (let turn = 0; turn < turns && this.#fine && !over(); turn += 1) await this.#turn();
      if (this.#fine) await this.#leave();
    } finally {
      this.#wire.socket.destroy();
      if (this.#pinned) this.#options.pins?.give();
      if (this.#wire.brokenBy !== null) this.#wrong(`a stream that is no server's: ${this.#wire.brokenBy}`);
    }
  }

  #wrong(what: string): void {
    this.#fine = false;
    const sent = this.#sent.flat().map((bytes) =>
      bytes
        .toString("latin1")
        .replaceAll(/[^ -~]+/g, " ")
        .slice(0, 90),
    );
    this.#log.wrong(this.#model.number, `${what}; sent: ${sent.join(" | ")}`);
  }

  #hear(type: number, buffer: Buffer, start: number, end: number): void {
    for (const { client } of marksIn(buffer, start, end)) {
      if (client !== this.#model.number) this.#wrong(`an answer for client ${client}`);
    }
    if (type === Backend.ParameterStatus) {
      const [name = "", value = ""] = buffer.toString("utf8", start + 5, end).split("\0");
      this.#told.set(name, value);
    } else if (type === Backend.NotificationResponse) {
      const [channel = ""] = buffer.toString("utf8", start + 9, end).split("\0");
      this.#heard.set(channel, (this.#heard.get(channel) ?? 0) + 1);
    }
    const line = outlineOf(type, buffer, start, end);
    if (line !== null) this.#lines.push(line);
  }

  async #begin(): Promise<boolean> {
    const how = await this.#wire.login(this.#login, this.#startup, BOUND_MS);
    if (how !== "done") this.#wrong(`login: ${how}, ${this.#lines.join(", ")}`);
    this.#log.logins += 1;
    return how === "done";
  }

  async #turn(): Promise<void> {
    const random = this.#random;
    const model = this.#model;
    if (model.status === "I") {
      if (this.#pinned) return this.#whilePinned();
      if (random.chance(0.02) && this.#options.pins?.take() === true) {
        this.#pinned = true;
        this.#log.pins += 1;
        return this.#run(model.pin());
      }
      if (this.#options.restless && random.chance(0.02)) return this.#cancelled();
      if (random.chance(0.03)) {
        await this.#run(random.chance(0.3) ? model.discard() : model.undo());
        return this.#run(model.look());
      }
    }
    const count = random.pick([1, 1, 1, 2, 5, 10]);
    const plans = Array.from({ length: count }, () => model.any());
    await this.#run({
      messages: plans.flatMap((each) => each.messages),
      expected: plans.flatMap((each) => each.expected),
    });
    this.#compareTold();
    // Nobody shall wait for long on those who think.
    if (model.status === "I" && random.chance(0.3)) await sleep(random.below(10));
  }

  async #whilePinned(): Promise<void> {
    const model = this.#model;
    const step = this.#random.pick(["pin", "use", "use", "any", "discard"]);
    if (step === "pin") return this.#run(model.pin());
    if (step === "use") return this.#run(model.usePins());
    if (step === "any") return this.#run(this.#random.chance(0.5) ? model.look() : model.extended());
    await this.#run(model.discard());
    this.#pinned = false;
    this.#options.pins?.give();
  }

  /** Sends, waits, compares. */
  async #run(plan: Plan): Promise<void> {
    this.#lines = [];
    const ready = plan.expected.filter((line) => line.startsWith("Z ")).length;
    this.#sent = [...this.#sent.slice(-2), plan.messages];
    this.#wire.send(Buffer.concat([...plan.messages]));
    const how = await this.#wire.untilReady(this.#wire.readies + ready, BOUND_MS);
    this.#compare(how, plan.expected);
    this.#log.transactions += plan.expected.filter((line) => line === "Z I").length;
  }

  #compare(how: Waited, expected: readonly string[]): void {
    const lines = this.#lines;
    const at = expected.findIndex((line, index) => lines[index] !== line);
    if (how === "done" && at < 0 && lines.length === expected.length) {
      this.#log.answers += lines.length;
      for (const payload of this.#model.awaited.splice(0)) this.#compareHeard(payload);
      return;
    }
    const from = Math.max(0, (at < 0 ? expected.length : at) - 2);
    const show = (list: readonly string[]) => list.slice(from, from + 6).join(", ");
    this.#wrong(`${how}; message ${at} of ${expected.length}: expected ${show(expected)}; got ${show(lines)}`);
  }

  #compareHeard(number: string): void {
    const channel = `channel_${number}`;
    const count = this.#heard.get(channel) ?? 0;
    if (count === 0) this.#wrong("its own notification did not come");
    else this.#heard.set(channel, count - 1);
    for (const name of this.#heard.keys()) if (name !== channel) this.#wrong(`a notification from ${name}`);
  }

  /** What PostgreSQL reports must have been reported. */
  #compareTold(): void {
    for (const name of ["application_name", "TimeZone"] as const) {
      const expected = this.#model.settings.get(name);
      if (this.#fine && this.#told.get(name) !== expected) {
        this.#wrong(`was told that ${name} is ${this.#told.get(name)}, and it is ${expected}`);
      }
    }
  }

  /** A statement that is cancelled, if the request comes in time. */
  async #cancelled(): Promise<void> {
    const { key, readies } = this.#wire;
    if (key === null) return;
    this.#log.cancels += 1;
    this.#lines = [];
    this.#wire.send(frontend.query("SELECT 'slept' FROM pg_sleep(0.2)"));
    await sleep(this.#random.below(30));
    const other = new Wire(this.#login, () => {});
    other.send(cancelRequest(key));
    const gone = await other.untilClosed(BOUND_MS);
    other.socket.destroy();
    if (gone !== "done") this.#wrong("a cancel request was not answered by the end of its connection");
    const how = await this.#wire.untilReady(readies + 1, BOUND_MS);
    const said = this.#lines.join(", ");
    if (how !== "done" || !["E 57014, Z I", "T, D slept, C SELECT 1, Z I", "T, E 57014, Z I"].includes(said)) {
      this.#wrong(`a cancelled statement: ${how}, ${said}`);
    }
    await this.#run(this.#model.select());
  }

  /** Politely or not, in whatever state it is. */
  async #leave(): Promise<void> {
    const random = this.#random;
    const wire = this.#wire;
    this.#log.disconnects += 1;
    const how = this.#options.restless ? random.pick(["polite", "reset", "half", "working", "cut"]) : "polite";
    const { messages } = this.#model.any();
    if (how === "working") wire.send(Buffer.concat([...messages, frontend.query("SELECT pg_sleep(0.05)")]));
    if (how === "cut") wire.send(Buffer.concat([...messages]).subarray(0, -random.between(1, 6)));
    if (how === "reset" || how === "working") return void wire.socket.resetAndDestroy();
    if (how === "cut") return void wire.socket.destroy();
    if (how === "polite") wire.send(frontend.terminate());
    else wire.socket.end();
    if ((await wire.untilClosed(BOUND_MS)) !== "done") this.#wrong(`${how}: the connection did not end`);
  }
}
