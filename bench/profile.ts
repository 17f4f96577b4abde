// Where pgsteer's own time goes: the end of a V8 CPU profile (`node --cpu-prof`,
// https://nodejs.org/api/cli.html#--cpu-prof) in words. Only time in the profiled thread counts; the time asleep is left out.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

const profileSchema = z.object({
  nodes: z.array(
    z.object({
      id: z.number(),
      callFrame: z.object({ functionName: z.string(), url: z.string(), lineNumber: z.number() }),
    }),
  ),
  samples: z.array(z.number()),
  timeDeltas: z.array(z.number()),
});

/** Time in one function itself, without what it called, as a share of the time awake. */
export interface SelfTime {
  /** Name and, in our sources, file and line. */
  readonly where: string;
  readonly share: number;
}

/** What a thread does while it waits is not its cost. */
const ASLEEP = new Set(["(idle)", "(root)"]);

function placeOf({
  functionName,
  url,
  lineNumber,
}: z.output<typeof profileSchema>["nodes"][number]["callFrame"]): string {
  const name = functionName === "" ? "(anonymous)" : functionName;
  const file = url.replace(/^file:\/\//, "").replace(/^.*\/(?=(src|node_modules)\/)/, "");
  return file === "" ? name : `${name} ${file}:${lineNumber + 1}`;
}

/** The functions with the most time of their own, most first. `profile` is the content of a .cpuprofile file. */
export function selfTimes(profile: string, first: number): SelfTime[] {
  const { nodes, samples, timeDeltas } = profileSchema.parse(JSON.parse(profile));
  const places = new Map(nodes.map((node) => [node.id, node.callFrame]));
  const spent = new Map<string, number>();
  let awake = 0;
  for (const [index, id] of samples.entries()) {
    const frame = places.get(id);
    // A delta is the time since the sample before: what a sample saw lasted until the next one.
    const lasted = timeDeltas[index + 1] ?? 0;
    if (frame === undefined || ASLEEP.has(frame.functionName)) continue;
    const where = placeOf(frame);
    spent.set(where, (spent.get(where) ?? 0) + lasted);
    awake += lasted;
  }
  return [...spent]
    .map(([where, time]) => ({ where, share: awake === 0 ? 0 : time / awake }))
    .sort((a, b) => b.share - a.share)
    .slice(0, first);
}

/** One line a function, from the profiles that a run left in `directory`. */
export function profilesInWords(directory: string, first = 25): string[] {
  return readdirSync(directory)
    .filter((file) => file.endsWith(".cpuprofile"))
    .flatMap((file) => {
      const rows = selfTimes(readFileSync(join(directory, file), "utf8"), first);
      return [
        join(directory, file),
        ...rows.map(({ where, share }) => `${(share * 100).toFixed(1).padStart(6)} %  ${where}`),
      ];
    });
}
