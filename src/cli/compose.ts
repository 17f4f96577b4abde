// The composition root: from a validated configuration to the parts that make up a running pgsteer, general to specific.

import { randomBytes } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { eventLine } from "../admin/events-document.ts";
import type { HttpAccessOptions } from "../admin/http-access.ts";
import { clientTlsContext } from "../auth/client-tls.ts";
import { ScramDerivations } from "../auth/scram.ts";
import { type ServerTls, serverTls } from "../auth/tls-options.ts";
import type { ClusterConfig, Config, SourceConfig } from "../config/config.ts";
import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import type { TopologyFeed } from "../discovery/feed.ts";
import { type ClusterObserver, type DiscoveryOptions, observeCluster } from "../discovery/observer.ts";
import { keyPrefix } from "../discovery/options.ts";
import type { Paper } from "../discovery/recorder.ts";
import { Incidents } from "../metrics/incidents.ts";
import { Coordinator, type RouterIdentity } from "../proxy/coordinator.ts";
import { DataPlane, type DataPlaneOptions } from "../proxy/data-plane.ts";
import { PoolProber, type ProberOptions } from "../proxy/prober.ts";
import type { Witness } from "../proxy/witness.ts";
import { accessRules } from "./access-rules.ts";

/** What watches the clusters. */
export interface Observers {
  /** By cluster. */
  readonly observers: ReadonlyMap<string, ClusterObserver>;
  /** Probes log in as the new settings of their clusters say, those that have changed. */
  reconfigure(config: Config): void;
  close(): Promise<void>;
}

/** A running pgsteer's parts. */
export interface Router extends Omit<Observers, "reconfigure"> {
  readonly dataPlane: DataPlane;
  readonly incidents: Incidents;
  /** By cluster; where etcd is the source. */
  readonly coordinators: ReadonlyMap<string, Coordinator>;
  /** Begins to watch. */
  start(): void;
  /** Takes new settings, as far as they can change. Rejects with Node's error when a listener cannot be opened. */
  reload(config: Config): Promise<void>;
}

/** Where a cluster's transcript goes, if anywhere. */
export type Papers = (cluster: string) => Paper | null;

/** One observer per cluster, not yet started. */
export function composeObservers(clock: Clock, logger: Logger, config: Config, papers: Papers = () => null): Observers {
  const derivations = new ScramDerivations();
  const observers = new Map<string, ClusterObserver>();
  const probers = new Map<string, { prober: PoolProber; cluster: ClusterConfig }>();
  for (const cluster of config.clusters.values()) {
    const prober = new PoolProber(clock, proberOptions(cluster, derivations));
    probers.set(cluster.name, { prober, cluster });
    const paper = papers(cluster.name);
    const options = { ...discoveryOptions(cluster), ...(paper === null ? {} : { paper }) };
    observers.set(cluster.name, observeCluster(clock, logger, prober, options));
  }
  const reconfigure = (next: Config): void => {
    for (const [name, known] of probers) {
      const cluster = next.clusters.get(name);
      if (cluster === undefined || isDeepStrictEqual(loginOf(cluster), loginOf(known.cluster))) continue;
      known.cluster = cluster;
      known.prober.reconfigure(proberOptions(cluster, derivations));
    }
  };
  const close = async (): Promise<void> => {
    for (const observer of observers.values()) await observer.close();
    for (const { prober } of probers.values()) prober.close();
  };
  return { observers, reconfigure, close };
}

/** What of a cluster's settings matters to how its probes log in. */
const loginOf = ({ probe: { user, database, secret }, serverTls: tls }: ClusterConfig) => ({
  user,
  database,
  secret,
  tls,
});

function proberOptions(cluster: ClusterConfig, derivations: ScramDerivations): ProberOptions {
  const { tls, ...login } = loginOf(cluster);
  return { ...login, tls: serverTls(tls), random: randomBytes, derivations };
}

/** Builds everything; opens and connects nothing yet. */
export function composeRouter(
  clock: Clock,
  logger: Logger,
  config: Config,
  identity: RouterIdentity,
  papers?: Papers,
): Router {
  const { observers, reconfigure, close } = composeObservers(clock, logger, config, papers);
  const coordinators = composeCoordinators(clock, logger, config, observers, identity);
  const incidents = new Incidents(clock, observers.keys());
  incidents.subscribe((incident) => {
    const { fields, message } = eventLine(incident);
    logger.info(fields, message);
  });
  const feeds = new Map<string, TopologyFeed>();
  for (const [name, observer] of observers) feeds.set(name, incidents.watch(name, coordinators.get(name) ?? observer));
  const witnesses = (cluster: string): Witness => incidents.witness(cluster);
  const dataPlane = new DataPlane(clock, logger, feeds, dataPlaneOptions(config), witnesses);
  const start = (): void => {
    for (const [cluster, coordinator] of coordinators) {
      const steering = dataPlane.steerings.get(cluster);
      if (steering !== undefined) coordinator.start({ steering, clients: () => dataPlane.clients });
    }
    for (const observer of observers.values()) observer.start();
  };
  return {
    dataPlane,
    incidents,
    observers,
    coordinators,
    start,
    reload: async (next) => {
      await dataPlane.reload(dataPlaneOptions(next));
      reconfigure(next);
    },
    close: async () => {
      dataPlane.close();
      await Promise.all([...coordinators.values()].map((coordinator) => coordinator.close()));
      await close();
    },
  };
}

function composeCoordinators(
  clock: Clock,
  logger: Logger,
  config: Config,
  observers: Observers["observers"],
  router: RouterIdentity,
): ReadonlyMap<string, Coordinator> {
  const coordinators = new Map<string, Coordinator>();
  for (const { name, source, namespace, scope } of config.clusters.values()) {
    const observer = observers.get(name);
    if (source.kind !== "etcd" || observer === undefined) continue;
    const options = { etcd: source.etcd, patroniPrefix: keyPrefix(namespace, scope), router };
    coordinators.set(name, new Coordinator(clock, logger.child({ cluster: name }), observer, options));
  }
  return coordinators;
}

/** The data plane's part of the configuration. */
export function dataPlaneOptions(config: Config): DataPlaneOptions {
  const tls = new Map<string, ServerTls>();
  for (const cluster of config.clusters.values()) tls.set(cluster.name, serverTls(cluster.serverTls));
  const { pool, auth, databases, users } = config;
  const poolOptions = { ...pool, poolSize: pool.defaultPoolSize, serverResetQuery: pool.serverResetQuery ?? "" };
  return {
    listeners: config.listeners.map((listener) => ({
      ...listener,
      reads:
        listener.route === "write"
          ? { lagBytesMax: 0, fallback: "none" }
          : { lagBytesMax: listener.lagBytesMax, fallback: listener.fallback },
    })),
    serverTls: tls,
    identification: {
      rules: accessRules(auth),
      users: auth.users,
      authQuery: config.authQuery,
      clientTls: clientTlsContext(config.clientTls),
    },
    directory: { pool: poolOptions, limits: pool, databases, users },
    maxClientConn: pool.maxClientConn,
    door: config.limits,
    queryWaitTimeoutMs: pool.queryWaitTimeoutMs,
    clientLoginTimeoutMs: pool.clientLoginTimeoutMs,
    clientTimeouts: pool,
    cancelWaitTimeoutMs: pool.cancelWaitTimeoutMs,
    maxPreparedStatements: pool.maxPreparedStatements,
    ignoreStartupParameters: pool.ignoreStartupParameters,
    applicationNameAddHost: pool.applicationNameAddHost,
  };
}

/** Who may do what over HTTP, as the configuration says. */
export function httpAccessOptions({ http, auth, limits }: Config): HttpAccessOptions {
  const { users, adminUsers, statsUsers } = auth;
  return { token: http?.token ?? null, adminUsers, statsUsers, users, failures: limits };
}

function discoveryOptions(cluster: ClusterConfig): DiscoveryOptions {
  const { source, probe } = cluster;
  return {
    cluster: cluster.name,
    source: sourceOptions(source, cluster),
    ...(source.kind === "static" ? {} : { rest: { credentials: source.patroni.credentials, tls: source.patroni.tls } }),
    probeIntervalMs: probe.intervalMs,
    probeTimeoutMs: probe.timeoutMs,
  };
}

function sourceOptions(source: SourceConfig, cluster: ClusterConfig): DiscoveryOptions["source"] {
  switch (source.kind) {
    case "etcd":
      return { ...source.etcd, kind: "etcd", namespace: cluster.namespace, scope: cluster.scope };
    case "patroni":
      return { kind: "patroni", urls: source.patroni.urls };
    case "static":
      return { kind: "static", hosts: source.hosts };
  }
}
