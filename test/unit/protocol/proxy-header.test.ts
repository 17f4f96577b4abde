// PROXY protocol headers: every form that the specification has, cut at every byte, and what only looks like one.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PROXY_HEADER_BYTES_MAX } from "../../../src/core/limits.ts";
import { readProxyHeader } from "../../../src/protocol/proxy-header.ts";
import { proxyHeader2 } from "../../support/proxy-header.ts";

const ipv4 = Buffer.from([192, 168, 7, 9, 10, 0, 0, 2, 0xde, 0xad, 0x15, 0x38]);
const ipv6 = Buffer.from(`20010db8${"00".repeat(11)}07${"00".repeat(15)}01ffff1538`, "hex");
const mapped = Buffer.from(`${"00".repeat(10)}ffff0a010203${"00".repeat(15)}01dead1538`, "hex");
const unix = Buffer.alloc(216, "/run/x");

const good: readonly (readonly [string, Buffer, string | null])[] = [
  ["TCP4", Buffer.from("PROXY TCP4 192.168.7.9 10.0.0.2 57005 5432\r\n"), "192.168.7.9:57005"],
  ["TCP6", Buffer.from("PROXY TCP6 2001:db8::7 ::1 65535 5432\r\n"), "[2001:db8::7]:65535"],
  ["TCP6 in the long form", Buffer.from("PROXY TCP6 2001:DB8:0:0:0:0:0:7 ::1 5 5432\r\n"), "[2001:db8::7]:5"],
  ["IPv4 in a socket for both, as TCP6", Buffer.from("PROXY TCP6 ::ffff:10.1.2.3 ::1 5 5432\r\n"), "10.1.2.3:5"],
  ["the same in other words", Buffer.from("PROXY TCP6 0:0:0:0:0:FFFF:0a01:203 ::1 5 5432\r\n"), "10.1.2.3:5"],
  ["the same as IPv6", proxyHeader2(0x21, 0x21, mapped), "10.1.2.3:57005"],
  ["UNKNOWN", Buffer.from("PROXY UNKNOWN\r\n"), null],
  ["UNKNOWN with anything", Buffer.from(`PROXY UNKNOWN ${"f".repeat(91)}\r\n`), null],
  ["IPv4", proxyHeader2(0x21, 0x11, ipv4), "192.168.7.9:57005"],
  ["IPv6", proxyHeader2(0x21, 0x21, ipv6), "[2001:db8::7]:65535"],
  ["Unix", proxyHeader2(0x21, 0x31, unix), "unix"],
  ["IPv4 with extensions", proxyHeader2(0x21, 0x11, ipv4, Buffer.from("0400023132ee0000", "hex")), "192.168.7.9:57005"],
  ["LOCAL", proxyHeader2(0x20, 0x00), null],
  ["LOCAL with addresses", proxyHeader2(0x20, 0x11, ipv4), null],
  ["unspecified", proxyHeader2(0x21, 0x00, Buffer.alloc(9)), null],
];

describe("a PROXY header", () => {
  test.each(good)("%s is read, whatever follows it", (_name, header, address) => {
    expect(readProxyHeader(header)).toEqual({ kind: "header", length: header.length, address });
    expect(readProxyHeader(Buffer.concat([header, header]))).toEqual({
      kind: "header",
      length: header.length,
      address,
    });
  });

  test.each(good)("%s is waited for, wherever it is cut", (_name, header) => {
    for (let kept = 0; kept < header.length; kept += 1) {
      expect(readProxyHeader(header.subarray(0, kept))).toEqual({ kind: "incomplete" });
    }
  });

  test.each<[string, Buffer]>([
    ["a startup packet", Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])],
    ["HTTP", Buffer.from("GET / HTTP/1.1\r\n")],
    ["the same in small letters", Buffer.from("proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n")],
    ["UDP", Buffer.from("PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n")],
    ["IPv6 as TCP4", Buffer.from("PROXY TCP4 ::1 ::1 1 1\r\n")],
    ["IPv4 as TCP6", Buffer.from("PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n")],
    ["an octet too large", Buffer.from("PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n")],
    ["a port too large", Buffer.from("PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n")],
    ["a port with a zero in front", Buffer.from("PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n")],
    ["a field too few", Buffer.from("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n")],
    ["a field too many", Buffer.from("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n")],
    ["two spaces", Buffer.from("PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n")],
    ["no end within 107 bytes", Buffer.from(`PROXY UNKNOWN ${"f".repeat(93)}`)],
    ["an end behind 107 bytes", Buffer.from(`PROXY UNKNOWN ${"f".repeat(92)}\r\n`)],
    ["version 3", proxyHeader2(0x31, 0x11, ipv4)],
    ["version 3, as soon as it says so", proxyHeader2(0x31, 0x11, ipv4).subarray(0, 13)],
    ["an unknown command", proxyHeader2(0x22, 0x11, ipv4)],
    ["an unknown family", proxyHeader2(0x21, 0x41, ipv4)],
    ["an unknown transport", proxyHeader2(0x21, 0x13, ipv4)],
    ["addresses that are cut short", proxyHeader2(0x21, 0x21, ipv4)],
    ["an extension that is cut short", proxyHeader2(0x21, 0x11, ipv4, Buffer.from("040009", "hex"))],
    ["half an extension", proxyHeader2(0x21, 0x11, ipv4, Buffer.from("0400", "hex"))],
    ["more than it may have", proxyHeader2(0x20, 0x00, Buffer.alloc(PROXY_HEADER_BYTES_MAX - 15)).subarray(0, 16)],
  ])("is not %s", (_name, bytes) => {
    expect(readProxyHeader(bytes).kind).toBe("malformed");
  });

  test("can be as long as it may be", () => {
    const header = proxyHeader2(0x20, 0x00, Buffer.alloc(PROXY_HEADER_BYTES_MAX - 16));
    expect(readProxyHeader(header)).toEqual({ kind: "header", length: PROXY_HEADER_BYTES_MAX, address: null });
  });

  test("is never read past the bytes that there are, and refused for good once it is", () => {
    const beginnings = good.map(([, header]) => header);
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc
        .tuple(fc.constantFrom(...beginnings), fc.nat(40), fc.uint8Array({ maxLength: 40 }))
        .map(([header, cut, rest]) => Buffer.concat([header.subarray(0, cut), rest])),
    );
    fc.assert(
      fc.property(bytes, fc.nat(), (all, cut) => {
        const whole = readProxyHeader(Buffer.from(all));
        const part = readProxyHeader(Buffer.from(all.slice(0, cut % (all.length + 1))));
        if (whole.kind === "header") expect(whole.length).toBeLessThanOrEqual(all.length);
        if (part.kind !== "incomplete") expect(whole).toEqual(part);
      }),
    );
  });
});
