// Scenes in which what pgsteer learns from is lost, lies, or is another kind of source: etcd, addresses, keys of the past.

import { execFile } from "node:child_process";
import { connect, createServer, type Socket } from "node:net";
import { promisify } from "node:util";
import { APPLICATION, type Cluster, PROBE } from "../support/cluster.ts";
import { Etcd } from "../support/etcd.ts";
import type { PgsteerConfiguration } from "../support/pgsteer.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { ProcessGroup, temporaryServerDirectory } from "../support/processes.ts";
import { queryOnce } from "../support/sql.ts";
import { sleep, waitFor } from "../support/time.ts";
import { onCluster, type Scene, startBare } from "./scene.ts";
import { record, type Stage } from "./stage.ts";

const SOON = { timeoutMs: 60_000 } as const;

async function loseEtcd(stage: Stage, cluster: Cluster): Promise<void> {
  await cluster.stopEtcd();
  await stage.until("etcd is lost", ({ source }) => !source.connected);
  await sleep(25_000);
  await cluster.startEtcd();
  await stage.until("etcd is back", ({ source }) => source.connected);
  await stage.writable();
  await stage.readable(2);
}

/** A link to one etcd node that can be cut for a while, or made to swallow everything. */
class Link {
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((down) => this.#join(down));
  #cut = false;
  #swallowing = false;
  #port = 0;

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("the link has no port");
    return `http://127.0.0.1:${address.port}`;
  }

  async open(target: string): Promise<void> {
    this.#port = Number(new URL(target).port);
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
  }

  /** Connections end, and new ones are refused, until `mend`. */
  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** What is open stays open, and carries nothing any more. */
  swallow(): void {
    this.#swallowing = true;
  }

  mend(): void {
    this.#cut = false;
    this.#swallowing = false;
  }

  close(): void {
    this.cut();
    this.#server.close();
  }

  #join(down: Socket): void {
    if (this.#cut) {
      down.destroy();
      return;
    }
    const up = connect(this.#port, "127.0.0.1");
    let dead = false;
    for (const [from, to] of [
      [down, up],
      [up, down],
    ] as const) {
      this.#sockets.add(from);
      from.on("data", (chunk) => {
        dead ||= this.#swallowing;
        if (!dead) to.write(chunk);
      });
      from.on("error", () => {});
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }
}

/** A scene with a link between pgsteer and etcd. */
function onLink(about: string, act: (stage: Stage, cluster: Cluster, link: Link) => Promise<void>): Scene {
  const link = new Link();
  const configure = ({ clusters }: PgsteerConfiguration): void => {
    clusters["demo"] = { ...clusters["demo"], etcd: { endpoints: [link.url] } };
  };
  const scene = onCluster(
    about,
    { members: 2, configure, before: (cluster) => link.open(cluster.etcdEndpoints[0] ?? "") },
    (stage, cluster) => act(stage, cluster, link),
  );
  return { about, play: (patroni4) => scene.play(patroni4).finally(() => link.close()) };
}

/** Throws away all revisions but the last. */
async function compact(cluster: Cluster): Promise<void> {
  const revision = (await cluster.etcd.get(`${cluster.prefix}leader`))?.revision ?? 0n;
  const [endpoint = ""] = cluster.etcdEndpoints;
  const body = JSON.stringify({ revision: String(revision + 5n), physical: true });
  const response = await fetch(`${endpoint}/v3/kv/compaction`, { method: "POST", body });
  if (!response.ok) throw new Error(`compaction: ${await response.text()}`);
}

/** As the cluster's members, without Patroni's word on them. */
const asStatic = (configuration: PgsteerConfiguration, cluster: Cluster): void => {
  const { clusters } = configuration;
  const hosts = cluster.members.map(({ host, port }) => `${host}:${port}`);
  clusters["demo"] = { source: "static", static: { hosts }, probe: clusters["demo"]?.["probe"] };
};

const asRest = (configuration: PgsteerConfiguration, cluster: Cluster): void => {
  const { clusters } = configuration;
  const urls = cluster.members.map(({ apiUrl }) => apiUrl);
  clusters["demo"] = { source: "patroni", patroni: { urls }, probe: clusters["demo"]?.["probe"] };
};

/** The roles that pgsteer and its application log in with. */
async function makeRoles({ login }: Postgres): Promise<void> {
  const roles = `CREATE ROLE ${APPLICATION.user} LOGIN PASSWORD '${APPLICATION.password}'; CREATE ROLE ${PROBE.user} LOGIN PASSWORD '${PROBE.password}' IN ROLE pg_monitor`;
  await queryOnce(login, roles);
  await queryOnce(login, `CREATE DATABASE ${APPLICATION.database} OWNER ${APPLICATION.user}`);
}

/** A PostgreSQL with keys as Patroni writes them, in an etcd that demands a login; then etcd forgets its tokens. */
async function expireToken(): Promise<string> {
  const group = new ProcessGroup(temporaryServerDirectory("token"));
  const postgres = await startPostgres("token-postgres");
  try {
    await makeRoles(postgres);
    const etcd = await Etcd.start(group, 1);
    const prefix = "/service/demo/";
    const { rows } = await queryOnce(postgres.login, "SELECT system_identifier::text AS id FROM pg_control_system()");
    const conn_url = `postgres://127.0.0.1:${postgres.port}/postgres`;
    const member = { conn_url, state: "running", role: "master", version: "3.0.2", timeline: 1 };
    await etcd.put(`${prefix}initialize`, String(rows[0]?.["id"]));
    await etcd.put(`${prefix}members/node1`, JSON.stringify(member));
    await etcd.put(`${prefix}leader`, "node1");
    const env = { ...process.env, ETCDCTL_API: "3" };
    const endpoints = ["--endpoints", etcd.endpoints[0] ?? ""];
    const ctl = (...words: readonly string[]) => promisify(execFile)("etcdctl", [...endpoints, ...words], { env });
    await ctl("role", "add", "reader");
    await ctl("role", "grant-permission", "reader", "--prefix=true", "read", prefix);
    await ctl("user", "add", "root:etcd-root-secret");
    await ctl("user", "grant-role", "root", "root");
    await ctl("user", "add", "pgsteer:etcd-secret");
    await ctl("user", "grant-role", "pgsteer", "reader");
    await ctl("auth", "enable");
    const configure = ({ clusters }: PgsteerConfiguration): void => {
      const access = { endpoints: [...etcd.endpoints], user: "pgsteer", password: "etcd-secret" };
      clusters["demo"] = { ...clusters["demo"], etcd: access };
    };
    const surroundings = { directory: group.directory, processes: group, scope: "demo", namespace: "/service" };
    return await record({ ...surroundings, etcdEndpoints: etcd.endpoints }, { configure }, async (stage) => {
      await stage.writable("node1");
      await etcd.kill();
      await stage.until("etcd is lost", ({ source }) => !source.connected);
      await etcd.launch();
      await stage.until("it is logged in again", ({ source }) => source.connected);
      const put = () => ctl("--user", "root:etcd-root-secret", "put", `${prefix}config`, '{"pause":true}');
      await waitFor(put, { ...SOON, what: "etcd takes a write" });
      await stage.until("it hears what etcd says", ({ paused }) => paused);
    });
  } finally {
    await group.close();
    await postgres.remove();
  }
}

/** A cluster that replicates from another one. */
async function standbyCluster(): Promise<string> {
  const primary = await startBare(1, {});
  let standby: Cluster | null = null;
  try {
    const [source] = primary.members;
    if (source === undefined) throw new Error("there is no primary");
    const leads = () =>
      primary.sql(source.name, `CREATE ROLE ${PROBE.user} LOGIN PASSWORD '${PROBE.password}' IN ROLE pg_monitor`);
    await waitFor(leads, { ...SOON, what: "the primary cluster takes writes" });
    const { host, port } = source;
    const standby_cluster = { host, port, create_replica_methods: ["basebackup"] };
    standby = await startBare(2, { dcs: { standby_cluster } });
    return await record(standby, { writes: false }, async (stage) => {
      await stage.until("the standby leader is known", ({ leader }) => leader.state === "standby");
      await stage.readable(2);
      await sleep(2000);
    });
  } finally {
    await standby?.remove();
    await primary.remove();
  }
}

/** Another cluster's PostgreSQL answers where the leader was. */
async function takeAddress(stage: Stage, cluster: Cluster): Promise<void> {
  const [member] = cluster.members;
  if (member === undefined) throw new Error("there is no member");
  const stranger = await startPostgres("stranger");
  try {
    await makeRoles(stranger);
    await stranger.stop();
    await cluster.killNode(member.name);
    await stranger.start(member.port);
    await stage.until("the stranger is found out", ({ leader }) => leader.reason.includes("system identifier"));
    await stage.until("the key is gone", ({ leader }) => leader.state === "none");
  } finally {
    await stranger.remove();
  }
}

export const losses: Readonly<Record<string, Scene>> = {
  "etcd-lost": onCluster(
    "All of etcd is lost for half a minute, without failsafe mode: the leader goes on until Patroni demotes it.",
    { members: 2 },
    loseEtcd,
  ),
  "etcd-lost-failsafe": onCluster(
    "All of etcd is lost for half a minute, with failsafe mode: the leader goes on all the time.",
    { members: 2, patroni: { dcs: { failsafe_mode: true } } },
    loseEtcd,
  ),
  "etcd-endpoint-lost": onCluster(
    "One of three etcd nodes, the one that is watched, is lost and comes back.",
    { members: 2, etcdNodes: 3 },
    async (stage, cluster) => {
      await cluster.stopEtcd(0);
      await sleep(8000);
      await stage.until("etcd is watched", ({ source }) => source.connected);
      await cluster.startEtcd(0);
      await sleep(2000);
    },
  ),
  "etcd-compacted": onLink(
    "pgsteer is cut off from etcd, where meanwhile a replica's keys change and are compacted away.",
    async (stage, cluster, link) => {
      link.cut();
      await stage.until("etcd is lost", ({ source }) => !source.connected);
      const [replica = ""] = await cluster.replicas();
      await cluster.stopMember(replica);
      await cluster.startMember(replica);
      await sleep(4000);
      await compact(cluster);
      link.mend();
      await stage.until("etcd is watched", ({ source }) => source.connected);
      await stage.readable(2);
    },
  ),
  "watch-silent": onLink(
    "The connection to etcd carries nothing any more, without being closed.",
    async (stage, _cluster, link) => {
      link.swallow();
      await stage.until("etcd is lost", ({ source }) => !source.connected);
      await sleep(3000);
      link.mend();
      await stage.until("etcd is watched", ({ source }) => source.connected);
    },
  ),
  "etcd-token-expired": {
    about: "etcd demands a login and forgets its tokens in a restart (keys by hand, as Patroni 3.0.2 writes them).",
    play: () => expireToken(),
  },
  "standby-cluster": {
    about: "The leader of a standby cluster takes no writes by design; its members serve reads.",
    play: () => standbyCluster(),
  },
  "static-two-writable": onCluster(
    "A static list: the leader's Patroni is frozen, so two take writes; that on the newer timeline is served, and stays so.",
    { members: 2, configure: asStatic },
    async (stage, cluster) => {
      const deposed = await cluster.requireLeader();
      cluster.freezePatroni(deposed);
      await stage.until("another is served", (seen) => seen.writable && seen.leader.epoch === 2);
      await sleep(4000);
      cluster.thawPatroni(deposed);
      await stage.readable(2);
    },
  ),
  "switchover-by-rest": onCluster(
    "A switchover seen through Patroni's REST API alone.",
    { configure: asRest },
    async (stage, cluster) => {
      const [to = ""] = await cluster.replicas();
      await cluster.switchover(to);
      await stage.writable(to);
      await stage.readable(3);
    },
  ),
  "foreign-member": onCluster(
    "The leader's machine goes away, and a server of another cluster answers at its address while its key still stands.",
    { members: 1 },
    takeAddress,
  ),
  "key-put-back": onCluster(
    "A deposed leader, whose PostgreSQL still takes writes, puts its keys back as a thawed Patroni up to 3.0.2 does (by hand).",
    {},
    async (stage, cluster) => {
      const deposed = await cluster.requireLeader();
      const memberKey = `${cluster.prefix}members/${deposed}`;
      const member = (await cluster.etcd.get(memberKey))?.value ?? "";
      cluster.freezePatroni(deposed);
      await stage.until("another leads", ({ writable, leader }) => writable && leader.member !== deposed);
      await cluster.etcd.put(memberKey, member);
      await cluster.etcd.put(`${cluster.prefix}leader`, deposed);
      await stage.until("it is refused", ({ leader }) => leader.reason.includes("has been written already"));
      await sleep(3000);
    },
  ),
};
