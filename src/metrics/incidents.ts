// The records of all clusters: those that go on, the last that are over, and sums over all there ever were.

import { assert } from "../core/assert.ts";
import type { Clock } from "../core/clock.ts";
import { INCIDENTS_KEPT_MAX } from "../core/limits.ts";
import type { TopologyFeed } from "../discovery/feed.ts";
import { noWitness, type Witness } from "../proxy/witness.ts";
import { awayMs, errorCount, type GivenError, type Incident, type IncidentKind, kindOf } from "./incident.ts";
import { IncidentRecorder } from "./incident-recorder.ts";

/** Below it a leader in doubt who comes back, without an error for anybody, is nothing to remember when room is scarce. */
const BRIEF_MS = 1_000;

/** Sums of one cluster since the start; what goes on is counted too, but for `kinds`. */
export interface IncidentTotals {
  readonly kinds: ReadonlyMap<IncidentKind, number>;
  readonly going: boolean;
  readonly held: number;
  readonly served: number;
  readonly reruns: number;
  readonly errors: ReadonlyMap<GivenError, number>;
  /** Of the one that goes on, or else of the last; null when there has been none. */
  readonly longestWaitMs: number | null;
}

/** A record with what changes by itself while it goes on. */
export interface ShownIncident {
  readonly incident: Incident;
  readonly going: boolean;
  readonly longestWaitMs: number;
}

interface Sums {
  readonly kinds: Map<IncidentKind, number>;
  readonly errors: Map<GivenError, number>;
  held: number;
  served: number;
  reruns: number;
  longestWaitMs: number | null;
}

interface Watched {
  readonly recorder: IncidentRecorder;
  readonly sums: Sums;
}

export class Incidents {
  readonly #clusters = new Map<string, Watched>();
  /** Those that are over, oldest first. */
  readonly #kept: Incident[] = [];
  readonly #listeners: ((incident: Incident) => void)[] = [];
  #lastId = 0;

  constructor(clock: Clock, clusters: Iterable<string>) {
    for (const cluster of clusters) {
      const sums: Sums = { kinds: new Map(), errors: new Map(), held: 0, served: 0, reruns: 0, longestWaitMs: null };
      const sink = {
        nextId: () => {
          this.#lastId += 1;
          return this.#lastId;
        },
        finished: (incident: Incident) => this.#keep(sums, incident),
      };
      this.#clusters.set(cluster, { recorder: new IncidentRecorder(clock, cluster, sink), sums });
    }
  }

  /** `listener` hears of each that is over. */
  subscribe(listener: (incident: Incident) => void): void {
    this.#listeners.push(listener);
  }

  /** A cluster's feed, listened to; for the data plane to use in place of the other. */
  watch(cluster: string, feed: TopologyFeed): TopologyFeed {
    return this.#clusters.get(cluster)?.recorder.watch(feed) ?? feed;
  }

  /** Who is to hear what becomes of a cluster's clients. */
  witness(cluster: string): Witness {
    return this.#clusters.get(cluster)?.recorder ?? noWitness;
  }

  /** Newest first, of one cluster or of all. */
  list(cluster: string | null = null): readonly ShownIncident[] {
    const shown: ShownIncident[] = this.#kept.map((incident) => ({
      incident,
      going: false,
      longestWaitMs: incident.held.longestMs,
    }));
    for (const { recorder } of this.#clusters.values()) {
      const { current } = recorder;
      if (current !== null) shown.push({ incident: current, going: true, longestWaitMs: longestWait(recorder) ?? 0 });
    }
    return shown
      .filter(({ incident }) => cluster === null || incident.cluster === cluster)
      .sort((a, b) => b.incident.id - a.incident.id);
  }

  totals(cluster: string): IncidentTotals {
    const watched = this.#clusters.get(cluster);
    assert(watched !== undefined, `cluster ${cluster} is not watched`);
    const { recorder, sums } = watched;
    const { current } = recorder;
    if (current === null) return { ...sums, going: false };
    const errors = new Map(sums.errors);
    addErrors(errors, current);
    return {
      kinds: sums.kinds,
      going: true,
      held: sums.held + current.held.total,
      served: sums.served + current.held.served,
      reruns: sums.reruns + current.reruns,
      errors,
      longestWaitMs: longestWait(recorder),
    };
  }

  #keep(sums: Sums, incident: Incident): void {
    const kind = kindOf(incident);
    sums.kinds.set(kind, (sums.kinds.get(kind) ?? 0) + 1);
    sums.held += incident.held.total;
    sums.served += incident.held.served;
    sums.reruns += incident.reruns;
    sums.longestWaitMs = incident.held.longestMs;
    addErrors(sums.errors, incident);
    this.#kept.push(incident);
    if (this.#kept.length > INCIDENTS_KEPT_MAX) {
      const slight = this.#kept.findIndex(isSlight);
      this.#kept.splice(Math.max(0, slight), 1);
    }
    for (const listener of this.#listeners) listener(incident);
  }
}

function addErrors(sums: Map<GivenError, number>, { errors }: Incident): void {
  for (const [error, count] of errors) sums.set(error, (sums.get(error) ?? 0) + count);
}

const longestWait = ({ current, waitingMs }: IncidentRecorder): number | null =>
  current === null ? null : Math.max(current.held.longestMs, waitingMs);

/** A leader in doubt for a moment, at nobody's cost. */
const isSlight = (incident: Incident): boolean =>
  kindOf(incident) === "away" && (awayMs(incident) ?? BRIEF_MS) < BRIEF_MS && errorCount(incident) === 0;
