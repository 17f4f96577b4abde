// States that Patroni knows beside the ordinary one: paused, a standby cluster, synchronous replication.

import { now } from "../support/time.ts";
import { check, equal } from "./expect.ts";
import { plain } from "./leader-scenarios.ts";
import type { Scenario, Setup, Site } from "./site.ts";
import type { Traffic } from "./traffic.ts";

const standby: Setup = { name: "a standby cluster", standby: true, cluster: { members: 2 } };
const synchronous: Setup = {
  name: "synchronous mode",
  cluster: { patroni: { dcs: { synchronous_mode: true } } },
};
const quorum: Setup = {
  name: "quorum commit",
  cluster: { patroni: { dcs: { synchronous_mode: "quorum", synchronous_node_count: 1 } } },
};

const paused: Scenario = {
  name: "a paused cluster, whose leader's PostgreSQL is killed",
  setup: plain,
  async run(site, traffic) {
    const { cluster } = site;
    const leader = await cluster.requireLeader();
    await cluster.patronictl("pause", "--wait", "demo");
    await traffic.watch.until("paused", (each) => each.paused);
    await traffic.writer.nextAcknowledged();
    traffic.undisturbed();
    const since = now();
    await cluster.killPostgres(leader);
    await traffic.watch.until("nobody in the key", (each) => each.leader.state === "none");
    await traffic.nextRead();
    check(
      traffic.watch.leaders(since).every((each) => !each.startsWith("writable") || each === `writable ${leader}`),
      "somebody else was served in a paused cluster",
    );
    await cluster.patronictl("resume", "--wait", "demo");
    await traffic.watch.until("no longer paused", (each) => !each.paused);
    await site.settle(traffic);
    await traffic.writer.nextAcknowledged();
    traffic.onlyInFlight();
    await traffic.nothingWrong(since - 1000, since + 1000);
    return `held until resumed; ${traffic.summary()}`;
  },
};

const standbyCluster: Scenario = {
  name: "a standby cluster: writes refused, reads served",
  setup: standby,
  async run(site, traffic) {
    const { cluster } = site;
    const leader = await cluster.requireLeader();
    await cluster.waitHealthy();
    const shown = await traffic.watch.until("the standby leader", (each) => each.leader.state === "standby");
    equal("leader", shown.leader.member, leader);
    check(!shown.writable, "/topology says writable");
    const told = traffic.writer.failures().map(({ code, outcome }) => `${outcome} ${code}`);
    equal("what the writer is told", [...new Set(told)], ["refused 25006"]);
    equal("acknowledged writes", traffic.writer.acknowledged(), []);
    equal("ready for writes", (await fetch(`${site.pgsteer.httpUrl}/readyz?route=write`)).status, 503);
    equal("ready for reads", (await fetch(`${site.pgsteer.httpUrl}/readyz?route=read`)).status, 200);
    const replicas = await cluster.replicas();
    equal("members that answer reads", await traffic.readers(), replicas);
    // The standby leader changes too: reads go on.
    await cluster.switchover();
    await cluster.waitHealthy();
    const successor = await cluster.requireLeader();
    await traffic.watch.until(`${successor} as standby leader`, ({ leader: now }) => now.member === successor);
    await traffic.nextRead();
    traffic.readsUndisturbed();
    return `25006 to every write; ${traffic.reads.length} reads, a switchover of standby leaders included`;
  },
};

/** Waits until the present leader has a synchronous standby. */
async function synchronized({ cluster }: Site): Promise<string> {
  const leader = await cluster.requireLeader();
  const look = async (): Promise<boolean> => {
    const value = (await cluster.etcd.get(`${cluster.prefix}sync`))?.value ?? "";
    return value.includes(`"leader":"${leader}"`) && /"sync_standby":\s*"node/.test(value);
  };
  await cluster.waitFor(look, 30_000, `${leader} has a synchronous standby`);
  return leader;
}

/** Nothing that was acknowledged is missing, although nodes die: a switchover, then the death of the leader's node. */
async function losesNothing(site: Site, traffic: Traffic): Promise<string> {
  const { cluster } = site;
  await synchronized(site);
  await traffic.writer.nextAcknowledged();
  await cluster.switchover();
  await site.settle(traffic);
  await traffic.writer.nextAcknowledged();
  traffic.undisturbed();
  await traffic.nothingWrong();
  const leader = await synchronized(site);
  await cluster.killNode(leader);
  await cluster.waitFor(async () => ![null, leader].includes(await cluster.leader()), 60_000, "a successor");
  await traffic.writer.nextAcknowledged();
  traffic.onlyInFlight();
  await traffic.nothingWrong();
  await cluster.startMember(leader);
  await site.settle(traffic);
  await traffic.nothingWrong();
  traffic.readsUndisturbed();
  return `no acknowledged write lost; ${traffic.summary()}`;
}

const synchronousMode: Scenario = {
  name: "synchronous mode: a switchover and the death of a node",
  setup: synchronous,
  run: losesNothing,
};

const quorumCommit: Scenario = {
  name: "quorum commit: a switchover and the death of a node",
  setup: quorum,
  only: { majors: [4], why: "quorum commit came with 4.0" },
  run: losesNothing,
};

export const stateScenarios: readonly Scenario[] = [paused, standbyCluster, synchronousMode, quorumCommit];
