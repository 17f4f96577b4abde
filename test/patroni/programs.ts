// Patroni's programs by major version: the distribution's where it has the version, otherwise from PyPI into a virtual environment
// below the user's cache directory, made on first use.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { barrierFor } from "../support/processes.ts";

/** The major versions of Patroni that scenarios are run with. */
export const MAJORS = [3, 4] as const;
export type Major = (typeof MAJORS)[number];

/** One version of Patroni, ready to run. */
export interface PatroniProgram {
  readonly major: Major;
  /** As it says itself: `4.1.5`. */
  readonly version: string;
  /** The program's path, with patronictl beside it. */
  readonly command: string;
}

/** What is asked for of each: 3.0.2 is the last one that lets a thawed leader put its key back. */
const wanted: Readonly<Record<Major, { readonly requirement: string; readonly version: RegExp }>> = {
  3: { requirement: "patroni[etcd3]==3.0.2", version: /^3\.0\.2$/ },
  4: { requirement: "patroni[etcd3]~=4.1", version: /^4\./ },
};

const INSTALL_TIMEOUT_MS = 300_000;

/** The program of a major version, installed where it is missing. Throws, for a person to read, when there is none to be had. */
export function programOf(major: Major): PatroniProgram {
  const home = join(cacheDirectory(), "pgsteer", `patroni-${major}`);
  const candidates = ["/usr/bin/patroni", join(home, "bin", "patroni")];
  for (const command of candidates) {
    const version = versionOf(command);
    if (version !== null && wanted[major].version.test(version)) return { major, version, command };
  }
  install(major, home);
  const command = join(home, "bin", "patroni");
  const version = versionOf(command);
  if (version === null) throw new Error(`Patroni ${major} was installed into ${home}, but does not start`);
  return { major, version, command };
}

/** Where PostgreSQL's user can read too: root's own cache lies behind a directory that lets nobody else through. */
function cacheDirectory(): string {
  const own = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  return barrierFor(own) === null ? own : "/var/cache";
}

function versionOf(command: string): string | null {
  if (!existsSync(command)) return null;
  const { stdout, status } = spawnSync(command, ["--version"], { encoding: "utf8", timeout: 30_000 });
  return status === 0 ? (/^patroni (\S+)/.exec(stdout)?.[1] ?? null) : null;
}

function install(major: Major, home: string): void {
  console.error(`installing ${wanted[major].requirement} into ${home}`);
  mkdirSync(home, { recursive: true, mode: 0o755 });
  // The system's Python before any other one on the path, which may lie where PostgreSQL's user cannot run it.
  const python = existsSync("/usr/bin/python3") ? "/usr/bin/python3" : "python3";
  run(python, ["-m", "venv", "--clear", home], `it takes Python with its module venv (Debian: python3-venv)`);
  const packages = ["wheel", wanted[major].requirement, "psycopg2-binary"];
  run(join(home, "bin", "pip"), ["install", "--quiet", ...packages], `it takes access to PyPI`);
}

function run(command: string, args: readonly string[], hint: string): void {
  const { status, error, stderr } = spawnSync(command, args, { encoding: "utf8", timeout: INSTALL_TIMEOUT_MS });
  if (status === 0) return;
  const why = error?.message ?? stderr.trim().split("\n").slice(-5).join("\n");
  throw new Error(`cannot install Patroni: ${command} ${args.join(" ")} failed (${hint}):\n${why}`);
}
