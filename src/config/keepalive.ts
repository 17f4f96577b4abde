// The keepalive settings of the section pool, as far as this Node.js can set them: what it cannot is refused, not ignored.

import { type KeepAlive, setsProbes } from "../core/keepalive.ts";
import type { Report } from "./decode.ts";
import type { FilePool } from "./schema.ts";

const probeSettings = ["tcp_keepintvl", "tcp_keepcnt"] as const;

/** Reports what cannot be done, or means nothing. `settable`: whether interval and count can be set at all. */
export function checkKeepAlive(file: FilePool, report: Report, settable: boolean = setsProbes): void {
  for (const key of probeSettings) {
    if (file[key] === undefined) continue;
    if (!settable) {
      const message =
        "cannot be set: this Node.js knows no keepalive interval and count, it probes ten times, a second apart";
      report.problem(["pool", key], message, "remove it, or run pgsteer with Node.js 26.10 or newer");
    } else if (!file.tcp_keepalive) {
      report.warning(["pool", key], "is not used: tcp_keepalive is false", "remove it");
    }
  }
}

/** Null where keepalive is off. */
export function resolveKeepAlive(file: FilePool): KeepAlive | null {
  if (!file.tcp_keepalive) return null;
  return { idleMs: file.tcp_keepidle, intervalMs: file.tcp_keepintvl ?? null, count: file.tcp_keepcnt ?? null };
}
