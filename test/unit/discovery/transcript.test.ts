import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { lsn, millis } from "../../../src/core/units.ts";
import type { Evidence } from "../../../src/discovery/evidence.ts";
import { readTranscript, TranscriptError, TranscriptWriter } from "../../../src/discovery/transcript.ts";
import { randomEvidence } from "./random-evidence.ts";

const head = {
  cluster: "main",
  source: "etcd",
  fresh_ms: 3500,
  drain_ms: 30_000,
  wall_ms: 1_700_000_000_000,
  opening: 0,
  epoch: 0,
  timeline: 0,
  system_identifier: null,
} as const;
const header = JSON.stringify({ kind: "transcript", version: 1, ...head });

const read = (...lines: readonly (object | string)[]) =>
  readTranscript([header, ...lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line)))].join("\n"));

const member = { name: "a", host: "10.0.0.1", port: 5432, role: "replica", state: "running" };
const claim = { kind: "claim", at: 1, connected: true, confirmed_at: 1, claim: { members: [member] } };

describe("a transcript", () => {
  test.each(["etcd", "patroni", "static"] as const)("holds all evidence from %s, to the last bit", (kind) => {
    fc.assert(
      fc.property(randomEvidence(kind), (evidence) => {
        const writer = new TranscriptWriter(millis(0));
        const lines = [writer.header({ ...head, source: kind }), ...evidence.map((piece) => writer.line(piece))];
        expect(readTranscript(lines.join("\n")).entries).toEqual(evidence);
      }),
      { numRuns: 80 },
    );
  });

  test("counts its time from its beginning, and keeps numbers that JSON has not", () => {
    const writer = new TranscriptWriter(millis(5000));
    const probe: Evidence = {
      kind: "sql",
      at: millis(5012.3456),
      startedAt: millis(5001),
      member: "a",
      round: null,
      answer: {
        ok: true,
        inRecovery: false,
        timeline: 1,
        position: lsn(2n ** 63n + 1n),
        streaming: null,
        systemIdentifier: "7710378774476879354",
      },
    };
    expect(writer.line(probe)).toContain('"at":12.346,"started_at":1,');
    const { entries } = readTranscript(`${header}\n${writer.line(probe)}`);
    expect(entries).toMatchObject([{ at: 12.346, answer: { position: 2n ** 63n + 1n } }]);
  });

  test("says a member once, while nothing of it changes", () => {
    const again = { ...claim, at: 2, claim: { members: ["a"], leader: { member: "a", revision: "9" } } };
    const { entries } = read(claim, again, { ...claim, at: 3, claim: "same" });
    expect(entries.map((entry) => (entry.kind === "claim" ? entry.claim?.members.get("a")?.host : null))).toEqual([
      "10.0.0.1",
      "10.0.0.1",
      "10.0.0.1",
    ]);
    expect(entries[2]).toMatchObject({ claim: { leader: { member: "a", revision: 9n } } });
  });

  test("has no password of an address that a reason quotes", () => {
    const writer = new TranscriptWriter(millis(0));
    const reason = "no member's REST API answers (http://pgsteer:s3cret@10.0.0.1:8008: refused; https://u:p@h/x)";
    const source = { kind: "patroni", connected: false, confirmedAt: millis(0), reason } as const;
    const line = writer.line({ kind: "claim", at: millis(1), claim: null, source });
    expect(line).not.toMatch(/s3cret|pgsteer|u:p/);
    expect(line).toContain("http://10.0.0.1:8008: refused; https://h/x");
  });

  test.each([
    ["what is no JSON", ["{"], /^line 2: /],
    ["an unknown kind", [{ kind: "rumour", at: 1 }], /^line 2: .*kind/],
    ["a field that nobody knows", [{ kind: "time", at: 1, mood: "bad" }], /^line 2: .*mood/],
    ["a missing field", [{ kind: "sql", at: 1, member: "a", failed: "x" }], /started_at/],
    [
      "a good answer that lacks something",
      [{ kind: "sql", at: 1, started_at: 1, member: "a", timeline: 1 }],
      /in_recovery/,
    ],
    ["an answer of REST without a role", [{ kind: "rest", at: 1, member: "a" }], /role/],
    [
      "a position that is none",
      [claim, { ...claim, claim: { members: [{ ...member, position: "12" }] } }],
      /^line 3: .*claim/,
    ],
    ["a member that was never described", [{ ...claim, claim: { members: ["b"] } }], /describes member b/],
    ["a claim that repeats nothing", [{ ...claim, claim: "same" }], /no claim before it/],
    [
      "time that runs backwards",
      [
        { kind: "time", at: 5 },
        { kind: "time", at: 4 },
      ],
      /^line 3: .*before/,
    ],
  ])("refuses %s", (_what, lines, message) => {
    expect(() => read(...lines)).toThrow(TranscriptError);
    expect(() => read(...lines)).toThrow(message);
  });

  test("refuses a file that is none, or of another version", () => {
    expect(() => readTranscript("")).toThrow(/^line 1: /);
    expect(() => readTranscript('{"a":1}')).toThrow(/^line 1: /);
    expect(() => readTranscript(header.replace('"version":1', '"version":2'))).toThrow(/version/);
  });
});
