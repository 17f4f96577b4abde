// Keeps the record of what goes on with one cluster's leader: hears the topology before the data plane does, hears what its connections
// report in passing, and what becomes of clients; hands each record over when it is over. Idle while nothing is the matter.

import type { Clock, Timer } from "../core/clock.ts";
import { type Millis, millis } from "../core/units.ts";
import type { ConnectionEvidence, TopologyFeed } from "../discovery/feed.ts";
import type { MemberName, Topology } from "../discovery/topology.ts";
import type { Witness } from "../proxy/witness.ts";
import {
  awaitsAnswer,
  beginIncident,
  type GivenError,
  type Happening,
  hasEnded,
  type Incident,
  stepIncident,
} from "./incident.ts";
import { beginningOf, type Report, speaksAgainst } from "./incident-cause.ts";

/** After the end the first answer, and a late error, are waited for so long. */
const SETTLE_MS = 1_000;

/** Errors that clients are given because their leader is away. Others have nothing to do with it, whenever they come. */
const causedByAbsence: ReadonlySet<GivenError> = new Set([
  "leader_changed",
  "read_interrupted",
  "outcome_unknown",
  "terminated",
  "query_wait_timeout",
  "wait_queue_full",
  "server_login_failed",
  "server_error",
  "read_only_cluster",
  "broken_off",
]);

/** What the recorder is told to do with its records. */
export interface RecorderSink {
  /** The number of the next record. */
  nextId(): number;
  /** It is over. */
  finished(incident: Incident): void;
}

export class IncidentRecorder implements Witness {
  awaitsAnswer = false;
  readonly #clock: Clock;
  readonly #cluster: string;
  readonly #sink: RecorderSink;
  /** Who waits for the leader, since when, oldest first. */
  readonly #held = new Map<object, Millis>();
  #incident: Incident | null = null;
  #settling: Timer | null = null;
  #report: Report | null = null;

  constructor(clock: Clock, cluster: string, sink: RecorderSink) {
    this.#clock = clock;
    this.#cluster = cluster;
    this.#sink = sink;
  }

  /** The one that goes on; null when none does. */
  get current(): Incident | null {
    return this.#incident;
  }

  /** How long the client waits that has waited longest; 0 when none does. */
  get waitingMs(): number {
    for (const since of this.#held.values()) return this.#clock.now() - since;
    return 0;
  }

  /** The same feed, listened to. Whoever subscribes to it hears of a change after the recorder. */
  watch(feed: TopologyFeed): TopologyFeed {
    feed.subscribe((now, before) => this.#follow(now, before));
    return {
      current: () => feed.current(),
      subscribe: (listener) => feed.subscribe(listener),
      setUrgent: (waiting) => feed.setUrgent(waiting),
      report: (member, evidence) => {
        this.#note(member, evidence);
        feed.report(member, evidence);
      },
    };
  }

  #note(member: MemberName, evidence: ConnectionEvidence): void {
    if (speaksAgainst(evidence)) this.#report = { at: this.#clock.now(), member, evidence };
  }

  #follow(now: Topology, before: Topology): void {
    const at = this.#clock.now();
    const beginning = beginningOf(now, before, at, this.#report);
    // One that only waited for its first answer is over.
    if (beginning !== null && this.#incident !== null && hasEnded(this.#incident)) this.#finish();
    if (beginning !== null && this.#incident === null) {
      const id = this.#sink.nextId();
      const seed = { id, cluster: this.#cluster, at, wall: this.#clock.wall(), holding: this.#held.size };
      this.#incident = beginIncident({ ...seed, ...beginning });
    }
    const { leader, source } = now;
    if (leader !== before.leader) {
      this.#step({ kind: "leader", at, leader, keyKnown: source.connected && source.kind !== "static" });
    }
  }

  #step(happening: Happening): void {
    if (this.#incident === null) return;
    const incident = stepIncident(this.#incident, happening);
    this.#incident = incident;
    this.awaitsAnswer = awaitsAnswer(incident);
    if (!hasEnded(incident)) return;
    if (!this.awaitsAnswer) return this.#finish();
    this.#settling ??= this.#clock.after(millis(SETTLE_MS), () => this.#finish());
  }

  #finish(): void {
    const incident = this.#incident;
    this.#settling?.cancel();
    this.#settling = null;
    this.#incident = null;
    this.awaitsAnswer = false;
    if (incident !== null) this.#sink.finished(incident);
  }

  // Witness

  held(seeker: object): void {
    if (this.#held.has(seeker)) return;
    const at = this.#clock.now();
    this.#held.set(seeker, at);
    this.#step({ kind: "held", at });
  }

  granted(seeker: object): void {
    this.#release(seeker, true);
  }

  gaveUp(seeker: object): void {
    this.#release(seeker, false);
  }

  #release(seeker: object, served: boolean): void {
    const since = this.#held.get(seeker);
    if (since === undefined) return;
    this.#held.delete(seeker);
    const at = this.#clock.now();
    this.#step({ kind: "released", at, served, waitedMs: at - since });
  }

  cut(connections: number): void {
    this.#step({ kind: "cut", at: this.#clock.now(), connections });
  }

  gave(error: GivenError): void {
    if (this.#incident !== null && causedByAbsence.has(error)) this.#step({ kind: "gave", error });
  }

  reran(): void {
    this.#step({ kind: "reran" });
  }

  answered(): void {
    this.#step({ kind: "answered", at: this.#clock.now() });
  }
}
