// What is done to a cluster and its pgsteers while clients work: each fault has a beginning, a bounded time, and an end that takes
// it back. Partitions are in partitions.ts.

import type { Random } from "../fuzz/random.ts";
import type { Cluster } from "../support/cluster.ts";
import { sleep, waitFor } from "../support/time.ts";
import type { Network } from "./network.ts";
import type { Router } from "./router.ts";

/** Everything that a fault can reach. */
export interface Scene {
  readonly cluster: Cluster;
  readonly network: Network;
  readonly routers: readonly Router[];
  readonly random: Random;
}

export interface Begun {
  readonly target: string;
  /** Pgsteers that cannot serve while it lasts. */
  readonly blind?: readonly string[];
  readonly holdMs: number;
  end(): Promise<void>;
}

export interface Fault {
  readonly name: string;
  /** How often it is chosen, beside the others. */
  readonly weight: number;
  begin(scene: Scene): Promise<Begun>;
}

const nothing = async (): Promise<void> => {};

/** A leader has to be there, and not for the first time only: faults follow each other. */
function leaderOf({ cluster }: Scene): Promise<string> {
  return waitFor(() => cluster.leader(), { timeoutMs: 30_000, what: "there is a leader" });
}

async function replicaOf(scene: Scene): Promise<string> {
  await leaderOf(scene);
  return scene.random.pick(await scene.cluster.replicas());
}

/** The leader more often than a replica: that is where it hurts. */
function someMember(scene: Scene): Promise<string> {
  return scene.random.chance(0.7) ? leaderOf(scene) : replicaOf(scene);
}

const switchover: Fault = {
  name: "switchover",
  weight: 5,
  begin: async (scene) => {
    const from = await leaderOf(scene);
    const candidate = scene.random.chance(0.4) ? await replicaOf(scene) : undefined;
    // A refusal is Patroni's right, of a replica that is not synchronous for one; pgsteer has to get over that, too.
    const answer = await scene.cluster.switchover(candidate).catch((error: unknown) => String(error));
    return { target: `${from} to ${candidate ?? "any"}: ${answer.slice(0, 80)}`, holdMs: 0, end: nothing };
  },
};

const killPostgres: Fault = {
  name: "kill postgres",
  weight: 4,
  begin: async (scene) => {
    const target = await someMember(scene);
    await scene.cluster.killPostgres(target);
    return { target, holdMs: 0, end: nothing };
  },
};

/** With synchronous replication: commits that have happened and that nobody has heard of when their server dies. */
const killWaiting: Fault = {
  name: "kill postgres while commits wait",
  weight: 3,
  begin: async (scene) => {
    const { cluster, random } = scene;
    const target = await leaderOf(scene);
    const replicas = await cluster.replicas();
    for (const name of replicas) cluster.freezePostgres(name);
    const end = async () => {
      for (const name of replicas) cluster.thawPostgres(name);
    };
    try {
      await sleep(random.between(500, 1500));
      await cluster.killPostgres(target);
    } catch (error) {
      await end();
      throw error;
    }
    return { target, holdMs: random.between(0, 1500), end };
  },
};

const stopPatroni: Fault = {
  name: "stop patroni",
  weight: 2,
  begin: async (scene) => {
    const target = await someMember(scene);
    await scene.cluster.stopMember(target);
    return { target, holdMs: scene.random.between(500, 8000), end: () => scene.cluster.startMember(target) };
  },
};

const killPatroni: Fault = {
  name: "kill patroni",
  weight: 2,
  begin: async (scene) => {
    const target = await someMember(scene);
    await scene.cluster.killPatroni(target);
    return { target, holdMs: scene.random.between(500, 30_000), end: () => scene.cluster.startMember(target) };
  },
};

const killNode: Fault = {
  name: "kill node",
  weight: 3,
  begin: async (scene) => {
    const target = await someMember(scene);
    await scene.cluster.killNode(target);
    return { target, holdMs: scene.random.between(500, 25_000), end: () => scene.cluster.startMember(target) };
  },
};

const freezePatroni: Fault = {
  name: "freeze patroni",
  weight: 3,
  begin: async (scene) => {
    const target = await someMember(scene);
    scene.cluster.freezePatroni(target);
    const end = async () => scene.cluster.thawPatroni(target);
    // Either shorter than its key lives, or long enough for a successor while the old PostgreSQL still takes writes.
    const holdMs = scene.random.chance(0.4) ? scene.random.between(2000, 8000) : scene.random.between(24_000, 34_000);
    return { target, holdMs, end };
  },
};

const freezePostgres: Fault = {
  name: "freeze postgres",
  weight: 2,
  begin: async (scene) => {
    const target = await someMember(scene);
    scene.cluster.freezePostgres(target);
    const end = async () => scene.cluster.thawPostgres(target);
    return { target, holdMs: scene.random.between(1000, 12_000), end };
  },
};

const lag: Fault = {
  name: "replica lags",
  weight: 2,
  begin: async (scene) => {
    const target = await replicaOf(scene);
    scene.cluster.addLag(target);
    const pause = scene.random.between(3000, 15_000);
    // Its startup process may be gone by then.
    const end = async () => {
      try {
        scene.cluster.removeLag(target);
      } catch {
        await scene.cluster.restartMember(target);
      }
    };
    return { target, holdMs: pause, end };
  },
};

/** One etcd, or all of them. */
function chosenEtcd({ cluster, random }: Scene): { readonly target: string; readonly index: number | undefined } {
  const index = random.chance(0.4) ? undefined : random.below(cluster.etcd.nodes.length);
  return { target: index === undefined ? "all etcd" : `etcd${index + 1}`, index };
}

const killEtcd: Fault = {
  name: "kill etcd",
  weight: 2,
  begin: async (scene) => {
    const { target, index } = chosenEtcd(scene);
    await scene.cluster.etcd.kill(index);
    return { target, holdMs: scene.random.between(1000, 15_000), end: () => scene.cluster.startEtcd(index) };
  },
};

const freezeEtcd: Fault = {
  name: "freeze etcd",
  weight: 2,
  begin: async (scene) => {
    const { target, index } = chosenEtcd(scene);
    scene.cluster.freezeEtcd(index);
    const end = async () => scene.cluster.thawEtcd(index);
    return { target, holdMs: scene.random.between(1000, 15_000), end };
  },
};

const killRouter: Fault = {
  name: "kill pgsteer",
  weight: 2,
  begin: async (scene) => {
    const router = scene.random.pick(scene.routers);
    await router.kill();
    const end = () => router.start();
    return { target: router.name, blind: [router.name], holdMs: scene.random.between(0, 3000), end };
  },
};

const freezeRouter: Fault = {
  name: "freeze pgsteer",
  weight: 2,
  begin: async (scene) => {
    const router = scene.random.pick(scene.routers);
    router.freeze();
    const end = async () => router.thaw();
    return { target: router.name, blind: [router.name], holdMs: scene.random.between(500, 10_000), end };
  },
};

/** A pgsteer that sleeps through a change of leader, and wakes up with connections to the deposed one. */
const sleepThrough: Fault = {
  name: "switchover while pgsteer is frozen",
  weight: 2,
  begin: async (scene) => {
    const router = scene.random.pick(scene.routers);
    const from = await leaderOf(scene);
    router.freeze();
    const answer = await scene.cluster.switchover().catch((error: unknown) => String(error));
    const end = async () => router.thaw();
    const target = `${router.name}, ${from}: ${answer.slice(0, 60)}`;
    return { target, blind: [router.name], holdMs: scene.random.between(0, 4000), end };
  },
};

export const faults: readonly Fault[] = [
  switchover,
  killPostgres,
  killWaiting,
  stopPatroni,
  killPatroni,
  killNode,
  freezePatroni,
  freezePostgres,
  lag,
  killEtcd,
  freezeEtcd,
  killRouter,
  freezeRouter,
  sleepThrough,
];

/** By weight. */
export function pickFault(list: readonly Fault[], random: Random): Fault {
  let left = random.below(list.reduce((sum, { weight }) => sum + weight, 0));
  for (const each of list) {
    left -= each.weight;
    if (left < 0) return each;
  }
  throw new Error("there is no fault to choose from");
}
