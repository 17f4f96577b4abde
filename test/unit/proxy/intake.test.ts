// A client's stream, held back and read on at will: whatever the sink does, each message comes once, whole and in order.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type FrameSink, PASS, STOP, type Verdict, WHOLE } from "../../../src/protocol/framer.ts";
import { MessageWriter } from "../../../src/protocol/writer.ts";
import { Intake } from "../../../src/proxy/intake.ts";

/** What becomes of a message: as the client's reader does it. */
type Fate = "pass" | "stop and pass" | "whole" | "whole and put back";

/** Decides by a message's first byte of body, which is the index of its fate; the second time it passes. */
class Sink implements FrameSink {
  readonly seen: string[] = [];
  readonly intake = new Intake(this);
  readonly #fates: readonly Fate[];
  #next = 0;
  /** Nothing may be read until somebody lets it: as while a client waits. */
  waiting = false;
  #passing: Buffer[] = [];

  constructor(fates: readonly Fate[]) {
    this.#fates = [...fates];
  }

  header(): Verdict {
    this.endPass();
    if (this.waiting) return STOP;
    const fate = this.#fates[this.#next];
    if (fate === "stop and pass" && !this.#second) {
      this.#second = true;
      this.waiting = true;
      return STOP;
    }
    if (fate === "whole" || (fate === "whole and put back" && !this.#second)) return WHOLE;
    this.#advance();
    return PASS;
  }
  #second = false;

  #advance(): void {
    this.#next += 1;
    this.#second = false;
  }

  pass(buffer: Buffer, start: number, end: number): void {
    this.#passing.push(Buffer.from(buffer.subarray(start, end)));
  }

  whole(_type: number, buffer: Buffer, start: number, end: number): void {
    if (this.#fates[this.#next] === "whole and put back" && !this.#second) {
      this.#second = true;
      this.waiting = true;
      this.intake.putBack(Buffer.from(buffer.subarray(start, end)));
      return;
    }
    this.#advance();
    this.seen.push(buffer.toString("hex", start, end));
  }

  malformed(type: number, length: number): void {
    this.seen.push(`malformed ${type} ${length}`);
  }

  endPass(): void {
    if (this.#passing.length > 0) this.seen.push(Buffer.concat(this.#passing).toString("hex"));
    this.#passing = [];
  }

  /** A server has been found. */
  grant(): void {
    this.waiting = false;
    this.intake.advance();
  }
}

const message = (body: Uint8Array): Buffer => new MessageWriter().message(81).bytes(body).finish();

const fate = fc.constantFrom<Fate[]>("pass", "stop and pass", "whole", "whole and put back");

describe("Intake", () => {
  test("gives each message once, whole and in order, wherever the stream is cut and whatever waits", () => {
    const bodies = fc.array(fc.tuple(fc.uint8Array({ maxLength: 9 }), fate), { maxLength: 8 });
    fc.assert(
      fc.property(bodies, fc.array(fc.nat(), { maxLength: 10 }), fc.array(fc.boolean()), (sent, cuts, grants) => {
        const messages = sent.map(([body]) => message(body));
        const stream = Buffer.concat(messages);
        const sink = new Sink(sent.map(([, fates]) => fates));
        const places = [0, ...cuts.map((cut) => cut % (stream.length + 1)), stream.length].toSorted((a, b) => a - b);
        places.slice(1).forEach((place, index) => {
          sink.intake.push(stream, places[index] ?? 0, place);
          if (grants[index] === true && sink.waiting) sink.grant();
        });
        for (let round = 0; round <= sent.length; round += 1) if (sink.waiting) sink.grant();
        sink.endPass();
        expect(sink.seen).toEqual(messages.map((each) => each.toString("hex")));
        expect([sink.intake.holding, sink.intake.atBoundary]).toEqual([false, true]);
      }),
      { numRuns: 3_000, seed: 7 },
    );
  });

  test("keeps a message that was put back in front of a header that was cut behind it", () => {
    const messages = [message(Buffer.from("BEGIN")), message(Buffer.from("SELECT"))];
    const stream = Buffer.concat(messages);
    for (let cut = messages[0]?.length ?? 0; cut <= stream.length; cut += 1) {
      const sink = new Sink(["whole and put back", "whole"]);
      sink.intake.push(stream, 0, cut);
      expect(sink.intake.holding).toBe(true);
      sink.grant();
      sink.intake.push(stream, cut, stream.length);
      sink.endPass();
      expect(sink.seen).toEqual(messages.map((each) => each.toString("hex")));
    }
  });

  test("drops the rest of a message that is under way, and no more", () => {
    const sink = new Sink(["pass", "whole"]);
    const first = message(Buffer.from("long text"));
    const second = message(Buffer.from("next"));
    sink.intake.push(first, 0, 8);
    sink.intake.dropRest();
    sink.intake.push(Buffer.concat([first.subarray(8), second]), 0, first.length - 8 + second.length);
    expect(sink.seen).toEqual([first.toString("hex", 0, 8), second.toString("hex")]);
  });
});
