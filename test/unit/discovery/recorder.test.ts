import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TRANSCRIPT_BYTES_MAX } from "../../../src/core/limits.ts";
import { millis } from "../../../src/core/units.ts";
import { type EvidenceState, initialState, step, topologyOf } from "../../../src/discovery/evidence.ts";
import { openingOf, type Paper, Recorder } from "../../../src/discovery/recorder.ts";
import { beliefsOf, beliefsThen, replay } from "../../../src/discovery/replay.ts";
import type { SourceHealth } from "../../../src/discovery/topology.ts";
import { readTranscript } from "../../../src/discovery/transcript.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { Case } from "./fixture.ts";
import { randomEvidence } from "./random-evidence.ts";

/** Pages of lines in memory. */
class Pages implements Paper {
  readonly pages: string[][] = [[]];

  write(line: string): void {
    this.pages.at(-1)?.push(line);
  }

  turn(): void {
    this.pages.push([]);
  }

  get last(): string {
    return (this.pages.at(-1) ?? []).join("\n");
  }
}

const rules = (kind: SourceHealth["kind"]) => ({ cluster: "main", kind, freshMs: 3500, drainMs: 30_000 });

describe("a recording", () => {
  test.each(["etcd", "patroni", "static"] as const)("of %s, replayed, leads to what was believed", (kind) => {
    fc.assert(
      fc.property(randomEvidence(kind), (evidence) => {
        const pages = new Pages();
        let state = initialState(rules(kind), millis(0));
        const recorder = new Recorder(new FakeClock(), pages);
        recorder.begin(state, millis(0), topologyOf(state, millis(0)));
        for (const piece of evidence) {
          recorder.evidence(piece, state);
          state = step(state, piece);
          recorder.believed(topologyOf(state, piece.at), piece.at);
        }
        const transcript = readTranscript(pages.last);
        expect(beliefsOf(transcript)).toEqual(beliefsThen(transcript));
        expect([...replay(transcript)].at(-1)?.state).toEqual(state);
      }),
      { numRuns: 80 },
    );
  });

  test("says when time alone changed something", () => {
    const pages = new Pages();
    const cluster = new Case("etcd").says().key("a").wait(1);
    const recorder = new Recorder(new FakeClock(), pages);
    recorder.begin(cluster.state, cluster.now, cluster.topology);
    cluster.takesWrites("a").wait(60_000);
    recorder.believed(cluster.topology, cluster.now);
    const kinds = readTranscript(pages.last).entries.map(({ kind }) => kind);
    expect(kinds.slice(-2)).toEqual(["time", "believed"]);
  });

  test("that has TRANSCRIPT_BYTES_MAX bytes goes on in a new file, which can be replayed by itself", () => {
    const pages = new Pages();
    const cluster = new Case("etcd").says().key("a").key("b").wait(1).takesWrites("b", 4).probe("c", {}).wait(1);
    cluster.report("a", { kind: "failed", reason: "reset" });
    const recorder = new Recorder(new FakeClock(), pages);
    recorder.begin(cluster.state, cluster.now, cluster.topology);
    const problem = "x".repeat(1_000_000);
    let before = 0;
    for (let n = 0; pages.pages.length === 1; n += 1) {
      before = pages.last.length;
      const source = { kind: "etcd", connected: true, confirmedAt: cluster.now, reason: "" } as const;
      const claim = { ...cluster.claim, problems: [`${problem}${n}`] };
      recorder.evidence({ kind: "claim", at: cluster.now, claim, source }, cluster.state);
    }
    expect(before).toBeGreaterThan(TRANSCRIPT_BYTES_MAX);
    expect(before).toBeLessThan(TRANSCRIPT_BYTES_MAX + 2_000_000);
    const transcript = readTranscript(pages.last);
    expect(transcript.header).toMatchObject({ epoch: 1, timeline: 4 });
    expect(beliefsOf(transcript)).toEqual(beliefsThen(transcript));
    const [first] = replay(transcript);
    expect(first?.topology.leader).toEqual(cluster.topology.leader);
    expect(first?.topology.members.get("a")?.why).toEqual(cluster.member("a").why);
  });

  test("goes on with nobody served who was not served before", () => {
    fc.assert(
      fc.property(randomEvidence("etcd"), (evidence) => {
        let state: EvidenceState = initialState(rules("etcd"), millis(0));
        let at = millis(0);
        for (const piece of evidence) {
          state = step(state, piece);
          at = piece.at;
        }
        const { sequence, leadership, newestTimeline, systemIdentifier } = state;
        let again: EvidenceState = {
          ...initialState(rules("etcd"), millis(0)),
          sequence: sequence - (leadership === null ? 0 : 1),
          newestTimeline,
          systemIdentifier,
        };
        for (const piece of openingOf(state)) again = step(again, piece);
        const [was, is] = [topologyOf(state, at).leader, topologyOf(again, at).leader];
        if (is.kind === "writable" || is.kind === "draining")
          expect([was.kind, "member" in was && was.member]).toEqual([is.kind, is.member]);
        if (was.kind === "writable") expect(is.kind).toBe("writable");
        if (was.kind !== "none" && is.kind !== "none") expect(is.epoch.sequence).toBe(was.epoch.sequence);
      }),
      { numRuns: 400 },
    );
  });
});
