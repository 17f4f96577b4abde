// Networks in CIDR notation, and whether an address is in one of them.

import { BlockList, isIP } from "node:net";

/** Whether an address, as node:net gives it, is in one of `networks` (`10.0.0.0/8`, `fd00::/8`). */
export function networkTest(networks: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const network of networks) {
    const [address = "", bits = ""] = network.split("/");
    list.addSubnet(address, Number(bits), isIP(address) === 6 ? "ipv6" : "ipv4");
  }
  return (address) => isIP(address) !== 0 && list.check(address, isIP(address) === 6 ? "ipv6" : "ipv4");
}
