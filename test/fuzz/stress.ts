// `npm run stress -- --seconds 60 --clients 200 --servers 5 --seed 1`: clients that check everything, on few servers. Exits with 1
// when one of them saw what it should not, or a server was left dirty.

import { Command } from "commander";
import { anySeed, wholeNumber } from "../support/options.ts";
import { runStress } from "./stress-run.ts";

const SHOWN_MAX = 20;

const values = new Command("npm run stress --")
  .description("Clients that check every answer, on few servers.")
  .option("--seconds <n>", "how long", wholeNumber(), 60)
  .option("--clients <n>", "clients", wholeNumber(10_000), 200)
  .option("--servers <n>", "servers", wholeNumber(1000), 5)
  .option("--seed <n>", "the same requests again", wholeNumber())
  .parse()
  .opts<{ seconds: number; clients: number; servers: number; seed?: number }>();
const seed = values.seed ?? anySeed();
const { counts, wrong, left, dirty, looks } = await runStress({
  ...values,
  seed,
  say: (line) => console.log(line),
});
for (const what of [...wrong, ...left, ...dirty].slice(0, SHOWN_MAX)) console.log(`FOUND ${what}`);
console.log(`transactions ${counts.transactions}, answers checked ${counts.answers}, logins ${counts.logins}`);
console.log(`disconnects ${counts.disconnects}, pins ${counts.pins}, cancels ${counts.cancels}`);
console.log(`unexpected answers ${wrong.length}, left behind ${left.length}`);
console.log(`looks at servers ${looks}, dirty servers ${dirty.length}`);
console.log(`seed ${seed}: ${wrong.length + left.length + dirty.length === 0 ? "nothing found" : "see above"}`);
if (wrong.length + left.length + dirty.length > 0) process.exitCode = 1;
