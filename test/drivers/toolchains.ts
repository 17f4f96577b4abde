// What a language's driver programs need before they run: its packages, from the manifest in test/drivers/<language>/, exact
// versions, installed below .state/drivers/. Nothing is done when the manifest has not changed since.

import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { projectRoot } from "../support/pgsteer.ts";
import { runProgram } from "../support/programs.ts";

/** Makes a language's programs runnable; rejects with the reason when that cannot be done here. */
export interface Toolchain {
  readonly name: string;
  readonly prepare: () => Promise<void>;
}

/** Where a language's sources are, and where what they need is installed. */
export const sourcesOf = (language: string): string => join(projectRoot, "test", "drivers", language);
export const stateOf = (language: string): string => join(projectRoot, ".state", "drivers", language);

/** Runs one installing command to its end; rejects with the last lines of what it said unless it ends with 0. */
export async function install(command: string, args: readonly string[], cwd: string): Promise<void> {
  const found = await runProgram(command, args, { cwd, timeoutMs: 600_000 });
  if (found.code === 0) return;
  const said = `${found.stdout}\n${found.stderr}`.trim().split("\n").slice(-5).join("\n");
  throw new Error(`${command} ${args.join(" ")} ended with ${found.code ?? "a signal"}: ${said}`);
}

/** Calls `work` unless it has succeeded before with the same manifests in the same `language`'s folder. */
export async function oncePerManifest(
  language: string,
  manifests: readonly string[],
  work: () => Promise<void>,
): Promise<void> {
  const hash = createHash("sha256");
  for (const manifest of manifests) hash.update(readFileSync(join(sourcesOf(language), manifest)));
  const digest = hash.digest("hex");
  const stamp = join(stateOf(language), "installed");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === digest) return;
  mkdirSync(stateOf(language), { recursive: true });
  await work();
  writeFileSync(stamp, digest);
}

/**
 * Packages of npm. Node.js looks for them above the file that imports them: the programs are copied to where they are, and
 * `afterwards` is run there each time.
 */
export function npmToolchain(
  language: string,
  afterwards: readonly (readonly [string, ...string[]])[] = [],
): Toolchain {
  const flags = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"];
  return {
    name: language,
    prepare: async () => {
      mkdirSync(stateOf(language), { recursive: true });
      cpSync(sourcesOf(language), stateOf(language), { recursive: true });
      await oncePerManifest(language, ["package.json"], () => install("npm", ["install", ...flags], stateOf(language)));
      for (const [command, ...args] of afterwards) await install(command, args, stateOf(language));
    },
  };
}

/** Packages of PyPI, in a virtual environment. */
export const python: Toolchain = {
  name: "python",
  prepare: () =>
    oncePerManifest("python", ["requirements.txt"], async () => {
      const directory = stateOf("python");
      await install("python3", ["-m", "venv", "venv"], directory);
      const requirements = join(sourcesOf("python"), "requirements.txt");
      await install(join(directory, "venv", "bin", "pip"), ["install", "-q", "-r", requirements], directory);
    }),
};

/** Programs of PostgreSQL itself, which scripts/setup.sh has installed. */
export const nothingToInstall: Toolchain = { name: "psql", prepare: () => Promise.resolve() };
