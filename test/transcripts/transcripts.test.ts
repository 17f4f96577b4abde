// Golden transcripts: what real clusters did, and what pgsteer believes of it. Each file is replayed and compared line by line; what
// must hold of all of them, and what each case is about, is said here besides, so that a wrong belief cannot become golden.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { beliefsOf, beliefsThen, type Moment, replay } from "../../src/discovery/replay.ts";
import type { LeaderState } from "../../src/discovery/topology.ts";
import { readTranscript, type Transcript } from "../../src/discovery/transcript.ts";
import { cases } from "./cases.ts";
import { rewritten } from "./rewritten.ts";

const golden = join(import.meta.dirname, "golden");
const files = readdirSync(golden).filter((file) => file.endsWith(".jsonl"));
const texts = new Map(files.map((file) => [file.replace(".jsonl", ""), readFileSync(join(golden, file), "utf8")]));

const served = (leader: LeaderState): string | null =>
  leader.kind === "writable" || leader.kind === "draining" ? leader.member : null;

/** Each leader state once per change, as `writable node1 1`, or `none`. */
function leadersOf(moments: readonly Moment[]): string[] {
  const leaders = moments.map(({ topology: { leader } }) =>
    leader.kind === "none" ? "none" : `${leader.kind} ${leader.member} ${leader.epoch.sequence}`,
  );
  return leaders.filter((leader, index) => leader !== leaders[index - 1]);
}

describe.each([...texts])("%s", (name, text) => {
  const transcript: Transcript = readTranscript(text);
  const moments = [...replay(transcript)];

  test("leads to the same beliefs as ever", () => {
    expect(beliefsOf(transcript)).toEqual(beliefsThen(transcript));
    expect(beliefsThen(transcript).length).toBeGreaterThan(1);
    expect(rewritten(text)).toBe(text);
  });

  test("serves nobody on an older timeline, without the key, or unprobed since", () => {
    let newest = 0;
    const wrong = moments.filter(({ topology, state }) => {
      const member = served(topology.leader);
      if (member === null) return false;
      const probe = state.members.get(member)?.probe ?? null;
      if (probe === null || probe.inRecovery || probe.timeline < newest) return true;
      newest = probe.timeline;
      if (transcript.rules.kind === "static") return false;
      const seenAt = state.leadership?.seenAt ?? Number.POSITIVE_INFINITY;
      return state.claim.leader?.member !== member || probe.startedAt < seenAt;
    });
    expect(wrong).toEqual([]);
  });

  test("says why of each member", () => {
    const members = moments.flatMap(({ topology }) => [...topology.members.values()]);
    expect(members.filter(({ why }) => why.writes === "" || why.reads === "")).toEqual([]);
  });

  test("is what its case is about", () => {
    const about = cases[name];
    if (about === undefined) throw new Error(`say in cases.ts what ${name} has to show`);
    about({ transcript, moments, leaders: leadersOf(moments), beliefs: JSON.stringify(beliefsOf(transcript)) });
  });
});

test("each case has its transcript", () => {
  expect(Object.keys(cases).filter((name) => !texts.has(name))).toEqual([]);
});
