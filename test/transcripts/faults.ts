// Scenes in which a member, its Patroni or its PostgreSQL is changed or breaks, on real clusters.

import type { Cluster } from "../support/cluster.ts";
import { sleep, waitFor } from "../support/time.ts";
import { onCluster, type Scene } from "./scene.ts";
import type { Stage } from "./stage.ts";

/** Asks a member's Patroni for something; gives its answer's text. */
async function ask(cluster: Cluster, member: string, method: string, path: string, body: object = {}): Promise<string> {
  const response = await fetch(`${cluster.member(member).apiUrl}${path}`, {
    method,
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(60_000),
  });
  const text = await response.text();
  if (response.status >= 300) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text;
}

/** The name of some replica. */
async function aReplica(cluster: Cluster): Promise<string> {
  const [replica] = await cluster.replicas();
  if (replica === undefined) throw new Error("the cluster has no replica");
  return replica;
}

async function switchover(stage: Stage, cluster: Cluster): Promise<void> {
  const to = await aReplica(cluster);
  await cluster.switchover(to);
  await stage.writable(to);
  await stage.readable(3);
}

/** A switchover that is due in `seconds`. */
async function schedule(cluster: Cluster, candidate: string, seconds: number): Promise<void> {
  const leader = await cluster.requireLeader();
  const scheduled_at = new Date(Date.now() + seconds * 1000).toISOString();
  await ask(cluster, leader, "POST", "/switchover", { leader, candidate, scheduled_at });
}

/** Freezes the leader's Patroni until another leads, with PostgreSQL alive; then lets it go on. */
async function freeze(stage: Stage, cluster: Cluster): Promise<void> {
  const deposed = await cluster.requireLeader();
  cluster.freezePatroni(deposed);
  await stage.until("another leads", ({ writable, leader }) => writable && leader.member !== deposed);
  await sleep(3000);
  cluster.thawPatroni(deposed);
  await sleep(8000);
}

export const faults: Readonly<Record<string, Scene>> = {
  "switchover-3.0.2": onCluster("A switchover by Patroni 3.0.2, whose leader's role is master.", {}, switchover),
  "switchover-4.1": onCluster(
    "A switchover by Patroni 4.1, whose leader's role is primary.",
    { patroni4: true },
    switchover,
  ),
  "switchover-scheduled": onCluster(
    "A switchover scheduled for eight seconds later: nothing drains before it is due.",
    {},
    async (stage, cluster) => {
      const to = await aReplica(cluster);
      await schedule(cluster, to, 8);
      await stage.writable(to);
      await stage.readable(3);
    },
  ),
  "switchover-called-off": onCluster(
    "A scheduled switchover, called off before it is due.",
    { members: 2 },
    async (_stage, cluster) => {
      await schedule(cluster, await aReplica(cluster), 6);
      await sleep(3000);
      await ask(cluster, await cluster.requireLeader(), "DELETE", "/switchover");
      await sleep(5000);
    },
  ),
  "switchover-refused": onCluster(
    "A scheduled switchover whose candidate is gone when it is due: Patroni gives it up, and the leader drained for nothing.",
    {},
    async (stage, cluster) => {
      const leader = await cluster.requireLeader();
      const candidate = await aReplica(cluster);
      await schedule(cluster, candidate, 6);
      await sleep(1000);
      await cluster.killNode(candidate);
      await stage.until("draining", ({ leader: { state } }) => state === "draining");
      await stage.writable(leader);
      await sleep(3000);
    },
  ),
  "switchover-slow-promotion": onCluster(
    "The demoted leader comes back as a replica before the new one, whose replay stands still, is promoted.",
    { members: 2 },
    async (stage, cluster) => {
      const old = await cluster.requireLeader();
      const to = await aReplica(cluster);
      cluster.addLag(to);
      const asked = ask(cluster, old, "POST", "/switchover", { leader: old, candidate: to }).catch(String);
      await stage.until("the old one is a replica", ({ leader, members }) => {
        const member = members.find(({ name }) => name === old);
        return leader.member === to && leader.state === "elected" && member?.role === "replica" && member.readable;
      });
      await sleep(2000);
      cluster.removeLag(to);
      await asked;
      await stage.writable(to);
      await stage.readable(2);
    },
  ),
  "postgres-killed": onCluster(
    "The leader's PostgreSQL is killed and repaired in place: etcd says nothing, and Patroni's REST says 200 all the time.",
    { members: 2 },
    async (stage, cluster) => {
      await cluster.killPostgres(await cluster.requireLeader());
      await stage.until("it is missed", ({ writable }) => !writable);
      await stage.writable();
      await stage.readable(2);
    },
  ),
  "node-killed": onCluster("The leader's machine goes away.", {}, async (stage, cluster) => {
    const leader = await cluster.requireLeader();
    await cluster.killNode(leader);
    await stage.until("another leads", (seen) => seen.writable && seen.leader.member !== leader);
    await stage.readable(2);
  }),
  "patroni-stopped": onCluster(
    "The leader's Patroni is stopped (SIGTERM) and takes its PostgreSQL along; its member key stays until the lease ends.",
    {},
    async (stage, cluster) => {
      const leader = await cluster.requireLeader();
      await cluster.stopMember(leader);
      await stage.until("another leads", (seen) => seen.writable && seen.leader.member !== leader);
      await stage.until("it is gone", ({ members }) => members.length === 2);
      await stage.readable(2);
    },
  ),
  "patroni-frozen-3.0.2": onCluster(
    "The leader's Patroni is frozen until another leads, its PostgreSQL still takes writes; thawed, 3.0.2 may put its key back.",
    {},
    freeze,
  ),
  "patroni-frozen-4.1": onCluster(
    "The leader's Patroni is frozen until another leads, its PostgreSQL still takes writes; then it is thawed.",
    { patroni4: true },
    freeze,
  ),
  "leader-restarted": onCluster(
    "The leader's PostgreSQL is restarted through Patroni, without any failover.",
    { members: 2 },
    async (stage, cluster) => {
      const leader = await cluster.requireLeader();
      await ask(cluster, leader, "POST", "/restart");
      await stage.writable(leader);
      await stage.readable(2);
    },
  ),
  paused: onCluster(
    "Automatic failover is paused and the leader's PostgreSQL is killed: its key goes, nobody takes over until it is resumed.",
    { members: 2 },
    async (stage, cluster) => {
      const leader = await cluster.requireLeader();
      await ask(cluster, leader, "PATCH", "/config", { pause: true });
      await stage.until("it is paused", ({ paused }) => paused);
      await sleep(2000);
      await cluster.killPostgres(leader);
      await stage.until("the key is gone", (seen) => seen.leader.state === "none");
      await sleep(3000);
      await ask(cluster, leader, "PATCH", "/config", { pause: null });
      await stage.writable();
      await stage.readable(2);
    },
  ),
  "member-removed": onCluster(
    "A replica is stopped; it is gone when the lease of its key ends.",
    {},
    async (stage, cluster) => {
      await cluster.stopMember(await aReplica(cluster));
      await stage.until("it is gone", ({ members }) => members.length === 2);
    },
  ),
  lagging: onCluster(
    "A replica receives WAL but replays none of it, falls behind by more than 16 MB, and catches up.",
    { members: 2 },
    async (stage, cluster) => {
      const replica = await aReplica(cluster);
      cluster.addLag(replica);
      await cluster.sql(
        await cluster.requireLeader(),
        "CREATE TABLE ballast AS SELECT repeat('x', 1000) AS t FROM generate_series(1, 24000)",
      );
      await stage.until("it lags", ({ members }) => members.some(({ lag_bytes }) => (lag_bytes ?? 0) > 16_777_216));
      await sleep(1500);
      cluster.removeLag(replica);
      await stage.until("it has caught up", ({ members }) => members.every(({ lag_bytes }) => (lag_bytes ?? 0) < 1024));
    },
  ),
  synchronous: onCluster(
    "Synchronous mode: the only replica is killed and comes back, then the leader hands over to it.",
    { members: 2, patroni: { dcs: { synchronous_mode: true } } },
    async (stage, cluster) => {
      const replica = await aReplica(cluster);
      await cluster.killNode(replica);
      await stage.readable(1);
      await sleep(2000);
      await cluster.startMember(replica);
      await stage.readable(2);
      await waitFor(() => cluster.switchover(replica), {
        timeoutMs: 30_000,
        what: "it is a synchronous standby again",
      });
      await stage.writable(replica);
    },
  ),
  "quorum-4.1": onCluster(
    "Patroni 4.1 with synchronous_mode quorum: the leader's machine goes away.",
    { patroni4: true, patroni: { dcs: { synchronous_mode: "quorum" } } },
    async (stage, cluster) => {
      const leader = await cluster.requireLeader();
      await cluster.killNode(leader);
      await stage.until("another leads", (seen) => seen.writable && seen.leader.member !== leader);
      await stage.readable(2);
    },
  ),
  tags: onCluster(
    "Members tagged noloadbalance, nofailover and clonefrom; the leader hands over to the one without nofailover.",
    { patroni: { tags: { node2: { noloadbalance: true, clonefrom: true }, node3: { nofailover: true } } } },
    async (stage, cluster) => {
      await stage.readable(2);
      await cluster.switchover("node2");
      await stage.writable("node2");
      await stage.readable(3);
    },
  ),
  "nostream-4.1": onCluster(
    "Patroni 4.1 with a member tagged nostream, which takes WAL from the archive alone and so never streams.",
    { patroni4: true, patroni: { tags: { node2: { nostream: true } } }, unhealthy: true },
    async (_stage, cluster) => {
      await waitFor(() => cluster.leader(), { timeoutMs: 10_000, what: "there is a leader" });
      await sleep(15_000);
    },
  ),
  cascading: onCluster(
    "A replica that replicates from another one, whose machine goes away: it loses its stream, its reads, and finds the leader's.",
    { patroni: { tags: { node3: { replicatefrom: "node2" } } }, unhealthy: true },
    async (stage, cluster) => {
      await stage.readable(3);
      await cluster.killNode("node2");
      await stage.until(
        "it is out of service",
        ({ members }) => members.filter(({ readable }) => readable).length === 1,
      );
      await stage.until("it streams", ({ members }) =>
        members.some(({ name, streaming }) => name === "node3" && streaming === true),
      );
    },
  ),
};
