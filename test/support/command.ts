// pgsteer's commands in tests, as processes of their own: what they print, and how they end.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Cluster } from "./cluster.ts";
import { projectRoot } from "./pgsteer.ts";
import type { RunningProcess } from "./processes.ts";
import { sleep, waitFor } from "./time.ts";

/** A command that runs. */
export interface Command {
  readonly process: RunningProcess;
  /** Standard output and standard error so far. */
  output(): string;
  /** Waits for its end. */
  ended(timeoutMs?: number): Promise<{ readonly code: number | null; readonly output: string }>;
  /** Waits until it has printed this. */
  prints(pattern: RegExp, timeoutMs?: number): Promise<void>;
}

let started = 0;

/** Starts `pgsteer <args>`; it ends with the cluster at the latest. */
export async function startCommand(cluster: Pick<Cluster, "processes">, ...args: string[]): Promise<Command> {
  started += 1;
  const main = process.env["PGSTEER_MAIN"] ?? join(projectRoot, "src", "cli", "main.ts");
  const running = await cluster.processes.start(process.execPath, [main, ...args], {
    name: `command-${process.pid}-${started}`,
  });
  const output = (): string => readFileSync(running.log, "utf8");
  return {
    process: running,
    output,
    ended: async (timeoutMs = 60_000) => {
      const what = () => `pgsteer ${args.join(" ")} ends; it printed:\n${output()}`;
      try {
        await waitFor(() => !running.alive(), { timeoutMs, what: "the command ends" });
      } catch (cause) {
        throw new Error(`not within ${timeoutMs} ms: ${what()}`, { cause });
      }
      // Its exit may be heard of after its death was seen.
      for (let look = 0; look < 50 && running.exitCode() === null; look += 1) await sleep(10);
      return { code: running.exitCode(), output: output() };
    },
    prints: async (pattern, timeoutMs = 30_000) => {
      const seen = (): boolean => {
        if (pattern.test(output())) return true;
        if (!running.alive()) throw new Error(`it has ended:\n${output()}`);
        return false;
      };
      await waitFor(seen, { timeoutMs, intervalMs: 10, what: `the command prints ${pattern}` });
    },
  };
}

/** Runs `pgsteer <args>` to its end. */
export async function runCommand(
  cluster: Pick<Cluster, "processes">,
  ...args: string[]
): Promise<{ readonly code: number | null; readonly output: string }> {
  return (await startCommand(cluster, ...args)).ended();
}
