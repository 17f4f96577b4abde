// Who this router is for other routers and for commands: a name that no other one has, and where it can be asked.

import { randomBytes } from "node:crypto";
import { hostname, userInfo } from "node:os";
import type { Config } from "../config/config.ts";
import { formatAddress } from "../core/addresses.ts";
import type { Build } from "../metrics/snapshot.ts";
import type { RouterIdentity } from "../proxy/coordinator.ts";

const EVERYWHERE: ReadonlySet<string> = new Set(["0.0.0.0", "::"]);

/** Of this process: another one after a restart. */
export function routerIdentity({ version }: Build, { http }: Pick<Config, "http">): RouterIdentity {
  const host = hostname();
  const address = http === null || EVERYWHERE.has(http.address) ? host : http.address;
  return {
    id: `${host}-${process.pid}-${randomBytes(3).toString("hex")}`,
    version,
    host,
    http: http === null ? null : `http://${formatAddress(address, http.port)}`,
  };
}

/** Who runs a command: `user@host`. */
export function whoAmI(): string {
  try {
    return `${userInfo().username}@${hostname()}`;
  } catch {
    // A user without an entry in the system's list.
    return hostname();
  }
}
