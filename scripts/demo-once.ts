// The demonstration without a person: a write, a read, a switchover and a crash, each checked, then everything is stopped.

import { APPLICATION } from "../test/support/cluster.ts";
import { type LeadershipRecord, recordLeadership } from "../test/support/leadership.ts";
import { queryOnce } from "../test/support/sql.ts";
import { now, sleep, waitFor } from "../test/support/time.ts";
import { Writer } from "../test/support/writer.ts";
import { describeChange } from "./demo-report.ts";
import type { Demo } from "./demo-state.ts";

type Say = (line: string) => void;

const WHERE = "inet_server_port() AS port, pg_is_in_recovery() AS recovery";

/** Runs it all; returns what was not as it should be, in sentences. */
export async function runOnce(demo: Demo, say: Say): Promise<string[]> {
  const problems = await writeAndRead(demo, say);
  const writer = new Writer(demo.pgsteer.login("write"));
  const record = await recordLeadership(demo.cluster);
  writer.start();
  try {
    await writer.nextAcknowledged();
    for (const event of ["switchover", "crash"] as const) {
      problems.push(...(await disturb(event, demo, writer, record, say)));
      await demo.cluster.waitHealthy();
    }
  } finally {
    await writer.stop();
    await record.stop();
  }
  problems.push(...(await checkRows(demo, writer, say)));
  return problems;
}

async function memberAt(demo: Demo, port: unknown): Promise<string> {
  return demo.cluster.members.find((member) => member.port === port)?.name ?? `unknown port ${port}`;
}

async function writeAndRead(demo: Demo, say: Say): Promise<string[]> {
  const problems: string[] = [];
  const { ports } = demo.pgsteer;
  const insert = `INSERT INTO writes (id, client_time) VALUES (0, 0) RETURNING ${WHERE}`;
  const written = (await queryOnce(demo.pgsteer.login("write"), insert)).rows[0];
  const writtenAt = await memberAt(demo, written?.["port"]);
  say(`a write through port ${ports.write} went to ${writtenAt} (inet_server_port ${written?.["port"]})`);
  if (writtenAt !== (await demo.cluster.leader())) problems.push(`the write went to ${writtenAt}, not to the leader`);

  const read = (await queryOnce(demo.pgsteer.login("read"), `SELECT ${WHERE}`)).rows[0];
  const readAt = await memberAt(demo, read?.["port"]);
  const facts = `inet_server_port ${read?.["port"]}, pg_is_in_recovery ${read?.["recovery"]}`;
  say(`a read through port ${ports.read} was answered by ${readAt} (${facts})`);
  if (read?.["recovery"] !== true) problems.push(`the read was answered by ${readAt}, which is no replica`);
  return problems;
}

async function disturb(
  event: "switchover" | "crash",
  demo: Demo,
  writer: Writer,
  record: LeadershipRecord,
  say: Say,
): Promise<string[]> {
  const { cluster } = demo;
  const from = await cluster.requireLeader();
  say("");
  say(event === "switchover" ? `switchover away from ${from}` : `kill -9 of ${from}'s PostgreSQL`);
  const since = now();
  if (event === "switchover") await cluster.switchover();
  else await cluster.killPostgres(from);
  const change = await waitFor(
    () => {
      const seen = record.change(since, from);
      return event === "switchover" && seen?.to === from ? null : seen;
    },
    { timeoutMs: 90_000, intervalMs: 10, what: "a leader takes writes directly" },
  );
  await writer.nextAcknowledged(90_000);
  await sleep(500);
  const gap = writer.gap(since);
  if (gap === null) return [`${event}: no writes were acknowledged`];
  for (const line of describeChange(change, gap)) say(line);
  const failed = writer.failures().filter(({ end }) => end >= since);
  const refused = failed.filter(({ outcome }) => outcome === "refused");
  const unknown = failed.filter(({ outcome }) => outcome === "unknown");
  const problems: string[] = [];
  if (refused.length > 0) problems.push(`${event}: ${refused.length} writes were refused (${refused[0]?.code})`);
  // One writer has one statement in flight: more than one unknown outcome means that pgsteer let it run into the wall again.
  if (unknown.length > 1)
    problems.push(`${event}: ${unknown.length} writes with an unknown outcome, more than the one in flight`);
  return problems;
}

/** Every acknowledged row has to be there, and none of which the application was told that it is not. */
async function checkRows(demo: Demo, writer: Writer, say: Say): Promise<string[]> {
  const login = demo.cluster.login(await demo.cluster.requireLeader(), APPLICATION);
  const { rows } = await queryOnce(login, "SELECT id::float8 AS id FROM writes WHERE id > 0");
  const present = new Set(rows.map((row) => Number(row["id"])));
  const acknowledged = writer.acknowledged();
  const lost = acknowledged.filter((id) => !present.has(id));
  const denied = writer.failures().filter(({ id, outcome }) => outcome === "refused" && present.has(id));
  say("");
  say(
    `of ${acknowledged.length} acknowledged writes ${lost.length} are missing; ${denied.length} refused ones are present`,
  );
  const problems: string[] = [];
  if (lost.length > 0) problems.push(`${lost.length} acknowledged writes are missing`);
  if (denied.length > 0) problems.push(`${denied.length} writes that were reported as refused are present`);
  return problems;
}
