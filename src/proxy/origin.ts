// Where a connection comes from, as far as limits are concerned: an IPv4 address, or the /64 of an IPv6 address, for whoever has one
// address there has all of them (RFC 4291, section 2.5.4).

import { isIP } from "node:net";

/** Unix-domain sockets: all of this machine together. */
export const LOCAL_ORIGIN = "unix";

/** IPv6 groups that are the same for all who share an origin. */
const GROUPS = 4;

/** `address` as node:net gives it, or as a PROXY protocol header does. */
export function originOf(address: string): string {
  if (isIP(address) !== 6) return address;
  const [head = "", tail] = address.split("%")[0]?.split("::") ?? [];
  const groups = head === "" ? [] : head.split(":");
  const after = tail === undefined || tail === "" ? [] : tail.split(":");
  // An IPv4 address at the end stands for two groups.
  const written = groups.length + after.length + (address.includes(".") ? 1 : 0);
  const zeros = tail === undefined ? 0 : 8 - written;
  const all = [...groups, ...Array.from({ length: zeros }, () => "0"), ...after];
  return `${all
    .slice(0, GROUPS)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":")}::/64`;
}
