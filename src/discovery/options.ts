// Everything that the configuration has to provide for one cluster, and the source that follows from it.

import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import type { ClusterClaim } from "./claim.ts";
import { EtcdSource, type EtcdSourceOptions } from "./etcd-source.ts";
import { decodeKeys, type KeyEntry } from "./patroni-keys.ts";
import type { PatroniRest, PatroniRestOptions } from "./patroni-rest.ts";
import { PatroniSource, type PatroniSourceOptions } from "./patroni-source.ts";
import type { Paper } from "./recorder.ts";
import type { ClaimSink, ClaimSource } from "./source.ts";
import { type StaticHost, staticSource } from "./static-source.ts";
import type { SourceHealth } from "./topology.ts";

/** Where the truth about a cluster comes from. */
export type SourceOptions =
  | (Omit<EtcdSourceOptions, "prefix"> & {
      readonly kind: "etcd";
      /** Patroni's namespace. Default `/service`. */
      readonly namespace?: string;
      /** Patroni's scope; with Citus, `scope/group`. */
      readonly scope: string;
    })
  | (PatroniSourceOptions & { readonly kind: "patroni" })
  | { readonly kind: "static"; readonly hosts: readonly StaticHost[] };

export interface DiscoveryOptions {
  /** The cluster's name in our configuration. */
  readonly cluster: string;
  readonly source: SourceOptions;
  /** How members' REST APIs are asked. Default: no login, the system's authorities. */
  readonly rest?: PatroniRestOptions;
  /** How often each member is probed. Default 1000. */
  readonly probeIntervalMs?: number;
  /** A probe without an answer for longer has failed. Default 1000. */
  readonly probeTimeoutMs?: number;
  /** Pause between probes of an elected leader for which somebody waits. Default 5. */
  readonly gateIntervalMs?: number;
  /** A switchover that has not happened after so long no longer holds writes back. Default 30000. */
  readonly drainMs?: number;
  /** Where all evidence is written to, with what was believed of it; nowhere by default. */
  readonly paper?: Paper;
}

/** The kind of source, as snapshots show it. */
export function sourceKind(options: DiscoveryOptions): SourceHealth["kind"] {
  return options.source.kind;
}

/** `/service/main/` from Patroni's namespace and scope, however many slashes they came with. */
export function keyPrefix(namespace: string, scope: string): string {
  const parts = [...namespace.split("/"), ...scope.split("/")].filter((part) => part !== "");
  return `/${parts.join("/")}/`;
}

/** Opens the source, not yet started. */
export function openSource(
  clock: Clock,
  logger: Logger,
  rest: PatroniRest,
  options: SourceOptions,
  sink: ClaimSink,
): ClaimSource {
  switch (options.kind) {
    case "etcd":
      return etcdClaims(clock, logger, options, sink);
    case "patroni":
      return new PatroniSource(clock, logger, rest, options, sink);
    case "static":
      return staticSource(clock, options.hosts, sink);
  }
}

function etcdClaims(
  clock: Clock,
  logger: Logger,
  options: Extract<SourceOptions, { kind: "etcd" }>,
  sink: ClaimSink,
): ClaimSource {
  let decodedKeys: ReadonlyMap<string, KeyEntry> | null = null;
  let claim: ClusterClaim | null = null;
  const prefix = keyPrefix(options.namespace ?? "/service", options.scope);
  const source = new EtcdSource(clock, logger, { ...options, prefix }, (state) => {
    if (state.revision > 0n && state.keys !== decodedKeys) {
      decodedKeys = state.keys;
      claim = decodeKeys(state.keys, { now: clock.now(), wall: clock.wall() });
    }
    const { connected, confirmedAt, reason } = state;
    sink(claim, { kind: "etcd", connected, confirmedAt, reason });
  });
  return { start: () => source.start(), setHurry: () => {}, close: () => source.close() };
}
