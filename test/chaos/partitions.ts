// Networks that fall apart: what is sent from one place to another is dropped without a word, one way or both, for a bounded time.

import { sleep, waitFor } from "../support/time.ts";
import type { Begun, Fault, Scene } from "./faults.ts";

interface Cut {
  readonly from: string;
  readonly to: string;
}

const HOLD_MS = { min: 2000, max: 25_000 } as const;

/** Between each of one side and each of the other; one way now and then. */
function between(scene: Scene, one: readonly string[], other: readonly string[]): Cut[] {
  const way = scene.random.below(4);
  return one.flatMap((left) =>
    other.flatMap((right) => [
      ...(way === 1 ? [] : [{ from: left, to: right }]),
      ...(way === 2 ? [] : [{ from: right, to: left }]),
    ]),
  );
}

async function apply(scene: Scene, target: string, cuts: readonly Cut[], blind: readonly string[]): Promise<Begun> {
  const { network, random } = scene;
  for (const { from, to } of cuts) await network.cut(from, to);
  const oneWay = cuts.some(({ from, to }) => !cuts.some((each) => each.from === to && each.to === from));
  return {
    target: oneWay ? `${target}, one way` : target,
    blind,
    holdMs: random.between(HOLD_MS.min, HOLD_MS.max),
    end: async () => {
      for (const { from, to } of cuts) await network.mend(from, to);
    },
  };
}

const leaderOf = ({ cluster }: Scene): Promise<string> =>
  waitFor(() => cluster.leader(), { timeoutMs: 30_000, what: "there is a leader" });
const etcds = ({ cluster }: Scene): string[] => cluster.etcd.nodes.map(({ name }) => name);
const others = ({ cluster }: Scene, name: string): string[] =>
  cluster.members.map((member) => member.name).filter((each) => each !== name);

const routerFromLeader: Fault = {
  name: "partition pgsteer | leader",
  weight: 2,
  begin: async (scene) => {
    const { name } = scene.random.pick(scene.routers);
    const leader = await leaderOf(scene);
    return apply(scene, `${name} | ${leader}`, between(scene, [name], [leader]), [name]);
  },
};

/** Reads have other members to go to: nobody has to wait for this one. */
const routerFromReplica: Fault = {
  name: "partition pgsteer | replica",
  weight: 2,
  begin: async (scene) => {
    const { name } = scene.random.pick(scene.routers);
    await leaderOf(scene);
    const replica = scene.random.pick(await scene.cluster.replicas());
    return apply(scene, `${name} | ${replica}`, between(scene, [name], [replica]), []);
  },
};

const routerFromEtcd: Fault = {
  name: "partition pgsteer | etcd",
  weight: 2,
  begin: async (scene) => {
    const { name } = scene.random.pick(scene.routers);
    return apply(scene, `${name} | etcd`, between(scene, [name], etcds(scene)), []);
  },
};

const leaderFromEtcd: Fault = {
  name: "partition leader | etcd",
  weight: 2,
  begin: async (scene) => {
    const leader = await leaderOf(scene);
    return apply(scene, `${leader} | etcd`, between(scene, [leader], etcds(scene)), []);
  },
};

const leaderFromReplicas: Fault = {
  name: "partition leader | replicas",
  weight: 2,
  begin: async (scene) => {
    const leader = await leaderOf(scene);
    return apply(scene, `${leader} | others`, between(scene, [leader], others(scene, leader)), []);
  },
};

/** The leader is alone with one of the pgsteers: all others see its successor. */
const split: Fault = {
  name: "partition leader and pgsteer | all",
  weight: 3,
  begin: async (scene) => {
    const leader = await leaderOf(scene);
    const router = scene.random.pick(scene.routers);
    const rest = [...others(scene, leader), ...etcds(scene)];
    return apply(scene, `${leader}, ${router.name} | all`, between(scene, [leader, router.name], rest), [router.name]);
  },
};

const leaderAlone: Fault = {
  name: "partition leader | all",
  weight: 3,
  begin: async (scene) => {
    const leader = await leaderOf(scene);
    const routers = scene.routers.map(({ name }) => name);
    const rest = [...others(scene, leader), ...etcds(scene), ...routers];
    return apply(scene, `${leader} | all`, between(scene, [leader], rest), routers);
  },
};

/** Statements arrive and are carried out, their answers are lost, and then so is the server. */
const repliesLost: Fault = {
  name: "replies lost and postgres killed",
  weight: 3,
  begin: async (scene) => {
    const { cluster, network, random } = scene;
    const leader = await leaderOf(scene);
    const routers = scene.routers.map(({ name }) => name);
    for (const name of routers) await network.cut(leader, name);
    const end = async () => {
      for (const name of routers) await network.mend(leader, name);
    };
    try {
      await sleep(random.between(300, 1500));
      await cluster.killPostgres(leader);
    } catch (error) {
      await end();
      throw error;
    }
    return { target: leader, blind: routers, holdMs: random.between(0, 3000), end };
  },
};

/** Only where a network of its own is there. */
export const partitions: readonly Fault[] = [
  routerFromLeader,
  routerFromReplica,
  routerFromEtcd,
  leaderFromEtcd,
  leaderFromReplicas,
  split,
  leaderAlone,
  repliesLost,
];
