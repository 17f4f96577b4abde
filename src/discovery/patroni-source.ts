// A source without any DCS of ours: polls `/cluster` of one member at a time, stays with the one that answers, and turns to the next
// (configured or learnt from an answer) when it does not. Works with every DCS that Patroni supports; slower than a watch.

import type { Clock, Timer } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { type Millis, millis } from "../core/units.ts";
import type { ClusterClaim } from "./claim.ts";
import type { PatroniRest } from "./patroni-rest.ts";
import type { ClaimSink, ClaimSource } from "./source.ts";

export interface PatroniSourceOptions {
  /** Bases of members' REST APIs to begin with: `http://10.0.0.1:8008`. */
  readonly urls: readonly string[];
  /** Default 1000. */
  readonly pollIntervalMs?: number;
  /** Pause between polls while the leader is away. Default 100. */
  readonly hurriedIntervalMs?: number;
}

const DEFAULT_POLL_INTERVAL_MS = 1000;
const DEFAULT_HURRIED_INTERVAL_MS = 100;

export class PatroniSource implements ClaimSource {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #rest: PatroniRest;
  readonly #options: PatroniSourceOptions;
  readonly #sink: ClaimSink;
  #claim: ClusterClaim | null = null;
  #confirmedAt: Millis;
  #connected = false;
  /** Bases to ask, the one that answered last first. */
  #bases: readonly string[];
  #timer: Timer | null = null;
  #polling = false;
  #hurry = false;
  #running = false;

  constructor(clock: Clock, logger: Logger, rest: PatroniRest, options: PatroniSourceOptions, sink: ClaimSink) {
    this.#clock = clock;
    this.#logger = logger;
    this.#rest = rest;
    this.#options = options;
    this.#sink = sink;
    this.#bases = options.urls.map((url) => url.replace(/\/+$/, ""));
    this.#confirmedAt = clock.now();
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#pollNow();
  }

  setHurry(hurry: boolean): void {
    const begins = hurry && !this.#hurry;
    this.#hurry = hurry;
    if (begins && this.#running && !this.#polling) this.#pollNow();
  }

  close(): void {
    this.#running = false;
    this.#timer?.cancel();
    this.#timer = null;
  }

  #pollNow(): void {
    this.#timer?.cancel();
    this.#polling = true;
    // Neither part rejects: failure is an answer, and a sink that throws is a bug that ends the process.
    void this.#poll().finally(() => {
      this.#polling = false;
      if (!this.#running) return;
      const { pollIntervalMs = DEFAULT_POLL_INTERVAL_MS, hurriedIntervalMs = DEFAULT_HURRIED_INTERVAL_MS } =
        this.#options;
      const pause = millis(this.#hurry ? hurriedIntervalMs : pollIntervalMs);
      this.#timer = this.#clock.after(pause, () => this.#pollNow());
    });
  }

  async #poll(): Promise<void> {
    const reasons: string[] = [];
    for (const base of this.#bases) {
      const answer = await this.#rest.cluster(base);
      if (!this.#running) return;
      if (answer.ok && answer.value.members.size > 0) {
        this.#answered(base, answer.value);
        return;
      }
      reasons.push(`${base}: ${answer.ok ? "knows no members" : answer.reason}`);
    }
    if (reasons.length > 0) this.#silent(reasons);
  }

  #answered(base: string, claim: ClusterClaim): void {
    if (!this.#connected) this.#logger.info({ url: base }, "patroni answers");
    const known = new Set([base]);
    for (const { apiUrl } of claim.members.values()) if (apiUrl !== null) known.add(apiUrl);
    // What is configured stays, behind what the cluster itself says.
    for (const url of this.#options.urls) known.add(url.replace(/\/+$/, ""));
    this.#bases = [...known];
    this.#claim = claim;
    this.#connected = true;
    this.#confirmedAt = this.#clock.now();
    this.#sink(claim, { kind: "patroni", connected: true, confirmedAt: this.#confirmedAt, reason: "" });
  }

  #silent(reasons: readonly string[]): void {
    const reason = `no member's REST API answers (${reasons.join("; ")})`;
    if (this.#connected) this.#logger.warn({ reason }, "lost patroni");
    this.#connected = false;
    this.#sink(this.#claim, { kind: "patroni", connected: false, confirmedAt: this.#confirmedAt, reason });
  }
}
