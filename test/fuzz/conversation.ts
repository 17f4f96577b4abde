// One client's life under the fuzzer, made from the seed and its number alone: how it begins, what it says, what of that is harmed,
// how it is cut into writes, and how it ends. Says what it hears to a judge.

import { MESSAGE_BYTES_MAX } from "../../src/core/limits.ts";
import { Backend } from "../../src/protocol/constants.ts";
import { errorFields, frontend, startup } from "../support/raw-client.ts";
import type { Login } from "../support/sql.ts";
import { marksIn } from "./marker.ts";
import { harm } from "./mutation.ts";
import { Random } from "./random.ts";
import { cancelRequest, gssencRequest, sslRequest } from "./requests.ts";
import { Talker } from "./talker.ts";
import type { Finding, Tally } from "./tally.ts";
import { Wire } from "./wire.ts";

/** Where conversations are held. */
export interface Target {
  readonly name: string;
  /** One for each listener. */
  readonly logins: readonly Login[];
  /** Whether whoever is behind it answers as PostgreSQL does. */
  readonly honest: boolean;
  /** How many of a hundred turns are harmed, in those conversations in which any is. */
  readonly harmedPercent: number;
}

/** Whatever a client waits for must have come by then. */
const BOUND_MS = 60_000;
/** After a turn that was harmed nobody knows what will come. */
const DOUBT_MS = 40;

const carriesMarks: ReadonlySet<number> = new Set([
  Backend.DataRow,
  Backend.CopyData,
  Backend.FunctionCallResponse,
  Backend.ErrorResponse,
  Backend.NoticeResponse,
  Backend.CommandComplete,
  Backend.RowDescription,
]);

const excerpt = (buffer: Buffer, start: number, end: number): string =>
  JSON.stringify(buffer.toString("latin1", start, Math.min(end, start + 80)));

export class Conversation {
  readonly #target: Target;
  readonly #id: number;
  readonly #random: Random;
  readonly #talker: Talker;
  readonly #tally: Tally;
  readonly #login: Login;
  readonly #wire: Wire;
  /** Nothing was harmed yet: everything that comes can be foretold. */
  #strict: boolean;
  #turnFails = false;
  #firstSequence = 1;

  constructor(target: Target, seed: number, id: number, tally: Tally) {
    this.#target = target;
    this.#id = id;
    this.#random = new Random(seed, id);
    this.#talker = new Talker(this.#random, id, this.#random.chance(target.honest ? 0.08 : 0.03));
    this.#tally = tally;
    this.#strict = target.honest;
    const hear = (type: number, buffer: Buffer, start: number, end: number) => this.#hear(type, buffer, start, end);
    // A server may announce what it likes, as long as it is no more than may be.
    this.#login = this.#random.pick(target.logins);
    this.#wire = target.honest ? new Wire(this.#login, hear) : new Wire(this.#login, hear, MESSAGE_BYTES_MAX);
  }

  /** Holds it from its beginning to its end. */
  async hold(): Promise<void> {
    this.#tally.conversations += 1;
    try {
      if (await this.#begin()) await this.#talk();
      await this.#end();
    } finally {
      this.#wire.socket.destroy();
      const { brokenBy } = this.#wire;
      if (brokenBy !== null) this.#find("broken", `a stream that is no server's: ${brokenBy}`);
    }
  }

  #find(kind: Finding["kind"], what: string): void {
    this.#tally.find({ kind, target: this.#target.name, conversation: this.#id, what });
  }

  #send(messages: readonly Buffer[]): void {
    this.#tally.frames += messages.length;
    const bytes = Buffer.concat(messages);
    // Where the writes end must not matter.
    if (this.#random.chance(0.9) || bytes.length < 2) return this.#wire.send(bytes);
    const cut = this.#random.between(1, bytes.length - 1);
    this.#wire.send(bytes.subarray(0, cut));
    this.#wire.send(bytes.subarray(cut));
  }

  /** Up to the first ReadyForQuery; false where there is none, which is in order only where the beginning was harmed. */
  async #begin(): Promise<boolean> {
    const random = this.#random;
    if (random.chance(0.05)) {
      this.#send([random.pick([sslRequest, gssencRequest])()]);
      this.#wire.expectByte();
      // Whoever does not wait for the answer may be taken for a man in the middle.
      if (random.chance(0.9)) await this.#wire.untilByte(BOUND_MS);
      else this.#strict = false;
    }
    if (random.chance(0.03)) return this.#beginBadly();
    this.#tally.frames += 3;
    const settings: Record<string, string> = random.chance(0.2) ? { application_name: `fuzz-${this.#id % 5}` } : {};
    const how = await this.#wire.login(this.#login, settings, BOUND_MS);
    if (how === "done") return true;
    if (this.#strict) this.#find("wrong", `login: ${how}, ${this.#wire.lastError}`);
    this.#tally.refusedLogins += 1;
    return false;
  }

  async #beginBadly(): Promise<boolean> {
    this.#strict = false;
    const { user, database, password } = this.#login;
    const { messages, kinds } = harm([startup({ user, database, application_name: "fuzz" })], this.#random);
    for (const kind of kinds) this.#tally.mutated(`startup_${kind}`);
    if (this.#random.chance(0.7)) this.#wire.expectLogin(user, password);
    this.#send(messages);
    return (await this.#wire.untilReady(1, DOUBT_MS * 5)) === "done";
  }

  async #talk(): Promise<void> {
    const random = this.#random;
    const harmed = random.chance(0.5) ? this.#target.harmedPercent / 100 : 0;
    const atOnce = random.chance(0.35);
    const turns = random.pick([1, 5, 10, 20, 40]);
    const blast: Buffer[] = [];
    let ready = this.#wire.readies;
    for (let count = 0; count < turns && !this.#wire.closed; count += 1) {
      if (!atOnce) this.#firstSequence = this.#talker.sequence + 1;
      const turn = this.#talker.turn();
      this.#turnFails ||= turn.fails;
      ready += turn.ready;
      let { messages } = turn;
      if (random.chance(harmed)) {
        const done = harm(messages, random);
        for (const kind of done.kinds) this.#tally.mutated(kind);
        messages = done.messages;
        this.#strict = false;
      }
      if (atOnce) {
        blast.push(...messages);
        continue;
      }
      const cancels = random.chance(0.01);
      if (cancels) this.#strict = false;
      this.#send(messages);
      if (cancels) this.#cancel();
      await this.#heard(ready);
      ready = this.#wire.readies;
      this.#turnFails = false;
    }
    if (!atOnce) return;
    this.#send(blast);
    await this.#heard(ready);
  }

  /** Waits for what answers a turn: all of it where it can be foretold. */
  async #heard(ready: number): Promise<void> {
    const how = await this.#wire.untilReady(ready, this.#strict ? BOUND_MS : DOUBT_MS);
    if (!this.#strict || how === "done") return;
    const { readies, lastError } = this.#wire;
    if (how === "late") this.#find("stuck", `${ready - readies} answers are missing after ${BOUND_MS} ms`);
    else this.#find("wrong", `the connection ended with ${ready - readies} answers missing (last error ${lastError})`);
  }

  /** A cancel request on a connection of its own, sometimes harmed. */
  #cancel(): void {
    const { key } = this.#wire;
    if (key === null) return;
    const request = cancelRequest(key);
    const bad = this.#random.chance(0.3);
    const { messages } = bad ? harm([request], this.#random) : { messages: [request] };
    this.#tally.mutated(bad ? "cancel_harmed" : "cancel");
    this.#tally.frames += 1;
    const other = new Wire(this.#login, () => {});
    other.send(Buffer.concat(messages));
    if (bad) other.socket.end();
    void other.untilClosed(BOUND_MS).then((how) => {
      other.socket.destroy();
      if (how === "late") this.#find("stuck", "a cancel request was not answered by the end of its connection");
    });
  }

  /** Leaves politely, by half, by force, or in the middle of a message. Whoever can still be told the end must be told. */
  async #end(): Promise<void> {
    const wire = this.#wire;
    if (wire.closed) return;
    const random = this.#random;
    const how = random.pick(["terminate", "half_close", "reset", "cut", "cut_and_half_close"]);
    this.#tally.mutated(`end_${how}`);
    const certain = this.#strict;
    this.#strict = false;
    if (how === "cut" || how === "cut_and_half_close") {
      const bytes = Buffer.concat([...this.#talker.turn().messages]);
      this.#tally.frames += 1;
      wire.send(bytes.subarray(0, random.below(bytes.length + 1)));
    }
    if (how === "terminate") {
      this.#send([frontend.terminate()]);
      // It may have become part of a message that was harmed: then only the end of the stream is an end.
      if (!certain && (await wire.untilClosed(DOUBT_MS)) === "late") wire.socket.end();
    } else if (how === "reset") wire.socket.resetAndDestroy();
    else if (how === "cut") wire.socket.destroy();
    else wire.socket.end();
    if (how === "reset" || how === "cut") return;
    // A server that has fallen silent owes an answer for ever, and its client may wait for that.
    if (!this.#target.honest) return void (await wire.untilClosed(DOUBT_MS));
    if ((await wire.untilClosed(BOUND_MS)) === "late") this.#find("stuck", `${how}: not closed after ${BOUND_MS} ms`);
  }

  #hear(type: number, buffer: Buffer, start: number, end: number): void {
    if (type === Backend.ErrorResponse) this.#hearError(buffer.subarray(start + 5, end));
    if (type === Backend.NotificationResponse && this.#target.honest && !this.#talker.listens) {
      this.#find("crossed", "a notification that nobody asked for");
    }
    if (!carriesMarks.has(type)) return;
    const marks = marksIn(buffer, start, end);
    for (const { client, sequence } of marks) {
      if (client !== this.#id) this.#find("crossed", `client ${client}'s answer ${sequence} at client ${this.#id}`);
      else if (this.#strict && sequence < this.#firstSequence)
        this.#find("wrong", `answer ${sequence} came again, in ${excerpt(buffer, start, end)}`);
      else this.#tally.answersChecked += 1;
    }
    if (marks.length > 0 || (type !== Backend.DataRow && type !== Backend.CopyData)) return;
    if (this.#strict) this.#find("wrong", `a row without a mark: ${excerpt(buffer, start, end)}`);
    else this.#tally.unmarked += 1;
  }

  #hearError(body: Buffer): void {
    const { C = "", M = "" } = errorFields(body);
    this.#tally.error(C);
    // A cancellation, too: nobody has asked for one.
    if (this.#strict && !this.#turnFails) this.#find("wrong", `${C} ${M}`);
  }
}
