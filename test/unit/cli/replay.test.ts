import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { showReplay } from "../../../src/cli/replay.ts";

const golden = join(import.meta.dirname, "../../transcripts/golden/switchover-3.0.2.jsonl");
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pgsteer-replay-"));
});

afterEach(() => {
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true, force: true });
});

function show(file: string, json = false): { readonly code: number; readonly out: string; readonly err: string } {
  const said = { out: "", err: "" };
  vi.spyOn(console, "log").mockImplementation((line) => {
    said.out += `${line}\n`;
  });
  vi.spyOn(console, "error").mockImplementation((line) => {
    said.err += `${line}\n`;
  });
  return { code: showReplay(file, json), ...said };
}

function changed(change: (text: string) => string): string {
  const file = join(directory, "changed.jsonl");
  writeFileSync(file, change(readFileSync(golden, "utf8")));
  return file;
}

describe("pgsteer replay", () => {
  test("shows a recording as a timeline, with the reasons of each member", () => {
    const { code, out } = show(golden);
    expect(code).toBe(0);
    expect(out).toMatch(
      /^A switchover by Patroni 3.0.2, .*\nCluster demo by etcd: \d+ lines over [\d.]+ s, time 0 is 20/,
    );
    expect(out).toMatch(/^ +\+\d+\.\d{3} s {2}leader node1 \(epoch 1, timeline 1\) takes writes$/m);
    expect(out).toMatch(
      /^ +node2 gets writes and reads: writes: holds the leader key of revision \d+ and takes writes/m,
    );
    expect(out).not.toContain("believes otherwise");
  });

  test("says where it believes otherwise than what recorded it", () => {
    const { code, out } = show(changed((text) => text.replaceAll('"kind":"writable"', '"kind":"standby"')));
    expect(code).toBe(0);
    expect(out).toMatch(/This pgsteer believes otherwise than the one that recorded it, in \d+ places\.\n$/);
  });

  test("names the line that it cannot read, and files that are none", () => {
    const { code, err } = show(changed((text) => `${text}nonsense\n`));
    expect([code, err]).toEqual([1, expect.stringMatching(/changed\.jsonl: line \d+: SyntaxError/)]);
    expect(show(join(directory, "none")).err).toContain("there is no such file");
  });

  test("prints each change as JSON where that is asked for", () => {
    const lines = show(golden, true).out.trim().split("\n");
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ at: 0, belief: { leader: { kind: "none" } } });
  });
});
