// `pgsteer replay`: goes through a recording with the rules of this pgsteer, and prints when it would have believed what, and why.

import { readFileSync, statSync } from "node:fs";
import { TRANSCRIPT_BYTES_MAX } from "../core/limits.ts";
import { type Belief, beliefsOf, beliefsThen } from "../discovery/replay.ts";
import { readTranscript, type Transcript, TranscriptError } from "../discovery/transcript.ts";
import { describeReadError } from "./configuration.ts";
import { EXIT } from "./exit-codes.ts";

/** What the last line may bring beyond the bound. */
const LAST_LINE_BYTES_MAX = 8_388_608;

function read(file: string): Transcript | string {
  try {
    if (statSync(file).size > TRANSCRIPT_BYTES_MAX + LAST_LINE_BYTES_MAX) return `${file}: too long for a recording`;
    return readTranscript(readFileSync(file, "utf8"));
  } catch (error) {
    return `${file}: ${error instanceof TranscriptError ? error.message : describeReadError(error)}`;
  }
}

const seconds = (ms: number): string => `${ms < 0 ? "" : "+"}${(ms / 1000).toFixed(3)} s`;

function leaderText({ leader }: Belief["belief"]): string | null {
  if (leader === undefined) return null;
  const { kind, member, epoch, timeline = 0, reason } = leader;
  if (kind === "none") return `no leader: ${reason}`;
  const where = `${member} (epoch ${epoch}${timeline === 0 ? "" : `, timeline ${timeline}`})`;
  switch (kind) {
    case "writable":
      return `leader ${where} takes writes`;
    case "draining":
      return `leader ${where} is handing over: ${reason}`;
    case "elected":
      return `leader ${where} takes no writes: ${reason}`;
    case "standby":
      return `leader ${where} of a standby cluster takes no writes`;
  }
}

/** One change in a few lines. */
function lines({ at, belief }: Belief): string[] {
  const facts = [leaderText(belief), belief.source ?? null].filter((fact) => fact !== null);
  if (belief.paused !== undefined) facts.push(belief.paused ? "automatic failover is PAUSED" : "no longer paused");
  for (const [name, member] of Object.entries(belief.members ?? {})) {
    if (member === null) facts.push(`${name} is gone`);
    else facts.push(`${name} ${served(member)}: writes: ${member.why_writes}; reads: ${member.why_reads}`);
  }
  return facts.map((fact, index) => `${(index === 0 ? seconds(at) : "").padStart(12)}  ${fact}`);
}

function served({ writes, reads }: { readonly writes: boolean; readonly reads: boolean }): string {
  if (writes) return reads ? "gets writes and reads" : "gets writes";
  return reads ? "gets reads" : "gets nothing";
}

/** How many beliefs are others than when it was recorded. */
function differences(then: readonly Belief[], now: readonly Belief[]): number {
  const old = new Set(then.map((belief) => JSON.stringify(belief)));
  return now.filter((belief) => !old.delete(JSON.stringify(belief))).length + old.size;
}

/** Prints the timeline. Returns the exit code. */
export function showReplay(file: string, json: boolean): number {
  const transcript = read(file);
  if (typeof transcript === "string") {
    console.error(transcript);
    return EXIT.failed;
  }
  const { header, entries } = transcript;
  const beliefs = beliefsOf(transcript);
  if (json) {
    for (const belief of beliefs) console.log(JSON.stringify(belief));
    return EXIT.ok;
  }
  const lasted = (entries.at(-1)?.at ?? 0) / 1000;
  const began = new Date(header.wall_ms).toISOString();
  if (header.about !== undefined) console.log(header.about);
  console.log(
    `Cluster ${header.cluster} by ${header.source}: ${entries.length} lines over ${lasted.toFixed(1)} s, time 0 is ${began}`,
  );
  for (const belief of beliefs) console.log(lines(belief).join("\n"));
  const differing = differences(beliefsThen(transcript), beliefs);
  if (differing > 0)
    console.log(`This pgsteer believes otherwise than the one that recorded it, in ${differing} places.`);
  return EXIT.ok;
}
