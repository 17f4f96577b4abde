// A server that lies: good answers, and answers that are harmed, cut, doubled, interrupted or never given. No real server
// misbehaves so; a router must survive one that does.

import { type Behaviour, type Forged, ForgedServer } from "./forged-server.ts";
import { reply } from "./hostile-session.ts";
import { harm } from "./mutation.ts";
import { Random } from "./random.ts";
import type { Tally } from "./tally.ts";

/** Keeps its choices apart from those of the clients. */
const STREAM = 0x5eed;

export class HostileServer implements Behaviour {
  readonly #seed: number;
  readonly #tally: Tally;
  readonly #server = new ForgedServer(this);
  readonly #choices = new WeakMap<Forged, Random>();
  #tame = false;

  constructor(seed: number, tally: Tally) {
    this.#seed = seed;
    this.#tally = tally;
  }

  listen(port: number): Promise<void> {
    return this.#server.listen(port);
  }

  close(): void {
    this.#server.close();
  }

  /** From now on it does no harm; those whom it left without an answer get none any more. */
  becomeTame(): void {
    this.#tame = true;
    this.#server.sever();
  }

  #random(on: Forged): Random {
    const known = this.#choices.get(on);
    if (known !== undefined) return known;
    const made = new Random(this.#seed ^ STREAM, on.number);
    this.#choices.set(on, made);
    return made;
  }

  welcome(on: Forged, messages: readonly Buffer[]): void {
    if (!this.#tame && this.#random(on).chance(0.01)) this.#harm(on, messages, "login");
    else on.socket.write(Buffer.concat([...messages]));
  }

  answer(on: Forged, messages: readonly Buffer[]): void {
    const random = this.#random(on);
    if (this.#tame || random.chance(0.8)) {
      this.#tally.frames += messages.length;
      on.socket.write(Buffer.concat([...messages]));
    } else if (random.chance(0.5)) this.#interrupt(on, messages);
    else if (random.chance(0.6)) this.#harm(on, messages, "server");
    else this.#fallSilent(on, messages);
  }

  /** Something asynchronous at any place, which is every server's right. */
  #interrupt(on: Forged, messages: readonly Buffer[]): void {
    const random = this.#random(on);
    const said = [...messages];
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
    on.socket.write(Buffer.concat(said));
  }

  /** Harmed answers in one write. What comes later may belong to anybody. */
  #harm(on: Forged, answers: readonly Buffer[], whose: string): void {
    const { messages, kinds } = harm(answers, this.#random(on));
    for (const kind of kinds) this.#tally.mutated(`${whose}_${kind}`);
    this.#tally.frames += messages.length;
    on.session.tainted = true;
    // All of it once more: what is behind the end of an answer must reach nobody.
    const again = this.#random(on).chance(0.3) ? messages : [];
    if (again.length > 0) this.#tally.mutated(`${whose}_all_doubled`);
    on.socket.write(Buffer.concat([...messages, ...again]));
  }

  /** Ends in the middle, with or without a word, or says nothing more. */
  #fallSilent(on: Forged, messages: readonly Buffer[]): void {
    const random = this.#random(on);
    const { socket } = on;
    const bytes = Buffer.concat([...messages]);
    const kept = bytes.subarray(0, random.below(bytes.length + 1));
    const how = random.pick(["end", "reset", "fatal", "silence"]);
    this.#tally.mutated(`server_${how}`);
    this.#tally.frames += messages.length;
    if (how === "silence") {
      on.session.tainted = true;
      socket.write(kept);
    } else if (how === "reset") {
      socket.write(kept, () => socket.resetAndDestroy());
    } else if (how === "end") {
      socket.end(kept);
    } else {
      const code = random.pick(["57P01", "57P02", "57P05", "25P03", "XX000", "53300"]);
      const some = messages.slice(0, random.below(messages.length + 1));
      socket.end(Buffer.concat([...some, reply.error("FATAL", code, "terminating connection for a reason")]));
    }
  }
}
