// What a pgsteer's log says of the leader, in the words of the history.

import { readFileSync } from "node:fs";
import { z } from "zod";
import type { Sight } from "./history.ts";

const line = z.object({
  time: z.iso.datetime(),
  msg: z.string(),
  leader: z.string().optional(),
  member: z.string().optional(),
  timeline: z.number().nullish(),
  reason: z.string().nullish(),
});

const words: Readonly<Record<string, Sight["what"]>> = {
  "pgsteer starts": "start",
  "leader is writable": "served",
  "leader deposed: its connections are cut": "deposed",
  "leader is not yet writable": "other",
  "leader is draining": "other",
  "no leader is served": "other",
  "source is lost": "other",
  "source is connected": "other",
};

/** Lines about the leader, in order. Lines that are none of pgsteer's (a crash of Node.js) are left out. */
export function sightsOf(router: string, log: string): Sight[] {
  return readFileSync(log, "utf8")
    .split("\n")
    .filter((text) => text.startsWith("{"))
    .flatMap((text) => {
      const { success, data } = line.safeParse(parsed(text));
      const what = success ? words[data.msg] : undefined;
      if (!success || what === undefined) return [];
      const member = data.leader ?? data.member ?? null;
      const reason = data.reason ? `: ${data.reason}` : "";
      return [
        {
          type: "topology" as const,
          router,
          at: Date.parse(data.time),
          what,
          member,
          timeline: data.timeline ?? null,
          text: `${data.msg}${reason}`,
        },
      ];
    });
}

/** Null for a line that was cut off when its process was killed. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
