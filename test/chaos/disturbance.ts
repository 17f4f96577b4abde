// One fault after the other, with time in between for the cluster to heal; and where it does not, what a person would do.

import { sleep } from "../support/time.ts";
import { type Begun, type Fault, pickFault, type Scene } from "./faults.ts";
import type { Journal } from "./history.ts";

const QUIET_MS = { min: 2000, max: 6000 } as const;
/** A cluster that is not whole by then is helped. */
const HEAL_MS = 45_000;
const HELPED_HEAL_MS = 90_000;

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
 * Patroni up to 3.0.2 can leave a cluster that never heals by itself: a thawed leader puts its key back over its successor's. As a
 * person would, stop the leader, so that whoever is ahead takes over, and then restart all others in turn.
 */
async function heal(scene: Scene): Promise<{ readonly whole: boolean; readonly note: string }> {
  if (await isWhole(scene, HEAL_MS)) return { whole: true, note: "" };
  const { cluster } = scene;
  const leader = await cluster.leader().catch(() => null);
  let note = `not whole after ${HEAL_MS} ms`;
  if (leader !== null) {
    note += `; ${leader} was restarted`;
    await cluster.stopMember(leader);
    await sleep(3000);
    await cluster.startMember(leader);
  }
  if (await isWhole(scene, HELPED_HEAL_MS)) return { whole: true, note };
  for (const { name } of cluster.members) await cluster.restartMember(name);
  note += "; all members were restarted";
  return { whole: await isWhole(scene, HELPED_HEAL_MS), note };
}
