// One fault after the other, with time in between for the cluster to heal; and where it does not, what a person would do.

import { z } from "zod";
import type { EtcdValue } from "../support/etcd.ts";
import { sleep } from "../support/time.ts";
import { type Begun, type Fault, pickFault, type Scene } from "./faults.ts";
import type { Journal } from "./history.ts";

const QUIET_MS = { min: 2000, max: 6000 } as const;
/** A cluster that is not whole by then is helped. */
const HEAL_MS = 45_000;
const SWITCHED_HEAL_MS = 30_000;
const HELPED_HEAL_MS = 90_000;
const AWAY_MS = 3000;

const memberKey = z.object({ timeline: z.number().optional() });

export interface Disturbance {
  readonly scene: Scene;
  readonly faults: readonly Fault[];
  readonly journal: Journal;
  readonly say: (line: string) => void;
  /** Moment after which no fault begins. */
  readonly until: number;
  readonly stopped: () => boolean;
}

/** Resolves when time is up and the cluster is whole; to false when it could not be made whole. */
export async function disturb(plan: Disturbance): Promise<boolean> {
  const { scene, faults } = plan;
  for (;;) {
    await sleep(scene.random.between(QUIET_MS.min, QUIET_MS.max));
    if (plan.stopped() || Date.now() >= plan.until) return true;
    if (!(await inflict(pickFault(faults, scene.random), plan))) return false;
  }
}

async function inflict(fault: Fault, { scene, journal, say, stopped }: Disturbance): Promise<boolean> {
  const beganAt = Date.now();
  let begun: Begun;
  try {
    begun = await fault.begin(scene);
  } catch (error) {
    say(`${fault.name}: could not be done: ${String(error)}`);
    return (await heal(scene)).whole;
  }
  say(`${fault.name}: ${begun.target}, for ${begun.holdMs} ms`);
  for (let left = begun.holdMs; left > 0 && !stopped(); left -= 200) await sleep(Math.min(200, left));
  await begun.end();
  const endedAt = Date.now();
  const { whole, note } = await heal(scene);
  const { target, blind = [] } = begun;
  const healedAt = whole ? Date.now() : null;
  journal.write({ type: "fault", name: fault.name, target, blind: [...blind], beganAt, endedAt, healedAt, note });
  if (note !== "") say(`${fault.name}: ${note}`);
  return whole;
}

async function isWhole({ cluster }: Scene, timeoutMs: number): Promise<boolean> {
  return cluster.waitHealthy(timeoutMs).then(
    () => true,
    () => false,
  );
}

/**
 * What a person would do about a cluster that does not heal by itself. Patroni up to 3.0.2 can leave one whose leader is on an older
 * timeline than its replicas: a thawed one puts its key back over its successor's. Then whoever is ahead has to take over. Otherwise
 * it is the replicas that can follow nobody: without synchronous replication PostgreSQL 15 has been seen to wait, rewound, for the
 * segment that the leader had still to reach, through any number of restarts. The leader is sent there; then they are made anew.
 */
async function heal(scene: Scene): Promise<{ readonly whole: boolean; readonly note: string }> {
  if (await isWhole(scene, HEAL_MS)) return { whole: true, note: "" };
  const { cluster } = scene;
  const { leader, ahead } = await leadership(scene);
  const names = cluster.members.map(({ name }) => name);
  const replicas = names.filter((name) => name !== leader);
  let note = `not whole after ${HEAL_MS} ms`;
  if (!ahead && leader !== null) {
    note += ", began a new WAL segment";
    await cluster.sql(leader, "SELECT pg_switch_wal()").catch(() => {});
    if (await isWhole(scene, SWITCHED_HEAL_MS)) return { whole: true, note };
  }
  if (ahead && leader !== null) {
    await restart(scene, leader);
    note += `, its leader on an older timeline: restarted ${leader}`;
  } else {
    for (const name of replicas) await reinitialize(scene, name);
    note += `: made ${replicas} anew`;
  }
  if (await isWhole(scene, HELPED_HEAL_MS)) return { whole: true, note };
  for (const name of names) await restart(scene, name);
  return { whole: await isWhole(scene, HELPED_HEAL_MS), note: `${note}; then restarted all` };
}

/** As `patronictl reinit`, which is Patroni's own remedy for a replica that can follow nobody. */
async function reinitialize({ cluster }: Scene, name: string): Promise<void> {
  const signal = AbortSignal.timeout(HELPED_HEAL_MS);
  const url = `${cluster.member(name).apiUrl}/reinitialize`;
  await fetch(url, { method: "POST", body: JSON.stringify({ force: true }), signal }).catch(() => {});
}

/** Away for long enough that others may take over. */
async function restart({ cluster }: Scene, name: string): Promise<void> {
  await cluster.stopMember(name);
  await sleep(AWAY_MS);
  await cluster.startMember(name);
}

/** Who holds the leader key, and whether another member has seen a newer timeline. */
async function leadership({ cluster }: Scene): Promise<{ readonly leader: string | null; readonly ahead: boolean }> {
  const keys = await cluster.etcd.list(cluster.prefix).catch(() => new Map<string, EtcdValue>());
  const leader = keys.get(`${cluster.prefix}leader`)?.value ?? null;
  const timelines = cluster.members.map(({ name }) => {
    const key = keys.get(`${cluster.prefix}members/${name}`);
    return { name, timeline: key === undefined ? 0 : (memberKey.parse(JSON.parse(key.value)).timeline ?? 0) };
  });
  const own = timelines.find(({ name }) => name === leader)?.timeline ?? 0;
  return { leader, ahead: leader !== null && timelines.some(({ timeline }) => timeline > own) };
}
