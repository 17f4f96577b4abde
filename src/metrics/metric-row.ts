// What a metric's row in the table is made of, and the kinds of rows that tables share: a gauge per cluster, a number that may be
// unknown, a truth.

import type { Incident } from "./incident.ts";
import type { ClusterSnapshot, Snapshot } from "./snapshot.ts";

/** One value under its labels. */
export type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

interface Named {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
}

/** Read anew at each scrape. */
export interface SampledRow extends Named {
  readonly kind: "gauge" | "counter";
  readonly read: (snapshot: Snapshot) => readonly Sample[];
}

/** Of changes of leader, each counted when it is over. */
export interface HistogramRow extends Named {
  readonly kind: "histogram";
  /** Upper bounds. */
  readonly buckets: readonly number[];
  readonly observe: (incident: Incident) => readonly Sample[];
}

/** A metric; base units (seconds, bytes), counters end in `_total`. */
export type MetricRow = SampledRow | HistogramRow;

/** Samples of a part of the snapshot. */
export type Reader<Of> = (of: Of) => readonly Sample[];

/** A gauge per cluster; `labels` beyond `cluster`. */
export const ofClusters = (
  name: string,
  help: string,
  labels: readonly string[],
  read: Reader<ClusterSnapshot>,
): SampledRow => ({
  name,
  kind: "gauge",
  help,
  labels: ["cluster", ...labels],
  read: ({ clusters }) =>
    clusters.flatMap((cluster) =>
      read(cluster).map(([more, value]): Sample => [{ cluster: cluster.name, ...more }, value]),
    ),
});

/** Nothing while unknown. */
export const known = (value: number | null): readonly Sample[] => (value === null ? [] : [[{}, value]]);

/** 1 or 0. */
export const truth = (value: boolean): readonly Sample[] => [[{}, value ? 1 : 0]];
