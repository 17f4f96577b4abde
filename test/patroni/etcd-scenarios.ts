// etcd gone, whole or in part, or out of pgsteer's reach alone: losing it is not losing the leader.

import { now } from "../support/time.ts";
import { check, equal } from "./expect.ts";
import { Forwarder } from "./forwarder.ts";
import { plain } from "./leader-scenarios.ts";
import type { Scenario, Setup } from "./site.ts";
import type { Traffic } from "./traffic.ts";

const failsafe: Setup = { name: "failsafe mode", cluster: { patroni: { dcs: { failsafe_mode: true } } } };
const threeEtcd: Setup = { name: "three etcd nodes", cluster: { etcdNodes: 3 } };

/** The way of the setup below, for as long as its site stands. */
let way: Forwarder | null = null;

const forwarded: Setup = {
  name: "etcd behind a forwarder",
  async pgsteer(cluster) {
    const forwarder = await Forwarder.start(cluster.etcdEndpoints[0] ?? "");
    way = forwarder;
    return {
      configure: ({ clusters }) => {
        clusters["demo"] = { ...clusters["demo"], etcd: { endpoints: [forwarder.endpoint] } };
      },
    };
  },
  async leave() {
    await way?.close();
    way = null;
  },
};

const lost = (traffic: Traffic) => traffic.watch.until("etcd lost", ({ source }) => !source.connected);
const found = (traffic: Traffic) => traffic.watch.until("etcd connected", ({ source }) => source.connected);

const etcdStopped: Scenario = {
  name: "etcd stopped and back, without failsafe mode",
  setup: plain,
  async run(site, traffic) {
    const { cluster } = site;
    const leader = await cluster.requireLeader();
    const since = now();
    await cluster.stopEtcd();
    await lost(traffic);
    const kept = traffic.watch.leaders(since);
    equal("the leader when etcd is lost", kept, [`writable ${leader}`]);
    await traffic.writer.nextAcknowledged();
    // Patroni demotes its leader when it cannot renew the key in time.
    await traffic.watch.until(
      "no leader, and why",
      (each) => each.leader.state === "none" && each.leader.reason !== "",
    );
    await traffic.nextRead();
    await cluster.startEtcd();
    await found(traffic);
    await site.settle(traffic);
    await traffic.writer.nextAcknowledged();
    traffic.onlyInFlight();
    await traffic.nothingWrong();
    return `written until Patroni demoted, reads all the time; ${traffic.summary()}`;
  },
};

const etcdStoppedFailsafe: Scenario = {
  name: "etcd stopped and back, with failsafe mode",
  setup: failsafe,
  async run(site, traffic) {
    const { cluster } = site;
    const leader = await cluster.requireLeader();
    const since = now();
    await cluster.stopEtcd();
    await lost(traffic);
    // Longer than the key would have lived: thirty reads of the leader's Patroni, once a second.
    for (let count = 0; count < 30; count += 1) {
      await traffic.writer.nextAcknowledged();
      await patroniAnswers(cluster.member(leader).apiUrl);
    }
    await cluster.startEtcd();
    await found(traffic);
    await site.settle(traffic);
    traffic.undisturbed();
    await traffic.nothingWrong();
    equal("/topology", traffic.watch.leaders(since), [`writable ${leader}`]);
    return `no interruption; ${traffic.summary()}`;
  },
};

/** Takes about a second: an answer of a member's Patroni, and a pause. */
async function patroniAnswers(apiUrl: string): Promise<void> {
  const response = await fetch(`${apiUrl}/patroni`, { signal: AbortSignal.timeout(5000) });
  check(response.ok, `${apiUrl}/patroni answers ${response.status}`);
  await new Promise((resolve) => setTimeout(resolve, 1000));
}

const oneOfThree: Scenario = {
  name: "one of three etcd endpoints stopped, each in turn",
  setup: threeEtcd,
  async run(site, traffic) {
    const { cluster } = site;
    const since = now();
    const leader = await cluster.requireLeader();
    for (const index of [0, 1, 2]) {
      await cluster.stopEtcd(index);
      for (let count = 0; count < 3; count += 1) await patroniAnswers(cluster.member(leader).apiUrl);
      await found(traffic);
      await traffic.writer.nextAcknowledged();
      if (index < 2) {
        await cluster.startEtcd(index);
        await cluster.etcd.ready();
      }
    }
    equal("/topology", traffic.watch.leaders(since), [`writable ${leader}`]);
    traffic.undisturbed();
    // With the last one still away, news arrive as ever.
    await cluster.switchover();
    await site.settle(traffic);
    await traffic.writer.nextAcknowledged();
    traffic.undisturbed();
    await cluster.startEtcd(2);
    await traffic.nothingWrong();
    return `0 errors, a switchover with one away included; ${traffic.summary()}`;
  },
};

const partition: Scenario = {
  name: "pgsteer cut off from etcd alone",
  setup: forwarded,
  async run(site, traffic) {
    const { cluster } = site;
    const leader = await cluster.requireLeader();
    const since = now();
    for (const close of ["silence", "cut"] as const) {
      way?.[close]();
      await lost(traffic);
      // Three rounds of probes: REST and SQL confirm the leader.
      for (let count = 0; count < 3; count += 1) {
        await patroniAnswers(cluster.member(leader).apiUrl);
        await traffic.writer.nextAcknowledged();
      }
      way?.open();
      await found(traffic);
    }
    equal("/topology", traffic.watch.leaders(since), [`writable ${leader}`]);
    traffic.undisturbed();
    return `no interruption, silent or cut; ${traffic.summary()}`;
  },
};

const blindSwitchover: Scenario = {
  name: "a switchover while pgsteer is cut off from etcd",
  setup: forwarded,
  async run(site, traffic) {
    const { cluster } = site;
    const leader = await cluster.requireLeader();
    way?.cut();
    await lost(traffic);
    await cluster.switchover();
    await cluster.waitHealthy();
    const successor = await cluster.requireLeader();
    // The old one is a replica, which is said; the new one cannot be known.
    await traffic.watch.until("no leader", (each) => each.leader.state === "none");
    await traffic.nextRead();
    way?.open();
    await found(traffic);
    await site.settle(traffic);
    await traffic.writer.nextAcknowledged();
    traffic.onlyInFlight();
    await traffic.nothingWrong();
    equal(
      "/topology's last two",
      traffic.watch.leaders().filter((each) => each.startsWith("writable")),
      [`writable ${leader}`, `writable ${successor}`],
    );
    return `held until etcd was back; ${traffic.summary()}`;
  },
};

export const etcdScenarios: readonly Scenario[] = [
  etcdStopped,
  etcdStoppedFailsafe,
  oneOfThree,
  partition,
  blindSwitchover,
];
