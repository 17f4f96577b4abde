// What a transcript is recorded from: a scene, played once on servers of its own.

import { APPLICATION, Cluster, type ClusterOptions, PROBE } from "../support/cluster.ts";
import { Etcd } from "../support/etcd.ts";
import { PatroniMember, type PatroniSettings } from "../support/patroni.ts";
import type { PgsteerConfiguration } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import { ProcessGroup, temporaryServerDirectory } from "../support/processes.ts";
import { waitFor } from "../support/time.ts";
import { record, type Stage, withCluster } from "./stage.ts";

export interface Scene {
  /** A sentence or two: what happens. */
  readonly about: string;
  /** Plays it; the lines that were recorded. `patroni4` is the program of a Patroni 4.x. */
  readonly play: (patroni4: string | null) => Promise<string>;
}

interface SceneOptions extends ClusterOptions {
  /** Played with Patroni 4.x. */
  readonly patroni4?: boolean;
  /** The cluster will never be what the harness calls healthy: some replica does not stream from the leader. */
  readonly unhealthy?: boolean;
  readonly configure?: (configuration: PgsteerConfiguration, cluster: Cluster) => void;
  /** Runs before pgsteer is started. */
  readonly before?: (cluster: Cluster) => Promise<void>;
}

/** A scene on a cluster in front of which pgsteer stands, and is well, when it begins. */
export function onCluster(
  about: string,
  options: SceneOptions,
  act: (stage: Stage, cluster: Cluster) => Promise<void>,
): Scene {
  const { patroni4 = false, unhealthy = false, configure, before, ...rest } = options;
  return {
    about,
    play: (command) => {
      if (patroni4 && command === null) throw new Error("name a Patroni 4.x with --patroni4 FILE");
      const patroni = { ...rest.patroni, ...(patroni4 && command !== null ? { command } : {}) };
      const onStage = async (cluster: Cluster) => {
        await before?.(cluster);
        return record(
          cluster,
          configure === undefined ? {} : { configure: (configuration) => configure(configuration, cluster) },
          async (stage) => {
            await stage.writable();
            if (!unhealthy)
              await stage.until("all is well", ({ members }) => members.every(({ state }) => state !== ""));
            await act(stage, cluster);
          },
        );
      };
      const clusterOptions = { ...rest, patroni };
      return unhealthy ? withBareCluster(clusterOptions, onStage) : withCluster(clusterOptions, onStage);
    },
  };
}

/** As startCluster, but without waiting for replicas to stream from the leader. */
async function withBareCluster<T>(options: ClusterOptions, act: (cluster: Cluster) => Promise<T>): Promise<T> {
  const cluster = await startBare(options.members ?? 3, options.patroni ?? {});
  try {
    const leader = await waitFor(() => cluster.leader(), { timeoutMs: 30_000, what: "there is a leader" });
    const { user, password, database } = APPLICATION;
    const roles = `CREATE ROLE ${user} LOGIN PASSWORD '${password}'; CREATE ROLE ${PROBE.user} LOGIN PASSWORD '${PROBE.password}' IN ROLE pg_monitor`;
    await waitFor(() => cluster.sql(leader, roles), { timeoutMs: 30_000, what: "roles can be made" });
    await cluster.sql(leader, `CREATE DATABASE ${database} OWNER ${user}`);
    const replicas = cluster.members.slice(1).map(({ name }) => name);
    const answers = () => Promise.all(replicas.map((name) => cluster.sql(name, "SELECT 1", [], database)));
    await waitFor(answers, { timeoutMs: 60_000, what: "all replicas answer" });
    return await act(cluster);
  } finally {
    await cluster.remove();
  }
}

/** Members of a cluster, whose health nobody has waited for. */
export async function startBare(members: number, patroni: PatroniSettings): Promise<Cluster> {
  const group = new ProcessGroup(temporaryServerDirectory("cluster"));
  const etcd = await Etcd.start(group, 1);
  const surroundings = { scope: "demo", namespace: "/service", etcdEndpoints: etcd.endpoints, patroni, postgres: {} };
  const all: PatroniMember[] = [];
  for (let index = 1; index <= members; index += 1) {
    const ports = { postgres: await freePort(), api: await freePort() };
    all.push(new PatroniMember(`node${index}`, ports, group, surroundings));
  }
  const cluster = new Cluster(group, etcd, all, surroundings, false);
  for (const [index, member] of all.entries()) {
    await member.start();
    // The first is to lead.
    if (index === 0) await waitFor(() => cluster.leader(), { timeoutMs: 60_000, what: "the first member leads" });
  }
  return cluster;
}
