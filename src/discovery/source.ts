// What every source has in common: it claims something about a cluster, says how well it does, and can be hurried.

import type { ClusterClaim } from "./claim.ts";
import type { SourceHealth } from "./topology.ts";

/** Runs synchronously at each change; `claim` is null before the source's first answer. */
export type ClaimSink = (claim: ClusterClaim | null, health: SourceHealth) => void;

export interface ClaimSource {
  start(): void;
  /** While true, a source that polls does so quickly. */
  setHurry(hurry: boolean): void;
  close(): void;
}
