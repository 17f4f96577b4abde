// Watches one cluster: joins a source, SQL probes and REST questions, reduces what they say (evidence.ts), and tells subscribers of
// each change synchronously, in the same turn in which the evidence arrived. All members are probed in rounds; while the leader
// is elected but not yet writable, its gate is probed every few milliseconds.

import type { Clock, Timer } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { type Millis, millis } from "../core/units.ts";
import { drainWindow } from "./belief.ts";
import { describeChange, sameTopology } from "./change.ts";
import type { MemberClaim } from "./claim.ts";
import { type Evidence, type EvidenceState, gateTargets, initialState, step, topologyOf } from "./evidence.ts";
import type { ConnectionEvidence, SqlEvidence, SqlProber, TopologyFeed } from "./feed.ts";
import { type DiscoveryOptions, openSource, sourceKind } from "./options.ts";
import { PatroniRest } from "./patroni-rest.ts";
import { Recorder } from "./recorder.ts";
import type { ClaimSource } from "./source.ts";
import type { MemberName, Topology } from "./topology.ts";

export type { DiscoveryOptions } from "./options.ts";

type Listener = (now: Topology, before: Topology) => void;

const DEFAULT_PROBE_INTERVAL_MS = 1000;
const DEFAULT_PROBE_TIMEOUT_MS = 1000;
const DEFAULT_GATE_INTERVAL_MS = 5;
const DEFAULT_DRAIN_MS = 30_000;
/** Pause between probes of an elected leader while nobody waits for it. */
const IDLE_GATE_INTERVAL_MS = 50;
/** What a round of probes may be late before its answers no longer count. */
const FRESHNESS_SLACK_MS = 500;

/** A member's probes: one at a time. */
interface Probing {
  readonly address: string;
  /** A probe was asked for while one was under way. */
  again: boolean;
  timer: Timer | null;
  startedAt: Millis;
}

export class ClusterObserver implements TopologyFeed {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #prober: SqlProber;
  readonly #options: DiscoveryOptions;
  readonly #rest: PatroniRest;
  readonly #source: ClaimSource;
  readonly #recorder: Recorder | null;
  readonly #listeners = new Set<Listener>();
  readonly #probing = new Map<MemberName, Probing>();
  /** Members with a probe under way: outlives a member that vanishes and comes back meanwhile. */
  readonly #inFlight = new Set<MemberName>();
  readonly #restAsked = new Set<MemberName>();
  /** Evidence that arrived while subscribers were being told of earlier evidence. */
  readonly #queue: Evidence[] = [];
  #reducing = false;
  #state: EvidenceState;
  #topology: Topology;
  #problems = "";
  #round = 0;
  #rounds: Timer | null = null;
  #drainTimer: Timer | null = null;
  #urgent = false;
  #running = false;

  constructor(clock: Clock, logger: Logger, prober: SqlProber, options: DiscoveryOptions) {
    this.#clock = clock;
    this.#logger = logger.child({ cluster: options.cluster });
    this.#prober = prober;
    this.#options = options;
    const probeIntervalMs = options.probeIntervalMs ?? DEFAULT_PROBE_INTERVAL_MS;
    const rules = {
      cluster: options.cluster,
      kind: sourceKind(options),
      freshMs: probeIntervalMs + 2 * (options.probeTimeoutMs ?? DEFAULT_PROBE_TIMEOUT_MS) + FRESHNESS_SLACK_MS,
      drainMs: options.drainMs ?? DEFAULT_DRAIN_MS,
    };
    this.#state = initialState(rules, clock.now());
    this.#topology = topologyOf(this.#state, clock.now());
    this.#recorder = options.paper === undefined ? null : new Recorder(clock, options.paper);
    this.#recorder?.begin(this.#state, clock.now(), this.#topology);
    this.#rest = new PatroniRest(clock, options.rest ?? { credentials: null, tls: null });
    this.#source = openSource(clock, this.#logger, this.#rest, options.source, (claim, source) =>
      this.#take({ kind: "claim", at: this.#clock.now(), claim, source }),
    );
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    const interval = millis(this.#options.probeIntervalMs ?? DEFAULT_PROBE_INTERVAL_MS);
    this.#rounds = this.#clock.every(interval, () => this.#probeRound());
    this.#source.start();
  }

  /** Stops everything but the prober, which belongs to who made it. Subscribers hear no more. */
  async close(): Promise<void> {
    this.#running = false;
    this.#listeners.clear();
    this.#rounds?.cancel();
    this.#drainTimer?.cancel();
    for (const name of [...this.#probing.keys()]) this.#forget(name);
    this.#source.close();
    await this.#rest.close();
  }

  current(): Topology {
    return this.#topology;
  }

  subscribe(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  setUrgent(waiting: boolean): void {
    const begins = waiting && !this.#urgent;
    this.#urgent = waiting;
    if (begins && this.#running) this.#arrange();
  }

  report(member: MemberName, answer: ConnectionEvidence): void {
    this.#take({ kind: "connection", at: this.#clock.now(), member, answer });
    // A login or a failure is a hint; only a probe settles it.
    if (answer.kind !== "login" || gateTargets(this.#state, this.#clock.now()).includes(member))
      this.#probe(member, null);
  }

  #take(evidence: Evidence): void {
    if (!this.#running) return;
    this.#queue.push(evidence);
    if (this.#reducing) return;
    this.#reducing = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        this.#recorder?.evidence(next, this.#state);
        this.#state = step(this.#state, next);
        this.#refresh(next.at);
      }
    } finally {
      this.#reducing = false;
    }
    this.#arrange();
  }

  /** Takes the state's view of the moment `at`, and tells of it if it differs. */
  #refresh(at: Millis): void {
    const before = this.#topology;
    const now = topologyOf(this.#state, at);
    this.#topology = now;
    const problems = this.#state.claim.problems.join("; ");
    if (problems !== this.#problems && problems !== "")
      this.#logger.warn({ problems }, "the source says what cannot be understood");
    this.#problems = problems;
    if (sameTopology(now, before)) return;
    this.#recorder?.believed(now, at);
    for (const listener of [...this.#listeners]) listener(now, before);
    for (const { level, fields, message } of describeChange(now, before)) this.#logger[level](fields, message);
  }

  /** Brings probes, timers and the source's hurry in line with the state. */
  #arrange(): void {
    const now = this.#clock.now();
    const { members } = this.#state.claim;
    for (const [name, { address }] of [...this.#probing]) {
      if (addressOf(members.get(name)) !== address) this.#forget(name);
    }
    for (const [name, member] of members) {
      if (this.#probing.has(name)) continue;
      this.#probing.set(name, { address: addressOf(member), again: false, timer: null, startedAt: now });
      this.#probe(name, null);
    }
    for (const name of gateTargets(this.#state, now)) this.#probeGate(name);
    const { kind } = this.#topology.leader;
    this.#source.setHurry(kind === "none" || kind === "elected");
    this.#watchDrain(now);
  }

  /** Wakes when a scheduled switchover becomes due, and when one has been waited for long enough. */
  #watchDrain(now: Millis): void {
    this.#drainTimer?.cancel();
    this.#drainTimer = null;
    const { leadership } = this.#state;
    const window = leadership === null ? null : drainWindow(this.#state, leadership.member);
    if (window === null || now >= window.until) return;
    const wait = millis(Math.min((now < window.from ? window.from : window.until) - now, MAX_TIMER_MS));
    this.#drainTimer = this.#clock.after(wait, () => {
      this.#refresh(this.#clock.now());
      this.#arrange();
    });
  }

  #probeRound(): void {
    this.#round += 1;
    for (const name of this.#state.claim.members.keys()) this.#probe(name, this.#round);
    if (!this.#topology.source.connected) this.#askPatroni();
    // Answers may have become too old without anything else having happened.
    this.#refresh(this.#clock.now());
    this.#arrange();
  }

  #probeGate(name: MemberName): void {
    const probing = this.#probing.get(name);
    if (probing === undefined || this.#inFlight.has(name)) return;
    const interval = this.#urgent ? (this.#options.gateIntervalMs ?? DEFAULT_GATE_INTERVAL_MS) : IDLE_GATE_INTERVAL_MS;
    const { leadership } = this.#state;
    // A new holder of the key is asked at once.
    const unasked = leadership?.member === name && probing.startedAt < leadership.seenAt;
    const due = unasked ? 0 : probing.startedAt + interval - this.#clock.now();
    probing.timer?.cancel();
    probing.timer = null;
    if (due <= 0) this.#probe(name, null);
    else probing.timer = this.#clock.after(millis(due), () => this.#probe(name, null));
  }

  #probe(name: MemberName, round: number | null): void {
    const probing = this.#probing.get(name);
    const member = this.#state.claim.members.get(name);
    if (!this.#running || probing === undefined || member === undefined) return;
    if (this.#inFlight.has(name)) {
      if (round === null) probing.again = true;
      return;
    }
    probing.timer?.cancel();
    probing.timer = null;
    this.#inFlight.add(name);
    probing.again = false;
    probing.startedAt = this.#clock.now();
    const { startedAt } = probing;
    const timeoutMs = this.#options.probeTimeoutMs ?? DEFAULT_PROBE_TIMEOUT_MS;
    const target = { member: name, host: member.host, port: member.port };
    this.#prober.probe(target, timeoutMs).then(
      (answer) => this.#answered(probing, { name, round, startedAt }, answer),
      (error: unknown) => this.#answered(probing, { name, round, startedAt }, { ok: false, reason: String(error) }),
    );
  }

  #answered(
    probing: Probing,
    { name, round, startedAt }: { name: MemberName; round: number | null; startedAt: Millis },
    answer: SqlEvidence,
  ): void {
    this.#inFlight.delete(name);
    if (this.#probing.get(name) !== probing) {
      // It vanished, or moved, while it was asked: what is there now is asked anew.
      this.#probe(name, null);
      return;
    }
    const firstFailure = !answer.ok && (this.#state.members.get(name)?.failures ?? 0) === 0;
    this.#take({ kind: "sql", at: this.#clock.now(), startedAt, member: name, round, answer });
    // One failure may be an accident: ask again at once, and believe the second.
    if (probing.again || firstFailure) this.#probe(name, null);
  }

  /** While the source is silent, what Patroni itself says of each member is evidence too. */
  #askPatroni(): void {
    for (const { name, apiUrl } of this.#state.claim.members.values()) {
      if (apiUrl === null || this.#restAsked.has(name)) continue;
      this.#restAsked.add(name);
      // Never rejects: a failed question is an answer.
      void this.#rest.member(apiUrl).then((answer) => {
        this.#restAsked.delete(name);
        this.#take({ kind: "rest", at: this.#clock.now(), member: name, answer });
      });
    }
  }

  #forget(name: MemberName): void {
    this.#probing.get(name)?.timer?.cancel();
    this.#probing.delete(name);
    this.#prober.forget(name);
  }
}

function addressOf(member: MemberClaim | undefined): string {
  return member === undefined ? "" : `${member.host} ${member.port}`;
}

/** Longest wait of one timer: Node's own bound is 2^31 - 1 ms. */
const MAX_TIMER_MS = 86_400_000;

/** Watches one cluster once it is started. */
export function observeCluster(
  clock: Clock,
  logger: Logger,
  prober: SqlProber,
  options: DiscoveryOptions,
): ClusterObserver {
  return new ClusterObserver(clock, logger, prober, options);
}
