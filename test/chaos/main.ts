// `npm run test:chaos -- --minutes 10 --seed 1 --sync on`: a cluster under Patroni and etcd, two pgsteers, fifty clients and random
// faults; then the checker's verdict. `--check FILE` judges a history again, `--faults a,b` inflicts only those, `--patroni COMMAND`
// takes another Patroni. Exits with 1 on a violation. As root it runs in a network namespace of its own, so that it can cut it apart.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { Command, Option } from "commander";
import { anySeed, positiveNumber, wholeNumber } from "../support/options.ts";
import { ProcessGroup, temporaryServerDirectory } from "../support/processes.ts";
import { check } from "./checker.ts";
import { historyOf, readHistory } from "./history.ts";
import { makeNetwork, type Network, noNetwork } from "./network.ts";
import { ETCDS, NODES, ROUTERS, runChaos } from "./run.ts";
import { summary } from "./summary.ts";

const INSIDE = "PGSTEER_CHAOS_NAMESPACE";

const MINUTES_MAX = 24 * 60;
const CLIENTS_MAX = 120;

const values = new Command("npm run test:chaos --")
  .description("Random faults on a real cluster under clients of two pgsteers, and a checker's verdict.")
  .option("--minutes <n>", "how long", positiveNumber(MINUTES_MAX), 5)
  .option("--seed <n>", "the same faults again", wholeNumber())
  .addOption(new Option("--sync <mode>", "Patroni's synchronous_mode").choices(["on", "off"]).default("on"))
  .option("--clients <n>", "clients", wholeNumber(CLIENTS_MAX), 50)
  .option("--faults <names>", "only these, separated by commas", "")
  .option("--patroni <command>", "another Patroni")
  .option("--check <file>", "judge a history again")
  .parse()
  .opts<{
    minutes: number;
    seed?: number;
    sync: "on" | "off";
    clients: number;
    faults: string;
    patroni?: string;
    check?: string;
  }>();

/** This very command in a network namespace of its own; null where that cannot be had. */
async function runInside(): Promise<number | null> {
  if (process.getuid?.() !== 0 || spawnSync("unshare", ["--net", "true"]).status !== 0) return null;
  const again = ["--net", process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const child = spawn("unshare", again, { stdio: "inherit", env: { ...process.env, [INSIDE]: "1" } });
  // A terminal's Ctrl-C reaches both; a kill of this process alone is passed on.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  await once(child, "exit");
  return child.exitCode ?? 1;
}

async function prepareNetwork(group: ProcessGroup): Promise<Network> {
  if (process.env[INSIDE] === undefined) return noNetwork("they need root and unshare(1)");
  const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`);
  try {
    return await makeNetwork(group, [...names("node", NODES), ...names("etcd", ETCDS), ...ROUTERS]);
  } catch (error) {
    return noNetwork(String(error));
  }
}

async function main(): Promise<number> {
  const { minutes, clients } = values;
  const seed = values.seed ?? anySeed();
  const directory = temporaryServerDirectory("chaos");
  let interrupted = false;
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (interrupted) process.exit(130);
      interrupted = true;
      console.log("interrupted: ending the run; once more ends it at once");
    });
  }
  const began = Date.now();
  const say = (line: string) =>
    console.log(`${String(Math.round((Date.now() - began) / 1000)).padStart(5)} s  ${line}`);
  const places = new ProcessGroup(`${directory}/network`);
  try {
    const network = await prepareNetwork(places);
    say(
      `seed ${seed}, ${minutes} minutes, ${clients} clients, synchronous_mode ${values.sync}, history ${directory}/history.jsonl`,
    );
    say("left out: clock jumps, for a process's clock cannot be moved here without the whole machine's");
    const journal = await runChaos({
      seed,
      minutes,
      clients,
      sync: values.sync === "on",
      only: values.faults.split(",").filter((name) => name !== ""),
      patroni: values.patroni ?? null,
      directory,
      network,
      say,
      stopped: () => interrupted,
    });
    return verdictOn(journal.file, historyOf(journal.records), minutes);
  } finally {
    await places.close();
  }
}

function verdictOn(file: string, history: ReturnType<typeof historyOf>, minutes: number | null): number {
  const verdict = check(history);
  for (const line of summary(history, verdict)) console.log(line);
  console.log(`history ${file}; to judge it again: npm run test:chaos -- --check ${file}`);
  const { seed, sync } = history.run;
  if (minutes !== null) {
    const only = values.faults === "" ? "" : ` --faults "${values.faults}"`;
    const options = `--minutes ${minutes} --seed ${seed} --sync ${sync ? "on" : "off"}${only}`;
    console.log(`seed ${seed}; the same faults again: npm run test:chaos -- ${options}`);
  }
  return verdict.violations.length > 0 ? 1 : 0;
}

if (values.check !== undefined) process.exitCode = verdictOn(values.check, readHistory(values.check), null);
else if (process.env[INSIDE] !== undefined) process.exitCode = await main();
else process.exitCode = (await runInside()) ?? (await main());
