// Changes of leader, planned and not, and a leader that goes away and comes back without one.

import { now } from "../support/time.ts";
import { check, equal, inOrder } from "./expect.ts";
import type { Scenario, Setup, Site } from "./site.ts";
import type { Traffic } from "./traffic.ts";

/** Three members, everything else by default. */
export const plain: Setup = { name: "three members" };

/** The epoch and the leader that /topology shows. */
async function standing(traffic: Traffic): Promise<{ member: string | null; epoch: number }> {
  const { leader } = await traffic.watch.now();
  return { member: leader.member, epoch: leader.epoch ?? 0 };
}

/** The leader key has not been written anew since the beginning; a new epoch can only come from a newer timeline. */
async function sameKey(traffic: Traffic): Promise<void> {
  const [first] = traffic.watch.sights;
  const { leader } = await traffic.watch.now();
  const was = first?.cluster.leader;
  equal("revision of the leader key", leader.revision, was?.revision);
  const promotions = (leader.timeline ?? 0) - (was?.timeline ?? 0);
  equal("epochs beyond the first", (leader.epoch ?? 0) - (was?.epoch ?? 0), promotions);
}

/** A member that can follow `leader`: the first other one. */
function candidateBeside(site: Site, leader: string): string {
  return site.cluster.members.find(({ name }) => name !== leader)?.name ?? "";
}

const switchover: Scenario = {
  name: "switchover by patronictl",
  setup: plain,
  async run(site, traffic) {
    const before = await standing(traffic);
    const leader = await site.cluster.requireLeader();
    const candidate = candidateBeside(site, leader);
    await site.cluster.patronictl("switchover", "--leader", leader, "--candidate", candidate, "--force", "demo");
    await site.settle(traffic);
    await traffic.writer.nextAcknowledged();
    traffic.undisturbed();
    await traffic.nothingWrong();
    inOrder("/topology", traffic.watch.leaders(), [
      `writable ${leader}`,
      `draining ${leader}`,
      `writable ${candidate}`,
    ]);
    equal("leader and epoch", await standing(traffic), { member: candidate, epoch: before.epoch + 1 });
    return `0 errors; ${traffic.summary()}`;
  },
};

const nodeKilled: Scenario = {
  name: "failover: the leader's node is killed",
  setup: plain,
  async run(site, traffic) {
    const before = await standing(traffic);
    const leader = await site.cluster.requireLeader();
    const secondAgo = now() - 1000;
    await site.cluster.killNode(leader);
    const killed = now();
    await site.cluster.waitFor(
      async () => ![null, leader].includes(await site.cluster.leader()),
      60_000,
      "a successor",
    );
    await traffic.writer.nextAcknowledged();
    const after = await standing(traffic);
    check(after.member !== leader, "the dead leader is still shown");
    equal("epoch", after.epoch, before.epoch + 1);
    traffic.onlyInFlight();
    // Asynchronous replication may lose the last moment before the kill; never more.
    await traffic.nothingWrong(secondAgo, killed);
    await site.cluster.startMember(leader);
    await site.settle(traffic);
    traffic.readsUndisturbed();
    return traffic.summary();
  },
};

const repairedInPlace: Scenario = {
  name: "kill -9 of PostgreSQL, repaired in place",
  setup: plain,
  async run(site, traffic) {
    const before = await standing(traffic);
    const leader = await site.cluster.requireLeader();
    await site.cluster.killPostgres(leader);
    await traffic.watch.until("a leader that is not writable", (each) => each.leader.state === "elected");
    await site.settle(traffic);
    await traffic.writer.nextAcknowledged();
    traffic.onlyInFlight();
    await traffic.nothingWrong();
    equal("leader", (await standing(traffic)).member, before.member);
    inOrder("/topology", traffic.watch.leaders(), [`writable ${leader}`, `elected ${leader}`, `writable ${leader}`]);
    await sameKey(traffic);
    return traffic.summary();
  },
};

const restarted: Scenario = {
  name: "restart of the leader without failover",
  setup: plain,
  async run(site, traffic) {
    const before = await standing(traffic);
    const leader = await site.cluster.requireLeader();
    await site.cluster.patronictl("restart", "demo", leader, "--force");
    await site.settle(traffic);
    await traffic.writer.nextAcknowledged();
    traffic.onlyInFlight();
    await traffic.nothingWrong();
    equal("leader and epoch", await standing(traffic), before);
    return traffic.summary();
  },
};

const terminated: Scenario = {
  name: "SIGTERM to the leader's Patroni",
  setup: plain,
  async run(site, traffic) {
    const before = await standing(traffic);
    const leader = await site.cluster.requireLeader();
    await site.cluster.stopMember(leader);
    await site.cluster.waitFor(
      async () => ![null, leader].includes(await site.cluster.leader()),
      60_000,
      "a successor",
    );
    await traffic.writer.nextAcknowledged();
    traffic.onlyInFlight();
    await traffic.nothingWrong();
    equal("epoch", (await standing(traffic)).epoch, before.epoch + 1);
    await site.cluster.startMember(leader);
    await site.settle(traffic);
    traffic.readsUndisturbed();
    return traffic.summary();
  },
};

export const leaderScenarios: readonly Scenario[] = [switchover, nodeKilled, repairedInPlace, restarted, terminated];
