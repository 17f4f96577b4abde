// What a command prints while it works: a line for each step, with the time since its start, and the words that several share.

import type { Clock } from "../core/clock.ts";
import type { CoordinationRequest, RouterAnnouncement } from "../discovery/coordination-keys.ts";

/** Prints a line with the time since it was made. */
export type Say = (text: string) => void;

/** `+ 0.012 s  2 routers found`. */
export function progress(clock: Clock): Say {
  const startedAt = clock.now();
  return (text) => console.log(`+${((clock.now() - startedAt) / 1000).toFixed(3).padStart(7)} s  ${text}`);
}

/** `1 router`, `2 routers`. */
export const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`;

/** `db1-4711-a1b2c3 (http://10.0.0.1:7000)`. */
export const routerName = ({ id, http }: RouterAnnouncement): string => (http === null ? id : `${id} (${http})`);

/** `2 routers: …`. */
export const listed = (routers: readonly RouterAnnouncement[]): string =>
  `${counted(routers.length, "router")}: ${routers.map(routerName).join(", ")}`;

/** Who stands in the way: `a switchover by root@db1, since …`. */
export const describeRequest = ({ kind, by, since, id }: CoordinationRequest): string =>
  `${kind === "pause" ? "a pause" : "a switchover"} by ${by} since ${since} (${id})`;

/** Keeps the process alive while it works: the clock's timers, and connections that are being made anew, do not. */
export async function whileWorking<Result>(work: () => Promise<Result>): Promise<Result> {
  const alive = setInterval(() => {}, 2 ** 30);
  try {
    return await work();
  } finally {
    clearInterval(alive);
  }
}
