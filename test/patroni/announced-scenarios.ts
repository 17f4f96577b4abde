// Switchovers that are announced: drained for when they are due and not before, and no longer once they are called off.

import { now, sleep } from "../support/time.ts";
import { check, equal, inOrder } from "./expect.ts";
import { plain } from "./leader-scenarios.ts";
import type { Scenario, Site } from "./site.ts";

/** How far ahead a switchover is scheduled. */
const AHEAD_MS = 20_000;

/** As patronictl asks for it and takes it back, without the seconds that its start takes on a busy machine. */
async function request(site: Site, method: "POST" | "DELETE", body: object = {}): Promise<void> {
  const { cluster } = site;
  const { apiUrl } = cluster.member(await cluster.requireLeader());
  const options = { method, body: JSON.stringify(body), signal: AbortSignal.timeout(20_000) };
  const response = await fetch(`${apiUrl}/switchover`, options);
  check(response.ok, `${method} /switchover: ${response.status} ${await response.text()}`);
}

/** Schedules a switchover to a replica, in AHEAD_MS from now. */
async function schedule(site: Site, leader: string, candidate: string): Promise<number> {
  const { cluster } = site;
  const due = Date.now() + AHEAD_MS;
  const scheduled_at = new Date(due).toISOString().replace("Z", "+00:00");
  await request(site, "POST", { leader, candidate, scheduled_at });
  const key = await cluster.etcd.get(`${cluster.prefix}failover`);
  check(key?.value.includes("scheduled_at") === true, () => `the failover key says ${key?.value}`);
  return due;
}

const scheduled: Scenario = {
  name: "a scheduled switchover drains when due, not when announced",
  setup: plain,
  async run(site, traffic) {
    const { cluster } = site;
    const leader = await cluster.requireLeader();
    const [candidate = ""] = await cluster.replicas();
    const announced = now();
    const due = await schedule(site, leader, candidate);
    await traffic.writer.nextAcknowledged();
    await traffic.watch.until(`${candidate} writable`, (each) => each.leader.member === candidate && each.writable);
    await site.settle(traffic);
    const sights = traffic.watch.sights.filter(({ at: seen }) => seen >= announced);
    const draining = sights.find(({ cluster: { leader: shown } }) => shown.state === "draining");
    check(draining !== undefined, "it never drained");
    // The moments come from two clocks: far nearer to when it was due than to when it was announced.
    check((draining?.at ?? 0) > due - AHEAD_MS / 8, "it drained before it was due");
    inOrder("/topology", traffic.watch.leaders(announced), [
      `writable ${leader}`,
      `draining ${leader}`,
      `writable ${candidate}`,
    ]);
    traffic.undisturbed();
    await traffic.nothingWrong();
    return `0 errors; ${traffic.summary()}`;
  },
};

const calledOff: Scenario = {
  name: "a switchover is called off, scheduled and at once",
  setup: plain,
  async run(site, traffic) {
    const { cluster } = site;
    const leader = await cluster.requireLeader();
    const [candidate = ""] = await cluster.replicas();
    const before = await traffic.watch.now();
    await schedule(site, leader, candidate);
    await traffic.writer.nextAcknowledged();
    await request(site, "DELETE");
    const announced = now();
    await sleep(AHEAD_MS + 2000);
    await traffic.writer.nextAcknowledged();
    equal("/topology", traffic.watch.leaders(announced), [`writable ${leader}`]);

    // One that is under way: the leader's Patroni cannot act on it while it is frozen.
    cluster.freezePatroni(leader);
    try {
      const asked = now();
      await cluster.etcd.put(`${cluster.prefix}failover`, JSON.stringify({ leader, member: candidate }));
      await traffic.watch.until(`${leader} draining`, (each) => each.leader.state === "draining");
      await cluster.etcd.put(`${cluster.prefix}failover`, "{}");
      await traffic.watch.until(`${leader} writable`, (each) => each.leader.state === "writable");
      await traffic.writer.nextAcknowledged();
      inOrder("/topology", traffic.watch.leaders(asked), [
        `writable ${leader}`,
        `draining ${leader}`,
        `writable ${leader}`,
      ]);
    } finally {
      cluster.thawPatroni(leader);
    }
    await site.settle(traffic);
    equal("epoch", (await traffic.watch.now()).leader.epoch, before.leader.epoch);
    traffic.undisturbed();
    await traffic.nothingWrong();
    return `went on as if nothing was; ${traffic.summary()}`;
  },
};

export const announcedScenarios: readonly Scenario[] = [scheduled, calledOff];
