// The metrics in Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/): the rows of the table, read
// from one snapshot a scrape, and prom-client's own about the process (memory, processor time, event loop lag).

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Incident } from "./incident.ts";
import type { HistogramRow, MetricRow } from "./metric-row.ts";
import type { Snapshot } from "./snapshot.ts";
import { metricTable } from "./table.ts";

/** What a scrape is answered with. */
export interface Exposition {
  readonly contentType: string;
  readonly text: string;
}

export class Metrics {
  readonly #registry = new Registry();
  readonly #histograms: ((incident: Incident) => void)[] = [];
  readonly #take: () => Snapshot;
  #snapshot: Snapshot;

  constructor(take: () => Snapshot) {
    this.#take = take;
    this.#snapshot = take();
    collectDefaultMetrics({ register: this.#registry });
    for (const row of metricTable) this.#register(row);
  }

  /** Takes a snapshot and writes it down. */
  async scrape(): Promise<Exposition> {
    this.#snapshot = this.#take();
    return { contentType: this.#registry.contentType, text: await this.#registry.metrics() };
  }

  /** Counts a change of leader that is over. */
  observe(incident: Incident): void {
    for (const observe of this.#histograms) observe(incident);
  }

  #registerHistogram({ name, help, labels, buckets, observe }: HistogramRow): void {
    const histogram = new Histogram({
      name,
      help,
      labelNames: [...labels],
      buckets: [...buckets],
      registers: [this.#registry],
    });
    this.#histograms.push((incident) => {
      for (const [sample, value] of observe(incident)) histogram.observe({ ...sample }, value);
    });
  }

  #register(row: MetricRow): void {
    if (row.kind === "histogram") return this.#registerHistogram(row);
    const { name, kind, help, labels, read } = row;
    const collect = (add: (labels: Record<string, string>, value: number) => void) => {
      for (const [sample, value] of read(this.#snapshot)) add({ ...sample }, value);
    };
    const options = { name, help, labelNames: [...labels], registers: [this.#registry] };
    // The numbers are counted elsewhere: a scrape starts from nothing, so that what is gone is shown no more.
    if (kind === "gauge") {
      const gauge = new Gauge({
        ...options,
        collect: () => {
          gauge.reset();
          collect((sample, value) => gauge.set(sample, value));
        },
      });
    } else {
      const counter = new Counter({
        ...options,
        collect: () => {
          counter.reset();
          collect((sample, value) => counter.inc(sample, value));
        },
      });
    }
  }
}
