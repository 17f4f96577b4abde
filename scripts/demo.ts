// `npm run demo`: a real cluster with pgsteer in front of it. Without arguments it stays up, with a live view, until
// Ctrl-C; `-- --once` runs a checked round by itself; `-- switchover` and `-- crash` disturb the one that runs.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { printInstructions, runLive } from "./demo-live.ts";
import { runOnce } from "./demo-once.ts";
import { DemoError, type DemoNote, readNote, startDemo } from "./demo-state.ts";

const say = (line: string): void => console.log(line);

const clusterAnswer = z.object({ members: z.array(z.object({ name: z.string(), role: z.string() })) });

function requireNote(): DemoNote {
  const note = readNote();
  if (note === null) throw new DemoError("no demonstration runs: start one with npm run demo");
  return note;
}

/** The leader by Patroni's own word: `GET /cluster` of the first member that answers. */
async function findLeader(note: DemoNote): Promise<DemoNote["members"][number]> {
  for (const { apiUrl } of note.members) {
    try {
      const answer = await fetch(`${apiUrl}/cluster`, { signal: AbortSignal.timeout(2000) });
      const { members } = clusterAnswer.parse(await answer.json());
      const name = members.find(({ role }) => role === "leader")?.name;
      const found = note.members.find((member) => member.name === name);
      if (found !== undefined) return found;
    } catch {
      // The next one may answer.
    }
  }
  throw new DemoError("Patroni names no leader at the moment");
}

async function switchover(): Promise<void> {
  const { name, apiUrl } = await findLeader(requireNote());
  const body = JSON.stringify({ leader: name });
  const answer = await fetch(`${apiUrl}/switchover`, { method: "POST", body, signal: AbortSignal.timeout(60_000) });
  say(await answer.text());
  if (!answer.ok) process.exitCode = 1;
}

async function crash(): Promise<void> {
  const { name, dataDirectory } = await findLeader(requireNote());
  const pid = Number(readFileSync(join(dataDirectory, "postmaster.pid"), "utf8").split("\n")[0]);
  process.kill(pid, "SIGKILL");
  say(`killed the postmaster of ${name} (pid ${pid})`);
}

async function once(): Promise<void> {
  const demo = await startDemo(say);
  // Ctrl-C ends the process at once; the servers' reaper ends the rest.
  let problems: string[];
  try {
    problems = await runOnce(demo, say);
  } finally {
    await demo.stop();
    say(`everything is stopped; logs stay in ${demo.cluster.directory}`);
  }
  for (const problem of problems) console.error(`not as it should be: ${problem}`);
  process.exitCode = problems.length === 0 ? 0 : 1;
}

async function live(): Promise<void> {
  const stopping = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    // The second one ends the process at once; the servers' reaper ends the rest.
    process.once(name, () => stopping.abort());
  }
  const demo = await startDemo(say);
  try {
    if (!stopping.signal.aborted) await printInstructions(demo, say);
    await runLive(demo, say, stopping.signal);
  } finally {
    await demo.stop();
    say(`everything is stopped; logs stay in ${demo.cluster.directory}`);
  }
}

const commands: Record<string, () => Promise<void>> = { "": live, "--once": once, switchover, crash };

const command = commands[process.argv.slice(2).join(" ")];
try {
  if (command === undefined) throw new DemoError("usage: npm run demo [-- --once | switchover | crash]");
  await command();
} catch (error) {
  if (!(error instanceof DemoError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
// What keeps an event loop alive here is over: idle HTTP connections and timers of answers that came in time.
process.exit();
