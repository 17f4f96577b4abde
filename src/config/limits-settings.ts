// The limits section of the file in the terms of the code, and what it says when it is left out.

import type { LimitsConfig } from "./config.ts";
import { type FileLimits, limitsSchema } from "./schema-access.ts";

/** All clients of a small pgsteer may come at once, and some that are no clients beside them. */
const HALF_OPEN_MIN = 1_000;

/** `maxClientConn`: as many may log in at once as there may be. */
export function resolveLimits(file: FileLimits, maxClientConn: number): LimitsConfig {
  const maxHalfOpen = file.max_half_open ?? Math.max(maxClientConn, HALF_OPEN_MIN);
  return {
    maxConnectionsPerAddress: file.max_connections_per_address,
    maxHalfOpen,
    maxHalfOpenPerAddress: Math.min(file.max_half_open_per_address ?? maxHalfOpen, maxHalfOpen),
    tlsHandshakesPerSecond: file.tls_handshakes_per_second,
    authFailuresPerMinute: file.auth_failures_per_minute,
    cancelsPerSecond: file.cancels_per_second,
    unlimitedNetworks: file.unlimited_networks,
  };
}

/** What applies where no file says otherwise. */
export const defaultLimits = (maxClientConn: number): LimitsConfig =>
  resolveLimits(limitsSchema.parse({}), maxClientConn);
