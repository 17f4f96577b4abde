// `npm run fuzz -- --frames 1000000 --seed 1`: mutated conversations against pgsteer, from both sides. `--replay FILE` holds the
// conversations of a file again that an earlier run left behind. Exits with 1 when anything was found.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { z } from "zod";
import { anySeed, wholeNumber } from "../support/options.ts";
import { projectRoot } from "../support/pgsteer.ts";
import { report } from "./report.ts";
import { runFuzz } from "./run.ts";
import type { Tally } from "./tally.ts";

const replaySchema = z.object({ seed: z.int(), frames: z.int(), conversations: z.array(z.int()).min(1) });

const values = new Command("npm run fuzz --")
  .description("Mutated conversations against pgsteer, from both sides.")
  .option("--frames <n>", "messages in all", wholeNumber(100_000_000), 1_000_000)
  .option("--seed <n>", "the same conversations again", wholeNumber())
  .option("--clients <n>", "clients at once", wholeNumber(1000), 48)
  .option("--replay <file>", "hold the conversations again that a run left behind")
  .parse()
  .opts<{ frames: number; seed?: number; clients: number; replay?: string }>();

function leaveReplay(seed: number, tally: Tally): string {
  const directory = join(projectRoot, ".state");
  mkdirSync(directory, { recursive: true });
  const file = join(directory, `fuzz-${seed}.json`);
  const named = tally.findings.map(({ conversation }) => conversation).filter((id) => id !== null);
  const conversations = [...new Set([...named, ...tally.suspects])];
  const frames = Math.min(
    tally.frames,
    ((20 * tally.frames) / Math.max(1, tally.conversations)) * Math.max(1, conversations.length),
  );
  writeFileSync(
    file,
    JSON.stringify({ seed, frames: Math.ceil(frames), conversations, findings: tally.findings }, null, 1),
  );
  return file;
}

const replayed =
  values.replay === undefined ? null : replaySchema.parse(JSON.parse(readFileSync(values.replay, "utf8")));
const seed = replayed?.seed ?? values.seed ?? anySeed();
const frames = replayed?.frames ?? values.frames;
const { clients } = values;
console.log(
  `fuzz: ${frames} frames, seed ${seed}${replayed === null ? "" : `, ${replayed.conversations.length} conversations again`}`,
);
const result = await runFuzz({
  seed,
  frames,
  clients: [Math.ceil((clients * 2) / 3), Math.ceil(clients / 3)],
  only: replayed?.conversations ?? null,
  say: (line) => console.log(line),
});
for (const line of report(result, seed)) console.log(line);
if (result.tally.found > 0) {
  if (result.tally.suspects.size > 0)
    console.log(`to run it again: npm run fuzz -- --replay ${leaveReplay(seed, result.tally)}`);
  process.exitCode = 1;
}
