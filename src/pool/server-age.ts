// What the age of a server means: too old to be kept, too long unused, to be asked whether it still answers.

import type { Millis } from "../core/units.ts";
import type { PoolOptions } from "./pool-terms.ts";
import type { Server } from "./server.ts";

/** `server_lifetime`. */
export const isExpired = (server: Server, { serverLifetimeMs }: PoolOptions, now: Millis): boolean =>
  serverLifetimeMs > 0 && now - server.loggedInAt >= serverLifetimeMs;

/** `server_idle_timeout`, of an idle one. */
const isUnused = (server: Server, { serverIdleTimeoutMs }: PoolOptions, now: Millis): boolean =>
  serverIdleTimeoutMs > 0 && now - server.idleSince >= serverIdleTimeoutMs;

/** Why an idle server is closed; null where it stays. `spare`: it is none of those that are kept unused. */
export function outlived(server: Server, options: PoolOptions, now: Millis, spare: boolean): string | null {
  if (spare && isUnused(server, options, now)) return "server_idle_timeout";
  return isExpired(server, options, now) ? "server_lifetime" : null;
}

/** `server_check_delay`, of an idle one. */
export const mustCheck = (server: Server, options: PoolOptions, now: Millis): boolean =>
  options.serverCheckQuery !== null && now - server.idleSince >= options.serverCheckDelayMs;
