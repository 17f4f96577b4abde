// Says again and again, loudly, that a source does not answer: discovery's own line at the loss of it is soon out of sight, and at a
// start without it there has been none.

import type { Clock, Timer } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { type Millis, millis } from "../core/units.ts";
import type { TopologyFeed } from "../discovery/feed.ts";

const LOOK_EVERY_MS = 1_000;
/** A source may take so long to answer at the start, or to come back. */
const PATIENCE_MS = 3_000;
const REMIND_EVERY_MS = 30_000;

/** Looks after the sources of all clusters until it is cancelled. */
export function remindOfLostSources(clock: Clock, logger: Logger, feeds: ReadonlyMap<string, TopologyFeed>): Timer {
  const lost = new Map<string, { readonly since: Millis; remindAt: number }>();
  return clock.every(millis(LOOK_EVERY_MS), () => {
    const now = clock.now();
    for (const [cluster, feed] of feeds) {
      const { source, leader } = feed.current();
      if (source.connected) {
        lost.delete(cluster);
        continue;
      }
      const loss = lost.get(cluster) ?? { since: now, remindAt: now + PATIENCE_MS };
      lost.set(cluster, loss);
      if (now < loss.remindAt) continue;
      loss.remindAt = now + REMIND_EVERY_MS;
      const seconds = Math.round((now - loss.since) / 1000);
      const effect =
        leader.kind === "writable"
          ? "the last known leader is served while it confirms itself"
          : "clients that need a leader wait";
      const fields = { cluster, source: source.kind, seconds, reason: source.reason };
      logger.error(fields, `${source.kind} does not answer: ${effect}`);
    }
  });
}
