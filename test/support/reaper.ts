// The last line against orphans: a process of its own session that waits for the end of its standard input, that is, for
// the end of the process that started it, however that came (exit, uncaught error, SIGKILL), and then ends what still
// lives on behalf of the directory in its argument. Started by processes.ts; after a clean stop it finds nothing to do.

import { processesOf, signal } from "./procfs.ts";
import { sleep } from "./time.ts";

const directory = process.argv[2];
if (directory === undefined) throw new Error("usage: reaper.ts DIRECTORY");
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => {});
process.stdin.resume();
process.stdin.on("error", () => {});
await new Promise<void>((resolve) => process.stdin.once("close", resolve));

// More than one pass: a process can be about to start another one. Bounded, so that the reaper itself never stays.
let quietPasses = 0;
for (let pass = 0; pass < 100 && quietPasses < 3; pass += 1) {
  const left = processesOf(directory);
  quietPasses = left.length === 0 ? quietPasses + 1 : 0;
  for (const pid of left) signal(pid, "SIGKILL");
  await sleep(50);
}
process.exit(0);
