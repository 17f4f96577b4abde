// What the proof needs from the npm registry beyond package.json's packages: one exact version of each, installed on first use below
// .state/auth.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { projectRoot } from "../support/pgsteer.ts";

/** The folder of a package in this version; installs it where it is missing. */
export function installed(name: string, version: string): string {
  const directory = join(projectRoot, ".state", "auth", name.replaceAll(/[^a-z0-9]+/g, "-"));
  const home = join(directory, "node_modules", name);
  if (versionOf(home) === version) return home;
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const quiet = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
  const args = ["install", "--prefix", directory, ...quiet, `${name}@${version}`];
  const { status, error } = spawnSync("npm", args, { stdio: ["ignore", "ignore", "inherit"] });
  if (status !== 0) throw new Error(`npm ${args.join(" ")} failed`, { cause: error });
  return home;
}

function versionOf(home: string): string | null {
  const file = join(home, "package.json");
  if (!existsSync(file)) return null;
  return z.object({ version: z.string() }).parse(JSON.parse(readFileSync(file, "utf8"))).version;
}
