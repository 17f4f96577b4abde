// A reload: which of the new settings a running pgsteer can take, and which need a restart.

import { isDeepStrictEqual } from "node:util";
import type { ClusterConfig, Config } from "../config/config.ts";

/** What a reload comes to. */
export type Reload =
  | {
      readonly ok: true;
      /** The new settings, with the old ones where they cannot change. */
      readonly config: Config;
      /** Settings that were changed in the file and stay as they were. */
      readonly kept: readonly string[];
    }
  /** Not even a part of it can be taken. */
  | { readonly ok: false; readonly reasons: readonly string[] };

/** What of a cluster cannot change, by its place in the file. How servers are logged in to can. */
function fixedSettings({ source, scope, namespace, probe }: ClusterConfig): ReadonlyMap<string, unknown> {
  return new Map<string, unknown>([
    ["source, etcd, patroni or static", source],
    ["scope", scope],
    ["namespace", namespace],
    ["probe.interval or timeout", [probe.intervalMs, probe.timeoutMs]],
  ]);
}

function changedClusters(current: Config, next: Config): string[] {
  const changed: string[] = [];
  for (const name of new Set([...current.clusters.keys(), ...next.clusters.keys()])) {
    const [old, now] = [current.clusters.get(name), next.clusters.get(name)];
    if (old === undefined) changed.push(`clusters.${name} (new)`);
    else if (now === undefined) changed.push(`clusters.${name} (removed)`);
    else {
      const settings = fixedSettings(now);
      for (const [place, value] of fixedSettings(old)) {
        if (!isDeepStrictEqual(value, settings.get(place))) changed.push(`clusters.${name}: ${place}`);
      }
    }
  }
  return changed;
}

/** The running clusters, logged in to as the file says now. */
function mergedClusters(current: Config, next: Config): ReadonlyMap<string, ClusterConfig> {
  const merge = (old: ClusterConfig): ClusterConfig => {
    const now = next.clusters.get(old.name);
    if (now === undefined) return old;
    const { intervalMs, timeoutMs } = old.probe;
    return { ...old, serverTls: now.serverTls, probe: { ...now.probe, intervalMs, timeoutMs } };
  };
  return new Map([...current.clusters].map(([name, old]) => [name, merge(old)]));
}

/** Compares the running configuration with the one in the file. */
export function planReload(current: Config, next: Config): Reload {
  const reasons = next.listeners
    .filter(({ cluster }) => !current.clusters.has(cluster))
    .map(({ name, cluster }) => `listener "${name}" leads to cluster "${cluster}", which needs a restart`);
  if (reasons.length > 0) return { ok: false, reasons };
  const kept = changedClusters(current, next);
  const sameHttp = isDeepStrictEqual(whereOf(current.http), whereOf(next.http));
  if (!sameHttp) kept.push("http");
  if (!isDeepStrictEqual(current.log, next.log)) kept.push("log");
  const { log } = current;
  return {
    ok: true,
    config: { ...next, clusters: mergedClusters(current, next), http: sameHttp ? next.http : current.http, log },
    kept,
  };
}

/** What of the section http needs another socket; its certificates, its token and its users can change. */
const whereOf = (http: Config["http"]) => http && { address: http.address, port: http.port, tls: http.tls !== null };

/** Top-level sections in which two configurations differ, as the file calls them. */
export function changedSections(current: Config, next: Config): string[] {
  const names: Readonly<Record<keyof Config, string>> = {
    clusters: "clusters",
    listeners: "listeners",
    auth: "auth",
    authQuery: "auth",
    clientTls: "client_tls",
    pool: "pool",
    limits: "limits",
    databases: "databases",
    users: "users",
    http: "http",
    log: "log",
  };
  const keys = Object.keys(names) as (keyof Config)[];
  return [...new Set(keys.filter((key) => !isDeepStrictEqual(current[key], next[key])).map((key) => names[key]))];
}
