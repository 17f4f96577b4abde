// The startup phase: each packet there and back, and everything hostile that can stand in its place.

import fc from "fast-check";
import { serialize } from "pg-protocol";
import { describe, expect, test } from "vitest";
import { ProxyError } from "../../../src/core/errors.ts";
import { CANCEL_KEY_BYTES_MAX, STARTUP_PACKET_BYTES_MAX } from "../../../src/core/limits.ts";
import {
  cancelRequest,
  decodeStartup,
  spokenMinor,
  sslRequest,
  startupMessage,
  startupPacketLength,
} from "../../../src/protocol/startup.ts";
import { MessageWriter } from "../../../src/protocol/writer.ts";

/** A packet from its code and what follows it, with a true length. */
const packet = (code: number, rest: string | Buffer = ""): Buffer =>
  new MessageWriter()
    .packet()
    .int32(code)
    .bytes(Buffer.from(rest as string))
    .finish();

function refusal(act: () => unknown): ProxyError {
  try {
    act();
  } catch (error) {
    if (error instanceof ProxyError) return error;
    throw error;
  }
  throw new Error("it was taken");
}

const V3 = 0x0003_0000;

describe("startup packets", () => {
  test("of npm's serialiser are understood", () => {
    expect(decodeStartup(serialize.requestSsl())).toEqual({ kind: "ssl" });
    expect(decodeStartup(serialize.cancel(4711, 815))).toEqual({
      kind: "cancel",
      pid: 4711,
      key: Buffer.from([0, 0, 3, 47]),
    });
    const startup = decodeStartup(serialize.startup({ user: "jörg", database: "käse", "some.var": "x" }));
    expect(startup).toMatchObject({ kind: "startup", minor: 0, extensions: [] });
    expect(startup.kind === "startup" && startup.parameters.get("user")).toBe("jörg");
    expect(startup.kind === "startup" && startup.parameters.get("database")).toBe("käse");
  });

  test("of ours are byte for byte those of npm's serialiser", () => {
    expect(sslRequest()).toEqual(serialize.requestSsl());
    expect(cancelRequest(4711, Buffer.from([0, 0, 3, 47]))).toEqual(serialize.cancel(4711, 815));
    const pairs = [
      ["user", "jörg"],
      ["database", "käse"],
      ["client_encoding", "UTF8"],
    ] as const;
    expect(startupMessage(pairs)).toEqual(serialize.startup({ user: "jörg", database: "käse" }));
  });

  test("asking for GSS encryption are understood", () => {
    expect(decodeStartup(packet(80_877_104))).toEqual({ kind: "gssenc" });
  });

  test("keep other values byte for byte, whatever their encoding, and the last of two counts", () => {
    const bytes = Buffer.from(Array.from({ length: 255 }, (_, index) => index + 1));
    const sent = packet(V3, Buffer.concat([Buffer.from("a\0"), Buffer.from("first\0a\0"), bytes, Buffer.from("\0\0")]));
    const decoded = decodeStartup(sent);
    const value = decoded.kind === "startup" ? decoded.parameters.get("a") : undefined;
    expect(Buffer.from(value ?? "", "latin1")).toEqual(bytes);
    expect(startupMessage([["a", value ?? ""]]).includes(bytes)).toBe(true);
  });

  test("of minor version 2 with extensions tell both, and the extensions are no parameters", () => {
    const decoded = decodeStartup(packet(V3 + 2, "_pq_.new\0on\0user\0u\0_pq_.other\0\0\0"));
    expect(decoded).toEqual({
      kind: "startup",
      minor: 2,
      parameters: new Map([["user", "u"]]),
      extensions: ["_pq_.new", "_pq_.other"],
    });
  });

  test.each([
    [0, 0],
    [1, 0],
    [2, 2],
    [3, 2],
    [9999, 2],
    [65_535, 2],
  ])("of minor version %i are answered in version 3.%i", (asked, spoken) => {
    expect(spokenMinor(asked)).toBe(spoken);
  });

  test("carry cancel keys of up to 256 bytes, and at least 4", () => {
    const key = Buffer.alloc(CANCEL_KEY_BYTES_MAX, 7);
    expect(decodeStartup(cancelRequest(1, key))).toEqual({ kind: "cancel", pid: 1, key });
    for (const length of [3, CANCEL_KEY_BYTES_MAX + 1]) {
      const error = refusal(() => decodeStartup(cancelRequest(1, Buffer.alloc(length))));
      expect(error).toMatchObject({ sqlstate: "08P01", message: "invalid length of cancel request packet" });
    }
    expect(refusal(() => decodeStartup(packet(80_877_102))).sqlstate).toBe("08P01");
  });

  test("that are cut short anywhere, with a length that says so, are violations and nothing else", () => {
    const body = "user\0u\0database\0d\0\0";
    for (let kept = 0; kept < body.length; kept += 1) {
      const cut = packet(V3, body.slice(0, kept));
      // Behind each value a shorter packet would be well-formed, were its terminator there.
      expect(refusal(() => decodeStartup(cut)).sqlstate).toBe("08P01");
    }
    expect(decodeStartup(packet(V3, body)).kind).toBe("startup");
  });

  test("with bytes behind their terminator are violations", () => {
    expect(refusal(() => decodeStartup(packet(V3, "user\0u\0\0Q"))).message).toBe(
      "invalid startup packet layout: expected terminator as last byte",
    );
  });

  test.each([
    [0x0002_0000, "2.0"],
    [0x0004_0000, "4.0"],
    [0x04d2_0001, "1234.1"],
    [-1, "65535.65535"],
  ])("of protocol %i are refused by name", (code, name) => {
    const error = refusal(() => decodeStartup(packet(code, "user\0u\0\0")));
    expect(error.sqlstate).toBe("0A000");
    expect(error.message).toContain(`unsupported frontend protocol ${name}`);
  });
});

describe("the length of a startup packet", () => {
  test("is unknown until its four bytes are there", () => {
    const length = Buffer.from([0, 0, 0, 8]);
    for (let count = 0; count < 4; count += 1) expect(startupPacketLength(length.subarray(0, count))).toBeNull();
    expect(startupPacketLength(length)).toBe(8);
  });

  test.each([-2_147_483_648, -1, 0, 4, 7, STARTUP_PACKET_BYTES_MAX + 1, 0x1603_0100, 2_147_483_647])(
    "cannot be %i",
    (length) => {
      const word = Buffer.alloc(4);
      word.writeInt32BE(length);
      expect(refusal(() => startupPacketLength(word))).toMatchObject({ sqlstate: "08P01", detail: null });
    },
  );

  test("can be the longest that PostgreSQL takes", () => {
    const word = Buffer.alloc(4);
    word.writeInt32BE(STARTUP_PACKET_BYTES_MAX);
    expect(startupPacketLength(word)).toBe(STARTUP_PACKET_BYTES_MAX);
  });

  test.each(["GET / HTTP/1.1", "POST /x", "HEAD /", "PUT /config", "OPTIONS *"])(
    "tells a person who sent %j",
    (text) => {
      expect(refusal(() => startupPacketLength(Buffer.from(text))).detail).toContain("HTTP");
    },
  );
});

describe("startup packets of arbitrary bytes", () => {
  test("are understood, or refused as PostgreSQL refuses them, and nothing else", () => {
    const code = fc.constantFrom(196_608, 196_610, 80_877_102, 80_877_103, 80_877_104, 131_072, 0);
    fc.assert(
      fc.property(fc.option(code), fc.uint8Array({ minLength: 4, maxLength: 80 }), (known, noise) => {
        const packet = Buffer.concat([Buffer.alloc(4), Buffer.from(noise)]);
        packet.writeInt32BE(packet.length, 0);
        if (known !== null) packet.writeInt32BE(known, 4);
        try {
          expect(startupPacketLength(packet)).toBe(packet.length);
          expect(["ssl", "gssenc", "cancel", "startup"]).toContain(decodeStartup(packet).kind);
        } catch (error) {
          expect(error).toBeInstanceOf(ProxyError);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test("are of no length at all, a possible one, or a violation", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 12 }), (noise) => {
        try {
          const length = startupPacketLength(Buffer.from(noise));
          if (length === null) expect(noise.length).toBeLessThan(4);
          else expect([length >= 8, length <= STARTUP_PACKET_BYTES_MAX]).toEqual([true, true]);
        } catch (error) {
          expect(error).toBeInstanceOf(ProxyError);
        }
      }),
      { numRuns: 3000 },
    );
  });
});
