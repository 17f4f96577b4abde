// A configuration file and what it points to, on disk.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { configurationSource } from "../../../src/cli/configuration.ts";
import type { LoadedConfig } from "../../../src/config/config.ts";

let directory = "";
const write = (name: string, text: string): void => writeFileSync(join(directory, name), text);
const yaml = (poolSize: number): string => `
clusters: { demo: { source: static, static: { hosts: [h] }, probe: { password: x } } }
auth: { type: hba, hba_file: hba.conf, file: userlist.txt }
pool: { default_pool_size: ${poolSize} }
`;
const shown = (loaded: LoadedConfig): unknown =>
  loaded.ok
    ? [loaded.config.pool.defaultPoolSize, loaded.config.auth.hba?.rules.map(({ method }) => method)]
    : loaded.problems.map(({ message }) => message);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pgsteer-configuration-"));
  write("pgsteer.yaml", yaml(1));
  write("hba.conf", "include_dir rules\nlocal all all trust\n");
  write("userlist.txt", '"app" "pw"\n');
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe("a configuration file", () => {
  test("whose other files have changed is read as it was, with those as they are", () => {
    write("hba.conf", "host all all all md5\n");
    const source = configurationSource(join(directory, "pgsteer.yaml"), []);
    expect(shown(source.read())).toEqual([1, ["md5"]]);
    source.taken();
    write("pgsteer.yaml", yaml(2));
    write("hba.conf", "host all all all trust\n");
    expect(shown(source.readFilesAgain())).toEqual([1, ["trust"]]);
    expect(shown(source.read())).toEqual([2, ["trust"]]);
    // Nobody has taken it: a listener could not be opened, say.
    expect(shown(source.readFilesAgain())).toEqual([1, ["trust"]]);
  });

  test("knows which files and directories it has read, those that were not there included", () => {
    const source = configurationSource(join(directory, "pgsteer.yaml"), []);
    expect(shown(source.read())).toEqual([expect.stringContaining("includes a directory that does not exist")]);
    const names = (): string[] => [...source.seen.keys()].map((path) => path.slice(directory.length + 1)).toSorted();
    expect(names()).toEqual(["hba.conf", "rules", "userlist.txt"]);
    expect(source.seen.get(join(directory, "rules"))).toBe("ENOENT");
    write("hba.conf", "host all all all trust\ninclude_if_exists more.conf\n");
    expect(source.read().ok).toBe(true);
    expect(names()).toEqual(["hba.conf", "more.conf", "userlist.txt"]);
  });

  test("that is broken keeps its other files watched", () => {
    const source = configurationSource(join(directory, "pgsteer.yaml"), []);
    write("hba.conf", "host all all all trust\n");
    source.read();
    write("pgsteer.yaml", "clusters: [");
    expect(source.read().ok).toBe(false);
    expect(source.seen.size).toBe(2);
  });
});
