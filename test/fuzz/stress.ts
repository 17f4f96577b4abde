// `npm run stress -- --seconds 60 --clients 200 --servers 5 --seed 1`: clients that check everything, on few servers. Exits with 1
// when one of them saw what it should not, or a server was left dirty.

import { parseArgs } from "node:util";
import { runStress } from "./stress-run.ts";

const SHOWN_MAX = 20;

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    clients: { type: "string", default: "200" },
    servers: { type: "string", default: "5" },
    seed: { type: "string" },
  },
});
const seed = Number(values.seed ?? Math.floor(Math.random() * 1_000_000));
const { counts, wrong, left, dirty, looks } = await runStress({
  seconds: Number(values.seconds),
  clients: Number(values.clients),
  servers: Number(values.servers),
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
