// The PROXY protocol's header, versions 1 and 2 (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt): the first bytes of a
// connection that a load balancer passes on say where the client really is.

import { isIP } from "node:net";
import { formatAddress } from "../core/addresses.ts";
import { PROXY_HEADER_BYTES_MAX } from "../core/limits.ts";

/** What the first bytes of a connection are. */
export type ProxyHeader =
  /** So far so good. */
  | { readonly kind: "incomplete" }
  /** `length` bytes of header; `address` of the client, null where the balancer speaks for itself (LOCAL) or does not know. */
  | { readonly kind: "header"; readonly length: number; readonly address: string | null }
  | { readonly kind: "malformed"; readonly reason: string };

const incomplete: ProxyHeader = { kind: "incomplete" };
const malformed = (reason: string): ProxyHeader => ({ kind: "malformed", reason });

const SIGNATURE_1 = Buffer.from("PROXY ");
const SIGNATURE_2 = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
/** The longest line of version 1, its end included. */
const LINE_BYTES_MAX = 107;
const FIXED_BYTES = 16;

const LOCAL = 0x0;
const PROXY = 0x1;
/** Bytes of the addresses by family: unspecified, IPv4, IPv6, Unix. */
const addressBytes = [0, 12, 36, 216] as const;

/** Reads the header at the start of `received`. */
export function readProxyHeader(received: Buffer): ProxyHeader {
  if (startsLike(received, SIGNATURE_2)) {
    return received.length < FIXED_BYTES ? shortVersion2(received) : readVersion2(received);
  }
  if (startsLike(received, SIGNATURE_1)) return readVersion1(received);
  return malformed("no PROXY protocol header");
}

/** Whether nothing says yet that `received` does not begin with `signature`. */
function startsLike(received: Buffer, signature: Buffer): boolean {
  const length = Math.min(received.length, signature.length);
  return received.compare(signature, 0, length, 0, length) === 0;
}

function readVersion1(received: Buffer): ProxyHeader {
  const end = received.indexOf("\r\n");
  if (end < 0) return received.length < LINE_BYTES_MAX ? incomplete : malformed("header line without its end");
  if (end + 2 > LINE_BYTES_MAX) return malformed("header line too long");
  const length = end + 2;
  const [, protocol, ...fields] = received.toString("latin1", 0, end).split(" ");
  // What follows UNKNOWN means nothing.
  if (protocol === "UNKNOWN") return { kind: "header", length, address: null };
  const family = protocol === "TCP4" ? 4 : protocol === "TCP6" ? 6 : 0;
  if (family === 0) return malformed("unknown protocol in header line");
  const [source = "", destination = "", sourcePort = "", destinationPort = ""] = fields;
  const valid =
    fields.length === 4 &&
    isIP(source) === family &&
    isIP(destination) === family &&
    isPort(sourcePort) &&
    isPort(destinationPort);
  if (!valid) return malformed("wrong addresses in header line");
  return { kind: "header", length, address: formatAddress(plainSource(source), Number(sourcePort)) };
}

const isPort = (text: string): boolean => /^(?:0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535;

/** What can be said before the fixed part is complete. */
function shortVersion2(received: Buffer): ProxyHeader {
  const version = received[SIGNATURE_2.length];
  return version === undefined || version >> 4 === 2 ? incomplete : malformed("unknown version of the header");
}

function readVersion2(received: Buffer): ProxyHeader {
  const command = received.readUInt8(12);
  const family = received.readUInt8(13) >> 4;
  const transport = received.readUInt8(13) & 0xf;
  const length = FIXED_BYTES + received.readUInt16BE(14);
  if (command >> 4 !== 2) return malformed("unknown version of the header");
  if ((command & 0xf) > PROXY) return malformed("unknown command in header");
  if (length > PROXY_HEADER_BYTES_MAX) return malformed(`header of more than ${PROXY_HEADER_BYTES_MAX} bytes`);
  if (received.length < length) return incomplete;
  // Whoever speaks for itself may say anything about addresses.
  if ((command & 0xf) === LOCAL) return { kind: "header", length, address: null };
  const taken = addressBytes[family];
  if (taken === undefined || transport > 2) return malformed("unknown address family or transport in header");
  // Without a family, or without a transport, the addresses mean nothing.
  if (family === 0 || transport === 0) return { kind: "header", length, address: null };
  if (FIXED_BYTES + taken > length) return malformed("addresses of the header are cut short");
  if (!extensionsFit(received, FIXED_BYTES + taken, length)) return malformed("extensions of the header do not fit");
  return { kind: "header", length, address: sourceOf(received, family) };
}

/** Extensions are a type, a length of two bytes, and so many bytes; none of them is needed here. */
function extensionsFit(received: Buffer, start: number, end: number): boolean {
  let at = start;
  while (at + 3 <= end) at += 3 + received.readUInt16BE(at + 1);
  return at === end;
}

function sourceOf(received: Buffer, family: number): string {
  const at = FIXED_BYTES;
  if (family === 1) return formatAddress([...received.subarray(at, at + 4)].join("."), received.readUInt16BE(at + 8));
  if (family === 2)
    return formatAddress(plainSource(ipv6(received.subarray(at, at + 16))), received.readUInt16BE(at + 32));
  return "unix";
}

/** As groups of digits. */
function ipv6(address: Buffer): string {
  return Array.from({ length: 8 }, (_, index) => address.readUInt16BE(index * 2).toString(16)).join(":");
}

/**
 * In the form that everybody writes: without leading zeroes, the longest row of zeroes left out; and IPv4 without the disguise that a
 * balancer's socket for both IP versions gives it, for rules and limits are about the address that it is.
 */
function plainSource(source: string): string {
  if (isIP(source) !== 6) return source;
  const written = URL.parse(`http://[${source}]/`)?.hostname.slice(1, -1) ?? source;
  const [, high, low] = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(written) ?? [];
  if (high === undefined || low === undefined) return written;
  return [high, low].flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff]).join(".");
}
