// The house's rules that no linter knows: who may import whom, and what a file looks like. Read from the sources themselves.

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, normalize, relative, sep } from "node:path";
import { describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");

/** Folders that a folder of src/ may import from; itself and `core` always. Imports go downwards only. */
const below: Readonly<Record<string, readonly string[]>> = {
  core: [],
  protocol: [],
  discovery: [],
  auth: ["protocol"],
  routing: ["discovery"],
  pool: ["auth", "protocol"],
  proxy: ["pool", "auth", "protocol", "routing", "discovery"],
  metrics: ["proxy", "pool", "auth", "protocol", "routing", "discovery"],
  admin: ["metrics", "proxy", "pool", "auth", "protocol", "routing", "discovery"],
  // Knows no part of the router but the words in which secrets and TLS modes are written.
  config: ["auth"],
  cli: ["admin", "config", "metrics", "proxy", "pool", "auth", "protocol", "routing", "discovery"],
};

const LINES_MAX = 400;

/** Test files that mirror no file of src/, and why. */
const unmirrored: Readonly<Record<string, string>> = {
  "test/unit/protocol/exchange-accounts.test.ts": "exchange.ts, as far as it keeps account of statements",
  "test/unit/tidy.test.ts": "is about all files",
  "test/unit/deploy/example.test.ts": "is about files of deploy/ that are no code",
  "test/unit/deploy/sbom.test.ts": "is about what scripts/sbom.ts makes",
  "test/unit/config/mistakes.test.ts": "the mistakes that load.ts finds, by subject",
  "test/unit/config/mistakes-access.test.ts": "the mistakes that load.ts finds, by subject",
  "test/unit/config/mistakes-clusters.test.ts": "the mistakes that load.ts finds, by subject",
  "test/unit/config/mistakes-door.test.ts": "the mistakes that load.ts finds, by subject",
  "test/unit/config/mistakes-listeners.test.ts": "the mistakes that load.ts finds, by subject",
};

function filesOf(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .map((path) => join(folder, path).split(sep).join("/"))
    .filter((path) => statSync(join(root, path)).isFile());
}

const read = (path: string): string => readFileSync(join(root, path), "utf8");
const sources = filesOf("src").filter((path) => path.endsWith(".ts"));
const tests = filesOf("test").filter((path) => path.endsWith(".ts"));
const folderOf = (path: string): string => path.split("/")[1] ?? "";

/** What a source imports or re-exports, types and dynamic imports included: specifiers as written. */
function importsOf(path: string): string[] {
  const code = read(path).replace(/^\s*(?:\/\/|\*|\/\*).*$/gm, "");
  const written = /(?:^|\n)\s*(?:import|export)\b[^;"']*?\bfrom\s*["']([^"']+)["']|\bimport\s*\(?\s*["']([^"']+)["']/g;
  return [...code.matchAll(written)].map((match) => match[1] ?? match[2] ?? "");
}

/** Lines for the message of a failure: what is wrong and what to do. */
function complaints(paths: readonly string[], complain: (path: string) => string | null): string[] {
  return paths.map((path) => complain(path)).filter((line) => line !== null);
}

describe("src/", () => {
  test("imports downwards only", () => {
    const wrong = sources.flatMap((path) =>
      importsOf(path)
        .filter((specifier) => specifier.startsWith("."))
        .map((specifier) =>
          normalize(join(dirname(path), specifier))
            .split(sep)
            .join("/"),
        )
        .filter((target) => {
          const [from, to] = [folderOf(path), folderOf(target)];
          return from !== to && to !== "core" && !(below[from] ?? []).includes(to);
        })
        .map(
          (target) =>
            `${path} imports ${target}: ${folderOf(path)}/ may import from ${["core", ...(below[folderOf(path)] ?? [])].join(", ")}; hand it in instead, or move what both need downwards`,
        ),
    );
    expect(wrong).toEqual([]);
  });

  test("is read as a whole by this test: every relative import leads to a file of src/", () => {
    const relatives = sources.flatMap((path) =>
      importsOf(path)
        .filter((specifier) => specifier.startsWith("."))
        .map((specifier) => ({ path, target: relative(root, join(root, dirname(path), specifier)) })),
    );
    // A pattern that finds nothing would let everything pass.
    expect(relatives.length).toBeGreaterThan(sources.length);
    expect(relatives.filter(({ target }) => !target.startsWith("src") || !existsSync(join(root, target)))).toEqual([]);
    const mentioned = sources.reduce((sum, path) => sum + (read(path).match(/ from "\.{1,2}\//g)?.length ?? 0), 0);
    expect(relatives.length).toBeGreaterThanOrEqual(mentioned);
  });

  test("keeps pool and discovery apart: only proxy joins them", () => {
    const wrong = sources.filter((path) => {
      const folders = importsOf(path).map((specifier) => folderOf(normalize(join(dirname(path), specifier))));
      const met = { pool: folders.includes("pool"), discovery: folders.includes("discovery") };
      const folder = folderOf(path);
      return (folder === "pool" && met.discovery) || (folder === "discovery" && met.pool);
    });
    expect(wrong, "hand the two to each other in src/proxy, through an interface").toEqual([]);
  });

  test("has the folders of the design, and none inside of them", () => {
    expect(
      complaints(sources, (path) => (path.split("/").length === 3 ? null : `${path}: put it into src/<folder>/`)),
    ).toEqual([]);
    const unknown = [...new Set(sources.map(folderOf))].filter((folder) => !(folder in below));
    expect(unknown, "say in this test what the new folder may import, and in the design what it is for").toEqual([]);
  });

  test("has no default export", () => {
    const wrong = complaints(sources, (path) =>
      /^\s*export\s+default\b|\bas\s+default\b/m.test(read(path)) ? `${path}: export it by its name` : null,
    );
    expect(wrong).toEqual([]);
  });

  test("has no file that is too long to read", () => {
    const wrong = complaints(sources, (path) => {
      const lines = read(path).trimEnd().split("\n").length;
      return lines <= LINES_MAX ? null : `${path}: ${lines} lines, at most ${LINES_MAX}; split it by subject`;
    });
    expect(wrong).toEqual([]);
  });

  test("begins each file with what it is for", () => {
    const wrong = complaints(sources, (path) => {
      const first = read(path).replace(/^#!.*\n+/, "");
      return /^(?:\/\/ \S|\/\*\*?\s)/.test(first)
        ? null
        : `${path}: begin with a comment of a few sentences: what the file owns, and how`;
    });
    expect(wrong).toEqual([]);
  });

  test("takes time and the process from its caller", () => {
    const allowed = (path: string) => path === "src/core/clock.ts" || path.startsWith("src/cli/");
    const wrong = complaints(sources, (path) => {
      if (allowed(path)) return null;
      const imported = importsOf(path).find((specifier) =>
        /^(?:node:)?(?:timers(?:\/promises)?|process|perf_hooks)$/.test(specifier),
      );
      return imported === undefined ? null : `${path} imports ${imported}: take a Clock, or hand it in from src/cli`;
    });
    expect(wrong).toEqual([]);
  });

  test("leaves nothing for later", () => {
    const wrong = complaints(sources, (path) =>
      /\b(?:TODO|FIXME|XXX)\b/.test(read(path)) ? `${path}: do it, or drop it` : null,
    );
    expect(wrong).toEqual([]);
  });
});

describe("src/ and test/", () => {
  test("have names in kebab-case", () => {
    const wrong = complaints([...sources, ...tests], (path) =>
      /\/[a-z0-9]+(?:-[a-z0-9]+)*(?:\.test|\.d)?\.ts$/.test(path) ? null : `${path}: name it in kebab-case`,
    );
    expect(wrong).toEqual([]);
  });

  test("mirror each other: a unit test stands where its source stands", () => {
    const wrong = complaints(
      tests.filter((path) => path.startsWith("test/unit/") && path.endsWith(".test.ts")),
      (path) => {
        const source = path
          .replace(/^test\/unit\/(bench\/)?/, (_all, bench) => bench ?? "src/")
          .replace(/\.test\.ts$/, ".ts");
        if (path in unmirrored || existsSync(join(root, source))) return null;
        return `${path}: there is no ${source}; rename the test, or say in this file why it mirrors none`;
      },
    );
    expect(wrong).toEqual([]);
  });

  test("list no exception that is none", () => {
    for (const path of Object.keys(unmirrored)) expect(existsSync(join(root, path)), path).toBe(true);
  });
});
