// The framer against a model: whatever the verdicts and wherever the stream is cut, the same messages in the same order and
// the same bytes.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HEAD_BYTES, MESSAGE_BYTES_MAX } from "../../../src/core/limits.ts";
import { DROP, Framer, type FrameSink, HEAD, PASS, STOP, type Verdict, WHOLE } from "../../../src/protocol/framer.ts";

interface Message {
  readonly type: number;
  readonly body: Buffer;
  readonly verdict: typeof PASS | typeof WHOLE | typeof DROP | typeof HEAD;
  /** How often its header is answered STOP before its verdict. */
  readonly stops: number;
}

const encode = ({ type, body }: Message): Buffer => {
  const header = Buffer.alloc(5);
  header[0] = type;
  header.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([header, body]);
};

/** Notes what the framer says, one line per header and per message; the bytes of a passing one, or behind a head, are joined. */
class Recorder implements FrameSink {
  readonly lines: string[] = [];
  readonly headers: string[] = [];
  readonly #messages: readonly Message[];
  #next = 0;
  #stopped = 0;
  #passing: Buffer[] = [];

  constructor(messages: readonly Message[]) {
    this.#messages = messages;
  }

  header(type: number, length: number): Verdict {
    this.#endPass();
    const message = this.#messages[this.#next];
    if (message === undefined) throw new Error("more headers than messages");
    if (this.#stopped < message.stops) {
      this.#stopped += 1;
      return STOP;
    }
    this.headers.push(`${type} ${length}`);
    this.#stopped = 0;
    this.#next += 1;
    return message.verdict;
  }

  pass(buffer: Buffer, start: number, end: number): void {
    expect(end).toBeGreaterThan(start);
    this.#passing.push(Buffer.from(buffer.subarray(start, end)));
  }

  whole(type: number, buffer: Buffer, start: number, end: number): void {
    this.#endPass();
    this.lines.push(`whole ${type} ${buffer.toString("hex", start, end)}`);
  }

  head(type: number, length: number, buffer: Buffer, start: number, end: number): boolean {
    this.#endPass();
    // At least HEAD_BYTES, or all: how much more of it depends on the cuts.
    expect(end - start).toBeGreaterThanOrEqual(Math.min(HEAD_BYTES, length + 1));
    expect(end - start).toBeLessThanOrEqual(length + 1);
    this.lines.push(`head ${type} ${length}`);
    this.pass(buffer, start, end);
    return true;
  }

  malformed(type: number, length: number): void {
    this.lines.push(`malformed ${type} ${length}`);
  }

  finish(): string[] {
    this.#endPass();
    return this.lines;
  }

  #endPass(): void {
    if (this.#passing.length > 0) this.lines.push(`pass ${Buffer.concat(this.#passing).toString("hex")}`);
    this.#passing = [];
  }
}

function expected(messages: readonly Message[]): string[] {
  return messages.flatMap((message) => {
    const hex = encode(message).toString("hex");
    if (message.verdict === DROP) return [];
    if (message.verdict === HEAD) return [`head ${message.type} ${message.body.length + 4}`, `pass ${hex}`];
    return [message.verdict === PASS ? `pass ${hex}` : `whole ${message.type} ${hex}`];
  });
}

/** Pushes `pieces`; after a STOP pushes what was left over, together with what comes next, as an owner does. */
function run(messages: readonly Message[], pieces: readonly Buffer[]): { recorder: Recorder; framer: Framer } {
  const recorder = new Recorder(messages);
  const framer = new Framer(recorder);
  let held: Buffer = Buffer.alloc(0);
  for (const piece of pieces) {
    const chunk = Buffer.concat([Buffer.from("pad"), held, piece, Buffer.from("pad")]);
    const end = chunk.length - 3;
    const stopped = framer.push(chunk, 3, end);
    expect(stopped).toBeLessThanOrEqual(end);
    held = Buffer.from(chunk.subarray(stopped, end));
    // Nobody may look at it later.
    chunk.fill(0xee);
  }
  const asked = messages.reduce((sum, { stops }) => sum + stops, 0);
  for (let again = 0; again <= asked; again += 1) {
    held = Buffer.from(held.subarray(framer.push(held, 0, held.length)));
  }
  expect(held.length).toBe(0);
  return { recorder, framer };
}

const message: fc.Arbitrary<Message> = fc.record({
  type: fc.integer({ min: 0, max: 255 }),
  body: fc
    .oneof(
      { weight: 3, arbitrary: fc.uint8Array({ maxLength: 4 }) },
      { weight: 2, arbitrary: fc.uint8Array({ maxLength: 40 }) },
    )
    .map((bytes) => Buffer.from(bytes)),
  verdict: fc.constantFrom(PASS, WHOLE, DROP, HEAD),
  stops: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: 1, max: 2 }) }),
});

const cutAt = (stream: Buffer, cuts: readonly number[]): Buffer[] => {
  const places = [0, ...cuts.map((cut) => cut % (stream.length + 1)), stream.length].toSorted((a, b) => a - b);
  return places.slice(1).map((place, index) => stream.subarray(places[index], place));
};

describe("Framer", () => {
  test("says the same of a stream wherever it is cut and however often it is stopped", () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 12 }), fc.array(fc.nat(), { maxLength: 12 }), (messages, cuts) => {
        const stream = Buffer.concat(messages.map(encode));
        const { recorder, framer } = run(messages, cutAt(stream, cuts));
        expect(recorder.finish()).toEqual(expected(messages));
        expect(recorder.headers).toEqual(messages.map(({ type, body }) => `${type} ${body.length + 4}`));
        expect(framer.atBoundary).toBe(true);
      }),
      { numRuns: 2_000, seed: 1 },
    );
  });

  test("says the same when it is cut at every byte in turn, and when it comes byte by byte", () => {
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 5 }), (messages) => {
        const stream = Buffer.concat(messages.map(encode));
        for (let cut = 0; cut <= stream.length; cut += 1) {
          const { recorder } = run(messages, cutAt(stream, [cut]));
          expect(recorder.finish()).toEqual(expected(messages));
        }
        const { recorder } = run(
          messages,
          [...stream].map((byte) => Buffer.of(byte)),
        );
        expect(recorder.finish()).toEqual(expected(messages));
      }),
      { numRuns: 60, seed: 2 },
    );
  });

  test("stands between messages only there", () => {
    const framer = new Framer(new Recorder([{ type: 81, body: Buffer.from("x"), verdict: PASS, stops: 0 }]));
    const stream = encode({ type: 81, body: Buffer.from("x"), verdict: PASS, stops: 0 });
    const seen = [...stream].map((byte) => {
      framer.push(Buffer.of(byte), 0, 1);
      return framer.atBoundary;
    });
    expect(seen).toEqual([false, false, false, false, false, true]);
  });

  test.each([3, 0, -1, -2_147_483_648, MESSAGE_BYTES_MAX + 1, 2_147_483_647])(
    "refuses the length %i before anything is allocated, whole or cut, and reads no further",
    (length) => {
      const header = Buffer.alloc(5, "Q");
      header.writeInt32BE(length, 1);
      for (let cut = 0; cut <= 5; cut += 1) {
        const recorder = new Recorder([]);
        const framer = new Framer(recorder);
        framer.push(header, 0, cut);
        const rest = Buffer.concat([header.subarray(cut), Buffer.from("SELECT")]);
        // A header that is complete in the first push is refused there.
        if (cut < 5) expect(framer.push(rest, 0, rest.length)).toBe(rest.length);
        expect(recorder.finish()).toEqual([`malformed 81 ${length}`]);
      }
    },
  );

  test("takes the longest length and says nothing of its body before it comes", () => {
    const recorder = new Recorder([{ type: 100, body: Buffer.alloc(0), verdict: PASS, stops: 0 }]);
    const header = Buffer.alloc(5, "d");
    header.writeInt32BE(MESSAGE_BYTES_MAX, 1);
    new Framer(recorder).push(header, 0, 5);
    expect(recorder.headers).toEqual([`100 ${MESSAGE_BYTES_MAX}`]);
  });

  test("hands the head of a long message over, wherever it is cut, and lets the rest pass", () => {
    for (const size of [HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 3 * HEAD_BYTES]) {
      const body = Buffer.from(Array.from({ length: size - 5 }, (_, index) => index % 251));
      const messages: Message[] = [
        { type: 66, body, verdict: HEAD, stops: 0 },
        { type: 83, body: Buffer.alloc(0), verdict: WHOLE, stops: 0 },
      ];
      const stream = Buffer.concat(messages.map(encode));
      for (let cut = 0; cut <= stream.length; cut += 1) {
        const { recorder, framer } = run(messages, cutAt(stream, [cut, cut + 1]));
        expect(recorder.finish(), `size ${size}, cut ${cut}`).toEqual(expected(messages));
        expect(framer.atBoundary).toBe(true);
      }
    }
  });

  test("leaves all of a message unread, and what follows, where its head is refused, wherever it is cut", () => {
    const message = (letter: string, size: number): Buffer =>
      encode({ type: letter.charCodeAt(0), body: Buffer.alloc(size, letter), verdict: PASS, stops: 0 });
    const [before, long, behind] = [message("H", 0), message("B", HEAD_BYTES + 500), message("S", 0)];
    const stream = Buffer.concat([before, long, behind]);
    for (let cut = 0; cut <= stream.length; cut += 1) {
      let kept: Buffer = Buffer.alloc(0);
      const framer = new Framer({
        header: (type) => (type === "H".charCodeAt(0) ? PASS : HEAD),
        pass: () => {},
        whole: () => {},
        malformed: () => {},
        head: (_type, _length, buffer, start, end) => {
          kept = Buffer.concat([kept, buffer.subarray(start, end)]);
          return false;
        },
      });
      for (const [start, end] of [[0, cut] as const, [cut, stream.length] as const]) {
        if (kept.length > 0) continue;
        const stopped = framer.push(stream, start, end);
        if (kept.length > 0) kept = Buffer.concat([kept, stream.subarray(stopped)]);
      }
      expect(kept.equals(Buffer.concat([long, behind])), `cut at ${cut}`).toBe(true);
      expect([framer.atBoundary, framer.midPass]).toEqual([true, false]);
    }
  });

  test("stands in the middle of a pass behind a head, not before it", () => {
    const body = Buffer.alloc(2 * HEAD_BYTES);
    const stream = encode({ type: 66, body, verdict: HEAD, stops: 0 });
    const framer = new Framer(new Recorder([{ type: 66, body, verdict: HEAD, stops: 0 }]));
    framer.push(stream, 0, HEAD_BYTES - 1);
    expect([framer.midPass, framer.atBoundary]).toEqual([false, false]);
    framer.push(stream, HEAD_BYTES - 1, HEAD_BYTES);
    expect([framer.midPass, framer.atBoundary]).toEqual([true, false]);
    framer.push(stream, HEAD_BYTES, stream.length);
    expect([framer.midPass, framer.atBoundary]).toEqual([false, true]);
  });

  test("drops the rest of a message that is passing, and no more than that", () => {
    const messages: Message[] = [
      { type: 81, body: Buffer.from("azby"), verdict: PASS, stops: 0 },
      { type: 83, body: Buffer.from("after"), verdict: WHOLE, stops: 0 },
    ];
    const stream = Buffer.concat(messages.map(encode));
    const recorder = new Recorder(messages);
    const framer = new Framer(recorder);
    framer.push(stream, 0, 7);
    framer.dropRest();
    framer.push(stream, 7, stream.length);
    expect(recorder.finish()).toEqual(["pass 5100000008617a", `whole 83 ${stream.toString("hex", 9)}`]);
  });

  test("drops the rest of a message whose head was handed over", () => {
    const messages: Message[] = [
      { type: 66, body: Buffer.alloc(2 * HEAD_BYTES, 7), verdict: HEAD, stops: 0 },
      { type: 83, body: Buffer.from("after"), verdict: WHOLE, stops: 0 },
    ];
    const stream = Buffer.concat(messages.map(encode));
    const recorder = new Recorder(messages);
    const framer = new Framer(recorder);
    framer.push(stream, 0, HEAD_BYTES + 10);
    framer.dropRest();
    framer.push(stream, HEAD_BYTES + 10, stream.length);
    const [message] = messages;
    expect(recorder.finish()).toEqual([
      `head 66 ${(message?.body.length ?? 0) + 4}`,
      `pass ${stream.toString("hex", 0, HEAD_BYTES + 10)}`,
      `whole 83 ${stream.toString("hex", 5 + 2 * HEAD_BYTES)}`,
    ]);
  });

  test.each([
    ["WHOLE", WHOLE],
    ["HEAD", HEAD],
  ] as const)("does not drop what is being collected for %s: it is nobody's yet", (_name, verdict) => {
    const messages: Message[] = [{ type: 81, body: Buffer.from("azby"), verdict, stops: 0 }];
    const stream = Buffer.concat(messages.map(encode));
    const recorder = new Recorder(messages);
    const framer = new Framer(recorder);
    framer.push(stream, 0, 7);
    framer.dropRest();
    framer.push(stream, 7, stream.length);
    expect(recorder.finish()).toEqual(expected(messages));
  });

  test("asks about a message whose header was cut when the rest was dropped: it had not begun", () => {
    const messages: Message[] = [{ type: 81, body: Buffer.from("abc"), verdict: WHOLE, stops: 0 }];
    const stream = Buffer.concat(messages.map(encode));
    const recorder = new Recorder(messages);
    const framer = new Framer(recorder);
    framer.push(stream, 0, 3);
    framer.dropRest();
    framer.push(stream, 3, stream.length);
    expect(recorder.finish()).toEqual(expected(messages));
  });

  test("begins a new stream after a reset, wherever the old one stood", () => {
    const messages: Message[] = [{ type: 81, body: Buffer.from("abc"), verdict: WHOLE, stops: 0 }];
    const stream = Buffer.concat(messages.map(encode));
    for (let cut = 1; cut < stream.length; cut += 1) {
      const recorder = new Recorder([...messages, ...messages]);
      const framer = new Framer(recorder);
      framer.push(stream, 0, cut);
      framer.reset();
      expect(framer.atBoundary).toBe(true);
      framer.push(stream, 0, stream.length);
      expect(recorder.finish()).toEqual(expected(messages));
    }
  });
});

describe("Framer under arbitrary bytes", () => {
  const verdicts = [PASS, WHOLE, DROP, HEAD, STOP] as const;

  test("never throws, asks only about lengths that can be, and hands out only what it was given", () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      // Headers that make sense now and then.
      fc
        .record({ type: fc.nat(255), length: fc.integer({ min: 0, max: 30 }) })
        .map(({ type, length }) => Uint8Array.of(type, 0, 0, 0, length)),
    );
    fc.assert(
      fc.property(
        fc.array(bytes, { maxLength: 20 }),
        fc.array(fc.nat(4), { minLength: 1, maxLength: 30 }),
        (pieces, choices) => {
          let asked = 0;
          let handed = 0;
          let broken = false;
          const take = (buffer: Buffer, start: number, end: number): void => {
            expect(start).toBeGreaterThanOrEqual(0);
            expect(end).toBeLessThanOrEqual(buffer.length);
            handed += end - start;
          };
          const framer = new Framer({
            header: (_type, length) => {
              expect(length).toBeGreaterThanOrEqual(4);
              expect(length).toBeLessThanOrEqual(MESSAGE_BYTES_MAX);
              // Owners check a length before they want a message whole.
              const verdict = verdicts[choices[asked++ % choices.length] ?? 0] ?? PASS;
              return verdict === WHOLE && length > 100 ? PASS : verdict;
            },
            pass: take,
            head: (_type, _length, buffer, start, end) => {
              take(buffer, start, end);
              return true;
            },
            whole: (_type, buffer, start, end) => {
              take(buffer, start, end);
              expect(framer.unread).toBeGreaterThanOrEqual(0);
            },
            malformed: () => {
              broken = true;
            },
          });
          let given = 0;
          for (const piece of pieces) {
            if (broken) break;
            given += piece.length;
            const chunk = Buffer.from(piece);
            const stopped = framer.push(chunk, 0, chunk.length);
            expect(stopped).toBeGreaterThanOrEqual(0);
            expect(stopped).toBeLessThanOrEqual(chunk.length);
            expect(framer.unread).toBe(0);
            // What was stopped is given up here: the framer must cope with an owner that goes on.
            if (framer.stoppedInCarry) framer.takeCarry();
          }
          expect(handed).toBeLessThanOrEqual(given);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test("tells, while a whole message is handed over, how much was read behind it", () => {
    const messages: Message[] = [
      { type: 83, body: Buffer.from("one"), verdict: WHOLE, stops: 0 },
      { type: 84, body: Buffer.from("second"), verdict: WHOLE, stops: 0 },
    ];
    const stream = Buffer.concat(messages.map(encode));
    for (let cut = 0; cut <= stream.length; cut += 1) {
      const unread: number[] = [];
      const framer: Framer = new Framer({
        header: () => WHOLE,
        pass: () => {},
        whole: () => void unread.push(framer.unread),
        malformed: () => {},
      });
      framer.push(stream, 0, cut);
      framer.push(stream, cut, stream.length);
      // The first message ends at 8; what is behind it in the read that completes it counts.
      expect(unread, `cut at ${cut}`).toEqual([cut >= 8 ? cut - 8 : stream.length - 8, 0]);
    }
  });
});
