// What we write is read by npm's pg-protocol, and what we read is written by hand or by it: neither side checks itself.

import { PassThrough } from "node:stream";
import fc from "fast-check";
import { parse, serialize } from "pg-protocol";
import { describe, expect, test } from "vitest";
import { ProxyError } from "../../../src/core/errors.ts";
import { TransactionStatus } from "../../../src/protocol/constants.ts";
import {
  authentication,
  backendKeyData,
  commandComplete,
  decodeDataRow,
  decodeError,
  decodeParameterStatus,
  errorResponse,
  isFatal,
  negotiateProtocolVersion,
  parameterStatus,
  passwordMessage,
  query,
  readyForQuery,
  terminate,
} from "../../../src/protocol/messages.ts";
import { MalformedBody } from "../../../src/protocol/reader.ts";
import { MessageWriter } from "../../../src/protocol/writer.ts";

/** What npm's parser reads. */
async function read(bytes: Buffer): Promise<object[]> {
  const stream = new PassThrough();
  const messages: object[] = [];
  const done = parse(stream, (message) => messages.push(message));
  stream.end(bytes);
  await done;
  return messages;
}

describe("messages that we send", () => {
  test("are what npm's parser reads, several in one buffer", async () => {
    const writer = new MessageWriter();
    authentication(0, Buffer.alloc(0), writer);
    parameterStatus("TimeZone", "Europe/Berlin", writer);
    backendKeyData(4711, Buffer.from([0, 0, 3, 47]), writer);
    commandComplete("INSERT 0 1", writer);
    readyForQuery(TransactionStatus.Failed, writer);
    expect(await read(writer.finish())).toMatchObject([
      { name: "authenticationOk" },
      { name: "parameterStatus", parameterName: "TimeZone", parameterValue: "Europe/Berlin" },
      { name: "backendKeyData", processID: 4711, secretKey: 815 },
      { name: "commandComplete", text: "INSERT 0 1" },
      { name: "readyForQuery", status: "E" },
    ]);
  });

  test("carry every field of an error, in any language", async () => {
    const error = new ProxyError("leader_changed", "verloren – 失", { detail: "D\n2", hint: "H" });
    expect(await read(errorResponse(error).finish())).toMatchObject([
      { name: "error", severity: "ERROR", code: "40001", message: "verloren – 失", detail: "D\n2", hint: "H" },
    ]);
    const bytes = errorResponse(error).finish();
    expect(decodeError(bytes, 5, bytes.length)).toEqual({
      severity: "ERROR",
      sqlstate: "40001",
      message: "verloren – 失",
      detail: "D\n2",
      hint: "H",
    });
  });

  test("leave out the fields that an error has not", async () => {
    const [message] = await read(errorResponse(new ProxyError("too_many_clients", "none")).finish());
    expect(message).toMatchObject({ severity: "FATAL", code: "53300", detail: undefined, hint: undefined });
  });

  test("offer the protocol version as PostgreSQL does: as a whole, not its minor half", () => {
    const bytes = negotiateProtocolVersion(2, ["_pq_.one", "_pq_.two"], new MessageWriter()).finish();
    expect(bytes.toString("latin1", 0, 1)).toBe("v");
    expect(bytes.readInt32BE(1)).toBe(bytes.length - 1);
    expect(bytes.readInt32BE(5)).toBe(0x0003_0002);
    expect(bytes.readInt32BE(9)).toBe(2);
    expect(bytes.toString("latin1", 13)).toBe("_pq_.one\0_pq_.two\0");
  });

  test("towards servers are byte for byte those of npm's serialiser", () => {
    expect(query("SELECT 1")).toEqual(serialize.query("SELECT 1"));
    expect(terminate()).toEqual(serialize.end());
    expect(passwordMessage(Buffer.from("pw\0"))).toEqual(serialize.password("pw"));
  });

  test("of SQL keep every byte", () => {
    const every = String.fromCharCode(...Array.from({ length: 255 }, (_, index) => index + 1));
    expect(query(every).subarray(5, -1)).toEqual(Buffer.from(every, "latin1"));
  });
});

describe("MessageWriter", () => {
  test("writes any number of messages of any size, each with its true length", () => {
    const piece = fc.record({ type: fc.integer({ min: 1, max: 255 }), body: fc.uint8Array({ maxLength: 700 }) });
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 6 }), (pieces) => {
        const writer = new MessageWriter();
        for (const { type, body } of pieces) writer.message(type).bytes(body);
        let rest = writer.finish();
        for (const { type, body } of pieces) {
          expect(rest[0]).toBe(type);
          expect(rest.readInt32BE(1)).toBe(body.length + 4);
          expect(rest.subarray(5, 5 + body.length)).toEqual(Buffer.from(body));
          rest = rest.subarray(5 + body.length);
        }
        expect(rest.length).toBe(0);
      }),
      { seed: 4 },
    );
  });

  test("grows in the middle of a message without losing what was written", () => {
    const text = "é".repeat(1_000);
    const bytes = new MessageWriter().message(81).int32(-2).string(text).byte(7).finish();
    expect(bytes.readInt32BE(1)).toBe(bytes.length - 1);
    expect(bytes.readInt32BE(5)).toBe(-2);
    expect(bytes.toString("utf8", 9, bytes.length - 2)).toBe(text);
    expect([...bytes.subarray(-2)]).toEqual([0, 7]);
  });
});

describe("messages that we read", () => {
  const fields = (entries: Record<string, string>): Buffer =>
    Buffer.from(
      `${Object.entries(entries)
        .map(([letter, text]) => `${letter}${text}\0`)
        .join("")}\0`,
    );

  test("tell an error's untranslated severity, or the translated one of old servers", () => {
    const decode = (body: Buffer) => decodeError(body, 0, body.length);
    const fatal = decode(fields({ S: "SCHWERWIEGEND", V: "FATAL", C: "57P01", M: "m", W: "somewhere" }));
    expect(fatal).toEqual({ severity: "FATAL", sqlstate: "57P01", message: "m", detail: null, hint: null });
    expect(isFatal(fatal)).toBe(true);
    expect(isFatal(decode(fields({ S: "PANIC", C: "XX000" })))).toBe(true);
    expect(isFatal(decode(fields({ S: "ERROR", V: "ERROR" })))).toBe(false);
    expect(decode(fields({})).severity).toBe("");
  });

  test("that are cut anywhere are malformed, even where what follows in the buffer would complete them", () => {
    const error = fields({ S: "ERROR", V: "ERROR", C: "42601", M: "syntax" });
    const parameter = Buffer.from("name\0value\0");
    const row = Buffer.from("\0\x02\0\0\0\x01a\xff\xff\xff\xff", "latin1");
    for (let end = 0; end < error.length; end += 1) expect(() => decodeError(error, 0, end)).toThrow(MalformedBody);
    for (let end = 0; end < parameter.length; end += 1) {
      expect(() => decodeParameterStatus(parameter, 0, end)).toThrow(MalformedBody);
    }
    for (let end = 0; end < row.length; end += 1) expect(() => decodeDataRow(row, 0, end)).toThrow(MalformedBody);
    expect(decodeDataRow(row, 0, row.length)).toEqual(["a", null]);
  });

  test("with hostile lengths are malformed", () => {
    for (const length of ["\x7f\xff\xff\xff", "\0\0\0\x02"]) {
      const row = Buffer.from(`\0\x01${length}a`, "latin1");
      expect(() => decodeDataRow(row, 0, row.length)).toThrow(MalformedBody);
    }
  });

  test("give a parameter's value byte for byte, and a row's too", () => {
    const parameter = Buffer.from("application_name\0käse\0");
    const { name, value } = decodeParameterStatus(parameter, 0, parameter.length);
    expect([name, Buffer.from(value, "latin1").toString()]).toEqual(["application_name", "käse"]);
    const row = Buffer.from("\0\x01\0\0\0\x05käse");
    expect(decodeDataRow(row, 0, row.length).map((text) => Buffer.from(text ?? "", "latin1").toString())).toEqual([
      "käse",
    ]);
  });
});
