// What is going on: statements at work on a member, clients by their state in pgsteer. For tests that wait for a state, where a
// pause would only hope for it.

import type { Cluster } from "./cluster.ts";
import type { Pgsteer } from "./pgsteer.ts";
import { waitFor } from "./time.ts";

/** Waits until `count` statements with `part` in their text are at work on `member`, the leader by default. */
export async function untilRuns(cluster: Cluster, part: string, count = 1, member?: string): Promise<void> {
  const statement = `SELECT count(*)::int AS n FROM pg_stat_activity
    WHERE state = 'active' AND strpos(query, $1) > 0 AND pid <> pg_backend_pid()`;
  const runs = async () => {
    const { rows } = await cluster.sql(member ?? (await cluster.requireLeader()), statement, [part]);
    return rows[0]?.["n"] === count;
  };
  await waitFor(runs, { timeoutMs: 30_000, intervalMs: 10, what: `${count} × ${part} at work` });
}

/** Waits until `count` clients of a listener are in this state, by pgsteer's own account. */
export async function untilClients(pgsteer: Pgsteer, listener: string, state: string, count: number): Promise<void> {
  const wanted = new RegExp(`^pgsteer_clients\\{[^}]*listener="${listener}",state="${state}"\\} ${count}$`, "m");
  const are = async () => wanted.test(await (await fetch(`${pgsteer.httpUrl}/metrics`)).text());
  await waitFor(are, { timeoutMs: 30_000, intervalMs: 10, what: `${count} clients of ${listener} ${state}` });
}
