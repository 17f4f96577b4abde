// Files that change, while time is ours.

import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type FileState, FileWatch, fileState } from "../../../src/cli/file-watch.ts";
import { FakeClock } from "../../support/fake-clock.ts";

let directory = "";
let seen: Map<string, FileState>;
let changes: string[][];
let watch: FileWatch;

const path = (name: string): string => join(directory, name);
/** As if it had been read. */
const take = (...names: readonly string[]): void => {
  for (const name of names) seen.set(path(name), fileState(path(name)));
};

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pgsteer-watch-"));
  [seen, changes] = [new Map(), []];
  watch = new FileWatch(
    new FakeClock(),
    () => seen,
    (paths) => {
      changes.push(paths.map((each) => each.slice(directory.length + 1)));
      for (const each of paths) seen.set(each, fileState(each));
    },
  );
});

afterEach(() => {
  watch.cancel();
  rmSync(directory, { recursive: true, force: true });
});

describe("a file that is watched", () => {
  test("counts as changed once it has stood still between two looks", async () => {
    writeFileSync(path("a"), "one");
    take("a");
    await watch.look();
    writeFileSync(path("a"), "tw");
    await watch.look();
    writeFileSync(path("a"), "two!");
    await watch.look();
    expect(changes).toEqual([]);
    await watch.look();
    await watch.look();
    expect(changes).toEqual([["a"]]);
  });

  test("waits for those that are still being written", async () => {
    writeFileSync(path("cert"), "one");
    writeFileSync(path("key"), "one");
    take("cert", "key");
    writeFileSync(path("cert"), "two!");
    await watch.look();
    writeFileSync(path("key"), "two!");
    await watch.look();
    expect(changes).toEqual([]);
    await watch.look();
    expect(changes).toEqual([["cert", "key"]]);
  });

  test("may come, go, be replaced, or be another behind its link", async () => {
    mkdirSync(path("d1"));
    mkdirSync(path("d2"));
    writeFileSync(path("d1/f"), "same");
    writeFileSync(path("d2/f"), "same");
    symlinkSync("d1", path("link"));
    writeFileSync(path("gone"), "x");
    take("absent", "gone", "link/f", "d1");
    writeFileSync(path("absent"), "there");
    rmSync(path("gone"));
    symlinkSync("d2", path("link.new"));
    renameSync(path("link.new"), path("link"));
    writeFileSync(path("d1/new"), "");
    await watch.look();
    await watch.look();
    expect(changes).toEqual([["absent", "gone", "link/f", "d1"]]);
  });
});
