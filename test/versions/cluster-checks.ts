// Roles, on every version: where writes and reads go, what a promotion changes, and what clients notice of it. The last check takes
// the primary away for good.

import { deepStrictEqual, ok, strictEqual } from "node:assert/strict";
import { waitFor } from "../support/time.ts";
import type { Check, Trial } from "./trial.ts";

const PORT = "SELECT inet_server_port()";

async function goesWhereItBelongs(trial: Trial): Promise<undefined> {
  const { primary, replica } = trial.pair;
  for (const door of ["write", "auto", "session"] as const)
    strictEqual(await trial.value(door, PORT), String(primary.port));
  strictEqual(await trial.value("read", PORT), String(replica.port));
  const client = await trial.client("auto");
  await client.simple("BEGIN READ ONLY");
  strictEqual(await client.value(PORT), String(replica.port), "a transaction that says that it only reads");
  await client.simple("COMMIT");
  const reader = await trial.client("read");
  deepStrictEqual(await reader.simple("CREATE TABLE refused (id int)"), ["E ERROR 25006", "Z I"]);
}

async function replicates(trial: Trial): Promise<undefined> {
  await trial.superuser("CREATE TABLE kept (id int PRIMARY KEY); GRANT ALL ON kept TO PUBLIC");
  deepStrictEqual(await (await trial.client("write")).simple("INSERT INTO kept VALUES (1)"), ["C INSERT 0 1", "Z I"]);
  const look = async () => (await trial.value("read", "SELECT count(*) FROM kept")) === "1";
  await waitFor(look, { timeoutMs: 10_000, what: "the replica has it" });
}

/** The primary stops, the replica is promoted: writes go there, sessions that could move have moved. */
async function followsPromotion(trial: Trial): Promise<undefined> {
  const { primary, replica } = trial.pair;
  const client = await trial.client("write");
  await client.simple("SET work_mem = '9MB'");
  await client.extended("SELECT 'prepared'", "kept");
  const bound = await trial.client("session");
  await bound.simple("SELECT 1");
  await primary.stop();
  // Asked while there is no primary: it waits.
  const waiting = client.simple("INSERT INTO kept VALUES (2)");
  await replica.run("pg_ctl", ["promote", "-w", "-D", replica.directory]);
  deepStrictEqual(await waiting, ["C INSERT 0 1", "Z I"]);
  strictEqual(await client.value(PORT), String(replica.port));
  strictEqual(await client.value("SHOW work_mem"), "9MB");
  deepStrictEqual(await client.extended("SELECT 'more'", "other"), ["1", "2", "T", "D more", "C SELECT 1", "Z I"]);
  const last = (await bound.untilEnd()).filter((each) => each?.type === "E");
  ok(last.length <= 1, "a session that cannot move has ended, with one error at most");
  strictEqual(await trial.value("session", PORT), String(replica.port));
  strictEqual(await trial.value("read", PORT), String(replica.port), "reads fall back to it");
  if (trial.major >= 14) strictEqual((await trial.client("write")).parameters.get("in_hot_standby"), "off");
  strictEqual(await trial.value("write", "SELECT count(*) FROM kept"), "2");
}

export const clusterChecks: readonly Check[] = [
  { name: "writes to the primary, reads to the replica", run: goesWhereItBelongs },
  { name: "what is written can be read there", run: replicates },
  { name: "follows a promotion", run: followsPromotion },
];
