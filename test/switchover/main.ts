// `npm run test:switchover -- --runs 5`: `pgsteer switchover` on a real cluster behind two routers, under clients whose transactions
// take two seconds. Prints a table, and fails unless no client saw an error and every acknowledged row is there, once.

import Table from "cli-table3";
import { Command } from "commander";
import { APPLICATION, startCluster } from "../support/cluster.ts";
import { runCommand } from "../support/command.ts";
import { createLongTable, LongTransactions } from "../support/long-transactions.ts";
import { positiveNumber, wholeNumber } from "../support/options.ts";
import { startPgsteer } from "../support/pgsteer.ts";
import { waitFor } from "../support/time.ts";

const HEAD = ["run", "leader", "exit", "transactions", "errors", "missing", "doubled", "drained s", "gap s", "held s"];

/** One switchover under load. */
interface Run {
  readonly cells: readonly string[];
  readonly good: boolean;
}

function printTable(rows: readonly (readonly string[])[]): void {
  const table = new Table({ head: [...HEAD], style: { head: [], border: [], compact: true } });
  for (const row of rows) table.push([...row]);
  console.log(table.toString());
}

const { runs, clients, seconds } = new Command("npm run test:switchover --")
  .description("pgsteer switchover behind two routers, under clients with long transactions.")
  .option("--runs <n>", "switchovers", wholeNumber(1000), 5)
  .option("--clients <n>", "clients", wholeNumber(1000), 50)
  .option("--seconds <n>", "how long a transaction takes", positiveNumber(60), 2)
  .parse()
  .opts<{ runs: number; clients: number; seconds: number }>();
console.error(`two routers, ${clients} clients with transactions of ${seconds} s, ${runs} switchovers`);
const cluster = await startCluster();
const results: Run[] = [];
try {
  const start = (name: string) =>
    startPgsteer(cluster, {
      name,
      configure: ({ pool }) => {
        pool["default_pool_size"] = 40;
      },
    });
  const routers = [await start("one"), await start("two")];
  const file = routers[0]?.configurationFile ?? "";
  await createLongTable(cluster.login(await cluster.requireLeader(), APPLICATION));
  for (let run = 1; run <= runs; run += 1) {
    const before = await cluster.requireLeader();
    const load = new LongTransactions(seconds, run * 1000);
    const logins = routers.map((router) => router.login("write"));
    load.start(clients, logins);
    const working = () => load.acknowledged.every((count) => count > 0) || load.errors.length > 0;
    await waitFor(working, { timeoutMs: 120_000, what: "each client has done a transaction" });
    const { code, output } = await runCommand(cluster, "switchover", "-c", file);
    console.error(output.trimEnd());
    const at = [...load.acknowledged];
    const onward = () =>
      load.acknowledged.every((count, client) => count > (at[client] ?? 0)) || load.errors.length > 0;
    await waitFor(onward, { timeoutMs: 120_000, what: "each client goes on" });
    await load.stop();
    const leader = await cluster.requireLeader();
    const { missing, doubled } = await load.compare(cluster.login(leader, APPLICATION));
    const [, drained] = /\+\s*([\d.]+) s {2}all drained/.exec(output) ?? [];
    const [, gap, held] = /gap: ([\d.]+) s .* at most ([\d.]+) s/.exec(output) ?? [];
    const counts = [code, load.total, load.errors.length, missing, doubled].map(String);
    results.push({
      cells: [String(run), `${before} → ${leader}`, ...counts, drained ?? "-", gap ?? "-", held ?? "-"],
      good: code === 0 && leader !== before && load.errors.length + missing + doubled === 0,
    });
    if (load.errors.length > 0) console.error(`errors: ${load.errors.join(", ")}`);
    await cluster.waitHealthy();
  }
} finally {
  await cluster.remove();
}
printTable(results.map(({ cells }) => cells));
const bad = results.filter(({ good }) => !good).length;
console.log(
  bad === 0 ? `${runs} runs, no client saw an error, every row is there` : `${bad} of ${runs} runs went wrong`,
);
process.exit(bad === 0 ? 0 : 1);
