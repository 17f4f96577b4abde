// The demonstration's cluster and pgsteer: where they live, how they are started, and the note by which a second command
// (`npm run demo -- switchover`) finds them.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { APPLICATION, type Cluster, startCluster } from "../test/support/cluster.ts";
import { type Pgsteer, projectRoot, startPgsteer } from "../test/support/pgsteer.ts";
import { barrierFor } from "../test/support/processes.ts";
import { processesOf } from "../test/support/procfs.ts";
import { now } from "../test/support/time.ts";
import { Writer } from "../test/support/writer.ts";

const note = z.object({
  members: z.array(z.object({ name: z.string(), apiUrl: z.string(), dataDirectory: z.string() })),
});

/** What a second command needs to know of a running demonstration. */
export type DemoNote = z.output<typeof note>;

/** A running demonstration. */
export interface Demo {
  readonly cluster: Cluster;
  readonly pgsteer: Pgsteer;
  stop(): Promise<void>;
}

/** A failure that is the surroundings' and needs a sentence rather than a stack. */
export class DemoError extends Error {
  override readonly name = "DemoError";
}

/** `.state/demo` in the checkout, or a place that the user of PostgreSQL can reach where it cannot reach that one. */
function stateDirectory(): string {
  const inCheckout = join(projectRoot, ".state", "demo");
  return barrierFor(inCheckout) === null ? inCheckout : join(tmpdir(), "pgsteer-demo");
}

/** Null when no demonstration runs. */
export function readNote(): DemoNote | null {
  const directory = stateDirectory();
  if (processesOf(directory).length === 0) return null;
  try {
    return note.parse(JSON.parse(readFileSync(join(directory, "demo.json"), "utf8")));
  } catch {
    return null;
  }
}

/** Starts all of it afresh; what an earlier demonstration left is removed. `say` hears of each step. */
export async function startDemo(say: (line: string) => void): Promise<Demo> {
  const directory = stateDirectory();
  const barrier = barrierFor(join(projectRoot, ".state", "demo"));
  if (barrier !== null) say(`${barrier} does not let the user postgres pass: state and logs are in ${directory}`);
  const running = processesOf(directory);
  if (running.length > 0) {
    throw new DemoError(`a demonstration runs already in ${directory} (pids ${running.join(", ")}): stop it first`);
  }
  rmSync(directory, { recursive: true, force: true });

  const begun = now();
  say("starting etcd, three Patroni members with PostgreSQL, and pgsteer");
  const cluster = await startCluster({ directory, ports: { postgres: 5441, api: 8008, etcd: 2379 } });
  try {
    const members = cluster.members.map(({ name, apiUrl, dataDirectory }) => ({ name, apiUrl, dataDirectory }));
    writeFileSync(join(directory, "demo.json"), JSON.stringify({ members } satisfies DemoNote));
    await Writer.createTable(cluster.login(await cluster.requireLeader(), APPLICATION));
    const pgsteer = await startPgsteer(cluster, {
      ports: { auto: 6432, write: 5000, read: 5001, http: 7000 },
      ready: "sql",
    });
    say(`all is up after ${((now() - begun) / 1000).toFixed(1)} s; state and logs: ${directory}`);
    const stop = async () => {
      await pgsteer.stop();
      await cluster.stop();
    };
    return { cluster, pgsteer, stop };
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}
