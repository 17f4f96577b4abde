// What the age of a server means: too old to be kept, too long unused, to be asked whether it still answers.

import type { Millis } from "../core/units.ts";
import type { PoolOptions } from "./pool-terms.ts";
import type { Server } from "./server.ts";

/** `server_lifetime`. */
export const isExpired = (server: Server, { serverLifetimeMs }: PoolOptions, now: Millis): boolean =>
  serverLifetimeMs > 0 && now - server.loggedInAt >= serverLifetimeMs;

/** `server_idle_timeout`, of an idle one. */
export const isUnused = (server: Server, { serverIdleTimeoutMs }: PoolOptions, now: Millis): boolean =>
  serverIdleTimeoutMs > 0 && now - server.idleSince >= serverIdleTimeoutMs;

/** `server_check_delay`, of an idle one. */
export const mustCheck = (server: Server, options: PoolOptions, now: Millis): boolean =>
  options.serverCheckQuery !== null && now - server.idleSince >= options.serverCheckDelayMs;
