// Which cluster a command is about, from the configuration file that its routers run with: named, or the only one; and it must be one
// whose source is etcd, for that is where routers and commands meet.

import type { ClusterConfig, EtcdConfig, PatroniConfig } from "../config/config.ts";
import { keyPrefix } from "../discovery/options.ts";
import { configFromFile, printProblems } from "./configuration.ts";
import { EXIT } from "./exit-codes.ts";

/** What a command needs of the configuration. */
export interface ChosenCluster {
  readonly name: string;
  readonly etcd: EtcdConfig;
  readonly patroni: PatroniConfig;
  /** As `/service/main/`. */
  readonly patroniPrefix: string;
  readonly queryWaitTimeoutMs: number;
}

/** The cluster; or, said why, the exit code. */
export function chooseCluster(file: string, name: string | null): ChosenCluster | number {
  const loaded = configFromFile(file);
  if (!loaded.ok) {
    printProblems(file, loaded.problems);
    return EXIT.configuration;
  }
  const { clusters, pool } = loaded.config;
  const names = [...clusters.keys()].join(", ");
  const cluster: ClusterConfig | undefined =
    name === null ? (clusters.size === 1 ? [...clusters.values()][0] : undefined) : clusters.get(name);
  if (cluster === undefined) {
    const problem = name === null ? `has several clusters` : `has no cluster "${name}"`;
    console.error(`${file}: ${problem}: name one of ${names} with --cluster`);
    return EXIT.usage;
  }
  const { source } = cluster;
  if (source.kind !== "etcd") {
    console.error(`cluster ${cluster.name}: its source is ${source.kind}, and this command needs etcd`);
    console.error("    remedy: routers find each other in etcd only; use source: etcd where Patroni does");
    return EXIT.configuration;
  }
  return {
    name: cluster.name,
    etcd: source.etcd,
    patroni: source.patroni,
    patroniPrefix: keyPrefix(cluster.namespace, cluster.scope),
    queryWaitTimeoutMs: pool.queryWaitTimeoutMs,
  };
}
