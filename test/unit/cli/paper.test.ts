import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Recording } from "../../../src/cli/paper.ts";
import { type Logger, silentLogger } from "../../../src/core/logger.ts";

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pgsteer-paper-"));
});

afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

const text = (name: string): string => readFileSync(join(directory, name), "utf8");

describe("a recording's files", () => {
  test("are for their owner alone, and one that is full makes room for the next", async () => {
    const recording = new Recording(silentLogger, join(directory, "a.jsonl"), false);
    const paper = recording.paper("main");
    paper?.write("one");
    // A stream opens its file by and by.
    await recording.close();
    expect([text("a.jsonl"), statSync(join(directory, "a.jsonl")).mode & 0o777]).toEqual(["one\n", 0o600]);
    const next = new Recording(silentLogger, join(directory, "a.jsonl"), false);
    next.paper("main")?.write("two");
    await next.close();
    expect([text("a.jsonl"), text("a.jsonl.1")]).toEqual(["two\n", "one\n"]);
  });

  test("go by their clusters' names where there are several", async () => {
    const recording = new Recording(silentLogger, join(directory, "a"), true);
    recording.paper("main")?.write("m");
    recording.paper("other/0")?.write("o");
    await recording.close();
    expect([text("a.main"), text("a.other_0")]).toEqual(["m\n", "o\n"]);
  });

  test("that cannot be written are given up, and the router goes on", async () => {
    writeFileSync(join(directory, "file"), "");
    const errors: unknown[] = [];
    const logger: Logger = { ...silentLogger, error: (fields, message) => errors.push({ ...fields, message }) };
    const recording = new Recording(logger, join(directory, "file", "a"), false);
    const paper = recording.paper("main");
    paper?.write("one");
    await expect.poll(() => errors).toEqual([expect.objectContaining({ reason: expect.stringContaining("ENOTDIR") })]);
    paper?.write("two");
    await recording.close();
    expect(existsSync(join(directory, "a"))).toBe(false);
  });

  test("are not there unless they are asked for", () => {
    expect(new Recording(silentLogger, null, false).paper("main")).toBeNull();
  });
});
