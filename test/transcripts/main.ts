// `npm run transcripts`: what there is of golden transcripts; `-- --record NAME…` (or `all`) plays their scenes on real servers and
// records them again, `-- --accept` rewrites what was believed by the rules of now, to be reviewed as a diff.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { faults } from "./faults.ts";
import { losses } from "./losses.ts";
import { rewritten } from "./rewritten.ts";
import type { Scene } from "./scene.ts";
import { keep } from "./stage.ts";

const golden = join(import.meta.dirname, "golden");
const scenes: Readonly<Record<string, Scene>> = { ...faults, ...losses };

async function recordAgain(names: readonly string[], patroni4: string | null): Promise<boolean> {
  let well = true;
  for (const name of names) {
    const scene = scenes[name];
    if (scene === undefined) throw new Error(`there is no scene ${name}`);
    try {
      keep(join(golden, `${name}.jsonl`), await scene.play(patroni4), scene.about);
      console.log(`recorded: ${name}`);
    } catch (error) {
      well = false;
      console.log(`FAILED: ${name}:`, error);
    }
  }
  return well;
}

const program = new Command("npm run transcripts --")
  .description(
    "The transcripts that tests replay: lists them, records them on real clusters, accepts what is believed now.",
  )
  .argument("[names...]", "which to record; all")
  .option("--record", "record them again")
  .option("--accept", "write down what is believed today")
  .option("--patroni4 <command>", "Patroni 4.x, which some need")
  .parse();
const values = program.opts<{ record?: true; accept?: true; patroni4?: string }>();
const positionals = program.args;
if (values.record === true) {
  const names = positionals.includes("all") ? Object.keys(scenes) : positionals;
  process.exitCode = (await recordAgain(names, values.patroni4 ?? null)) ? 0 : 1;
} else if (values.accept === true) {
  for (const file of readdirSync(golden)) {
    const path = join(golden, file);
    writeFileSync(path, rewritten(readFileSync(path, "utf8")));
  }
} else {
  for (const file of readdirSync(golden)) {
    const header: unknown = JSON.parse(readFileSync(join(golden, file), "utf8").split("\n")[0] ?? "{}");
    const about = typeof header === "object" && header !== null && "about" in header ? header.about : "";
    console.log(`${file.replace(/\.jsonl$/, "").padEnd(28)} ${about}`);
  }
}
