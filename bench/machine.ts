// Where and what was measured: the header of every report.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, totalmem, type } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { projectRoot } from "../test/support/pgsteer.ts";
import { PGBENCH } from "./testbed.ts";

export interface Surroundings {
  readonly machine: {
    readonly cores: number;
    readonly processor: string;
    readonly memoryGb: number;
    readonly kernel: string;
    /** Load average of the last minute before the start: other work disturbs the measurement. */
    readonly loadBefore: number;
  };
  /** By program; null where it would not say. */
  readonly versions: Readonly<Record<string, string | null>>;
}

/** The first thing in a program's output that looks like a version, or what `pattern` captures. */
function ask(command: string, args: readonly string[], pattern = /(\d+\.\d+(?:\.\d+)*)/): string | null {
  const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
  try {
    const text = execFileSync(command, args, {
      cwd: projectRoot,
      encoding: "utf8",
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    return pattern.exec(text)?.[1] ?? null;
  } catch {
    return null;
  }
}

function pgsteerVersion(): string {
  const text = readFileSync(join(projectRoot, "package.json"), "utf8");
  const { version } = z.object({ version: z.string() }).parse(JSON.parse(text));
  const commit = ask("git", ["--no-optional-locks", "describe", "--always", "--dirty"], /(\S+)/);
  return commit === null ? version : `${version} (${commit})`;
}

/** To be called before the load, for the load average is part of it. */
export function describeSurroundings(): Surroundings {
  return {
    machine: {
      cores: availableParallelism(),
      processor: cpus()[0]?.model.trim() ?? "unknown",
      memoryGb: Math.round(totalmem() / 2 ** 30),
      kernel: `${type()} ${release().split("-")[0]}`,
      loadBefore: loadavg()[0] ?? 0,
    },
    versions: {
      pgsteer: pgsteerVersion(),
      "Node.js": process.versions.node,
      PostgreSQL: ask(PGBENCH, ["--version"]),
      PgBouncer: ask("pgbouncer", ["--version"]),
      HAProxy: ask("haproxy", ["-v"]),
      Patroni: ask("patroni", ["--version"]),
      etcd: ask("etcd", ["--version"]),
    },
  };
}

/** Two lines for people. */
export function surroundingsInWords({ machine, versions }: Surroundings): string[] {
  const { cores, processor, memoryGb, kernel, loadBefore } = machine;
  const known = Object.entries(versions).map(([program, version]) => `${program} ${version ?? "?"}`);
  return [`${cores} × ${processor}, ${memoryGb} GB, ${kernel}, load before ${loadBefore.toFixed(2)}`, known.join(", ")];
}
