// Addresses and networks of an HBA file, byte by byte: PostgreSQL takes any mask, also one that is no prefix.

import { isIPv4, isIPv6 } from "node:net";

/** The addresses whose bits under the mask are those of `address`. Both are 4 bytes, or 16. */
export interface Network {
  readonly address: Buffer;
  readonly mask: Buffer;
}

/** 4 or 16 bytes; null when `text` is no IP address. A zone (`%eth0`) is left out. */
export function addressBytes(text: string): Buffer | null {
  if (isIPv4(text)) return Buffer.from(text.split(".").map(Number));
  if (!isIPv6(text)) return null;
  const plain = text.replace(/%.*$/, "").replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_all, ...parts: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = parts.slice(0, 4).map(Number);
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
  });
  const [head = "", tail] = plain.split("::");
  const groups = (part: string): string[] => (part === "" ? [] : part.split(":"));
  const [left, right] = [groups(head), groups(tail ?? "")];
  const bytes = Buffer.alloc(16);
  for (const [index, group] of left.entries()) bytes.writeUInt16BE(Number.parseInt(group, 16), 2 * index);
  for (const [index, group] of right.entries()) {
    bytes.writeUInt16BE(Number.parseInt(group, 16), 2 * (8 - right.length + index));
  }
  return bytes;
}

/** A mask of `bits` ones for an address of `bytes`; null when it cannot have so many. */
export function maskOf(bits: number, bytes: number): Buffer | null {
  if (!Number.isInteger(bits) || bits < 0 || bits > 8 * bytes) return null;
  return Buffer.from(
    Array.from({ length: bytes }, (_, index) => (0xff00 >> Math.min(8, Math.max(0, bits - 8 * index))) & 0xff),
  );
}

/** `10.0.0.1/8`, as the system writes the addresses of its interfaces; null when it is none. */
export function cidrNetwork(cidr: string): Network | null {
  const [text = "", bits = ""] = cidr.split("/");
  const address = addressBytes(text);
  const mask = address === null || bits === "" ? null : maskOf(Number(bits), address.length);
  return address === null || mask === null ? null : { address, mask };
}

/** Whether `address` is in the network; never where one is IPv4 and the other IPv6. */
export function inNetwork(address: Buffer, network: Network): boolean {
  if (address.length !== network.address.length) return false;
  return address.every((byte, at) => ((byte ^ (network.address[at] ?? 0)) & (network.mask[at] ?? 0)) === 0);
}
