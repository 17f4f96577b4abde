// Fields of one body, whatever bytes it has: they are read inside its bounds or not at all. Bodies of real messages are in
// messages.test.ts.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeDataRow, decodeError, decodeParameterStatus } from "../../../src/protocol/messages.ts";
import { BodyReader, MalformedBody } from "../../../src/protocol/reader.ts";

const read = {
  int32: (reader: BodyReader) => reader.int32(),
  byte: (reader: BodyReader) => reader.byte(),
  string: (reader: BodyReader) => reader.string(),
  latin1: (reader: BodyReader) => reader.string("latin1"),
  bytes: (reader: BodyReader, count: number) => reader.bytes(count).length,
} as const;

describe("BodyReader under arbitrary bytes", () => {
  test("reads inside its bounds, or says that the body is malformed", () => {
    const step = fc.record({
      what: fc.constantFrom(...Object.values(read)),
      count: fc.oneof(fc.integer({ min: -5, max: 40 }), fc.constantFrom(-(2 ** 31), 2 ** 31 - 1)),
    });
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 60 }),
        fc.nat(60),
        fc.nat(60),
        fc.array(step),
        (noise, one, other, steps) => {
          const buffer = Buffer.from(noise);
          const [start, end] = [Math.min(one, other, buffer.length), Math.min(Math.max(one, other), buffer.length)];
          const reader = new BodyReader(buffer, start, end);
          for (const { what, count } of steps) {
            const before = reader.remaining;
            try {
              what(reader, count);
            } catch (error) {
              expect(error).toBeInstanceOf(MalformedBody);
              expect(reader.remaining).toBe(before);
            }
            expect(reader.remaining).toBeGreaterThanOrEqual(0);
            expect(reader.remaining).toBeLessThanOrEqual(before);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe("decoders of what servers say", () => {
  test.each([
    ["an error", decodeError],
    ["a parameter", decodeParameterStatus],
    ["a row", decodeDataRow],
  ] as const)("read %s out of arbitrary bytes, or say that it is malformed", (_name, decode) => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (noise) => {
        try {
          decode(Buffer.from(noise), 0, noise.length);
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedBody);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
