// This router's part in what all routers of a cluster do together: announces it in etcd, sees the commands' request there, and holds
// transactions back while it stands (standstill.ts decides). Stands between discovery and steering as the feed that steering follows,
// so that a hold is for all others what they know already: a leader that drains.

import type { Clock, Timer } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { millis } from "../core/units.ts";
import { Announcement, isRefusal } from "../discovery/announcement.ts";
import { sameTopology } from "../discovery/change.ts";
import {
  type Coordination,
  coordinationPrefix,
  decodeCoordination,
  type RouterAnnouncement,
  routerKey,
} from "../discovery/coordination-keys.ts";
import { EtcdSource, type EtcdSourceOptions, type KeyState } from "../discovery/etcd-source.ts";
import type { ConnectionEvidence, TopologyFeed } from "../discovery/feed.ts";
import type { MemberName, Topology } from "../discovery/topology.ts";
import type { Server } from "../pool/server.ts";
import type { Client } from "./client.ts";
import { heldTopology } from "./held-topology.ts";
import { type OpenWork, openWork, whoIsOpen } from "./open-work.ts";
import {
  announcedState,
  holdOf,
  holdReason,
  requestOf,
  type Standstill,
  type Surroundings,
  stepStandstill,
  unread,
} from "./standstill.ts";
import type { Steering } from "./steering.ts";

/** Who this router is. */
export interface RouterIdentity {
  readonly id: string;
  readonly version: string;
  readonly host: string;
  /** Base URL of its HTTP endpoints; null when it has none. */
  readonly http: string | null;
}

export interface CoordinatorOptions {
  readonly etcd: Omit<EtcdSourceOptions, "prefix">;
  /** Patroni's prefix, as `/service/main/`. */
  readonly patroniPrefix: string;
  readonly router: RouterIdentity;
}

/** What the router has to do with. */
export interface Workload {
  readonly steering: Pick<Steering, "pools" | "heldCount">;
  clients(): Iterable<Client>;
}

/** What it does, for those who ask. */
export interface Standing {
  readonly state: RouterAnnouncement["state"];
  readonly request: string | null;
  readonly reason: string;
  readonly open: number;
  readonly sessions: number;
  /** Other routers included. */
  readonly routers: number;
}

type Listener = (now: Topology, before: Topology) => void;

/** A router that is silent for longer is gone for the others. */
const ANNOUNCEMENT_TTL_SECONDS = 10;
/** Between two looks at what is still open. */
const LOOK_EVERY_MS = 10;
/** Between two looks at a deadline. */
const WATCH_EVERY_MS = 100;
/** What etcd refuses is asked for again so seldom: each login costs it a password check. */
const REFUSED_EVERY_MS = 30_000;
/** How often the number of open transactions is announced. */
const COUNT_EVERY_MS = 1_000;

export class Coordinator implements TopologyFeed {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #feed: TopologyFeed;
  readonly #router: RouterIdentity;
  readonly #source: EtcdSource;
  readonly #announcement: Announcement;
  readonly #listeners = new Set<Listener>();
  readonly #unsubscribe: () => void;
  #workload: Workload | null = null;
  #keys: KeyState | null = null;
  #coordination: Coordination = decodeCoordination(new Map());
  #state: Standstill;
  /** By the wall clock. */
  #since: number;
  #work: OpenWork = { open: new Set(), sessions: 0 };
  #passed = new WeakSet<Server>();
  #announcedAt = 0;
  #timer: Timer | null = null;
  /** Until what etcd has refused is asked for again. */
  #respite: Timer | null = null;
  /** What discovery said, and what it looks like under the hold. */
  #raw: Topology;
  #shown: Topology;
  /** What subscribers were told last. */
  #told: Topology;
  #telling = false;
  #tellAgain = false;

  constructor(clock: Clock, logger: Logger, feed: TopologyFeed, options: CoordinatorOptions) {
    this.#clock = clock;
    this.#logger = logger;
    this.#feed = feed;
    this.#router = options.router;
    this.#state = unread(clock);
    this.#since = clock.wall();
    this.#raw = feed.current();
    this.#shown = this.#held();
    this.#told = this.#shown;
    const prefix = coordinationPrefix(options.patroniPrefix);
    const { etcd, router } = options;
    // What is wrong with etcd, discovery says.
    this.#source = new EtcdSource(clock, quietly(logger), { ...etcd, prefix }, (keys) => this.#read(keys));
    const what = { etcd, prefix, key: routerKey(router.id), ttlSeconds: ANNOUNCEMENT_TTL_SECONDS };
    this.#announcement = new Announcement(clock, logger, what, this.#text());
    this.#unsubscribe = feed.subscribe(() => this.#step());
  }

  /** Begins to announce and to watch. What `workload` is doing has to be known first. */
  start(workload: Workload): void {
    this.#workload = workload;
    this.#source.start();
    this.#announcement.start();
    this.#step();
  }

  /** Takes the announcement back. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    this.#respite?.cancel();
    this.#unsubscribe();
    this.#listeners.clear();
    this.#source.close();
    await this.#announcement.close();
  }

  get standing(): Standing {
    return {
      state: announcedState(this.#state),
      request: requestOf(this.#state),
      reason: this.#reason,
      open: this.#work.open.size,
      sessions: this.#work.sessions,
      routers: this.#coordination.routers.size,
    };
  }

  // TopologyFeed

  current(): Topology {
    const raw = this.#feed.current();
    if (raw !== this.#raw) {
      this.#raw = raw;
      this.#shown = this.#held();
    }
    return this.#shown;
  }

  subscribe(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  setUrgent(waiting: boolean): void {
    this.#feed.setUrgent(waiting);
  }

  report(member: MemberName, evidence: ConnectionEvidence): void {
    this.#feed.report(member, evidence);
  }

  #held(): Topology {
    return heldTopology(this.#raw, holdOf(this.#state), holdReason(this.#state));
  }

  #read(keys: KeyState): void {
    const before = this.#keys?.keys;
    this.#keys = keys;
    if (!keys.connected && isRefusal(keys.reason)) this.#relent();
    if (keys.revision > 0n && keys.keys !== before) {
      const { problems } = this.#coordination;
      this.#coordination = decodeCoordination(keys.keys);
      const now = this.#coordination.problems;
      if (now.length > 0 && now.join() !== problems.join())
        this.#logger.warn({ problems: now }, "what routers and commands say in etcd cannot be understood");
    }
    this.#step();
  }

  #relent(): void {
    this.#source.close();
    this.#respite = this.#clock.after(millis(REFUSED_EVERY_MS), () => this.#source.start());
  }

  /** Goes on to the state that follows from what is known now, and says so. */
  #step(): void {
    const before = this.#state;
    for (let last: Standstill | null = null; last !== this.#state; ) {
      last = this.#state;
      const next = stepStandstill(last, this.#surroundings());
      if (next !== last) this.#enter(next);
      this.#tell();
    }
    this.#announce(this.#state !== before);
    this.#arrange();
  }

  #enter(next: Standstill): void {
    const before = this.#state;
    if (requestOf(next) !== requestOf(before)) this.#passed = new WeakSet();
    this.#state = next;
    this.#since = this.#clock.wall();
    this.#raw = this.#feed.current();
    this.#shown = this.#held();
    this.#log(before);
    if (holdOf(next) === "nothing" && next.kind !== "cannot") this.#work = { open: new Set(), sessions: 0 };
  }

  #surroundings(): Surroundings {
    const { request } = this.#coordination;
    const keys = this.#keys;
    return {
      now: this.#clock.now(),
      read: keys !== null && keys.revision > 0n,
      connected: keys?.connected === true,
      refused: keys !== null && isRefusal(keys.reason),
      request,
      leader: this.#feed.current().leader,
      open: () => this.#look(),
      inTheWay: () => whoIsOpen(this.#work.open, this.#workload?.clients() ?? []),
    };
  }

  /** Counts what is in the way of the request. */
  #look(): number {
    const { request } = this.#coordination;
    const member = request?.kind === "switchover" ? request.leader : null;
    this.#work = openWork(this.#workload?.steering.pools() ?? [], member, this.#passed);
    return this.#work.open.size;
  }

  /** Tells subscribers where what they follow has changed; one after the other, also where telling leads to more. */
  #tell(): void {
    if (this.#telling) {
      this.#tellAgain = true;
      return;
    }
    this.#telling = true;
    try {
      do {
        this.#tellAgain = false;
        const before = this.#told;
        const now = this.current();
        this.#told = now;
        if (sameTopology(now, before)) continue;
        for (const listener of [...this.#listeners]) listener(now, before);
      } while (this.#tellAgain);
    } finally {
      this.#telling = false;
    }
  }

  get #reason(): string {
    const state = this.#state;
    return state.kind === "serving" || state.kind === "cannot" ? state.reason : holdReason(state);
  }

  #log(before: Standstill): void {
    const { kind } = this.#state;
    if (before.kind === "unread" && requestOf(this.#state) === null) return;
    const fields = { request: requestOf(this.#state) ?? requestOf(before), reason: this.#reason };
    const words: Readonly<Record<typeof kind, string>> = {
      unread: "",
      serving: "transactions go on",
      draining: "transactions are held back: open ones may finish",
      drained: "drained: no transaction is open on the leader",
      holding: "transactions wait for the new leader",
      paused: "paused: no transaction is open",
      cannot: "cannot drain in time: transactions go on",
    };
    this.#logger[kind === "cannot" ? "warn" : "info"](fields, words[kind]);
  }

  #announce(changed: boolean): void {
    const now = this.#clock.now();
    if (!changed && now - this.#announcedAt < COUNT_EVERY_MS) return;
    this.#announcedAt = now;
    this.#announcement.say(this.#text());
  }

  #text(): string {
    const { leader } = this.#raw;
    const state = this.#state;
    const announcement: RouterAnnouncement = {
      ...this.#router,
      state: announcedState(state),
      request: requestOf(state),
      since_ms: Math.round(this.#since),
      open: this.#work.open.size,
      sessions: this.#work.sessions,
      held: requestOf(state) === null ? 0 : (this.#workload?.steering.heldCount ?? 0),
      leader: leader.kind === "none" ? null : leader.member,
      held_ms: state.kind === "serving" && state.heldMs !== null ? Math.round(state.heldMs) : null,
      reason: this.#reason,
    };
    return JSON.stringify(announcement);
  }

  /** Looks again when something may have changed by itself. */
  #arrange(): void {
    this.#timer?.cancel();
    this.#timer = null;
    const { kind } = this.#state;
    if (kind === "serving" || kind === "cannot") return;
    const delay = kind === "draining" ? LOOK_EVERY_MS : kind === "paused" ? COUNT_EVERY_MS : WATCH_EVERY_MS;
    this.#timer = this.#clock.after(millis(delay), () => this.#step());
  }
}

/** All that is said goes to the level of debugging. */
function quietly(logger: Logger): Logger {
  const debug: Logger["debug"] = (fields, message) => logger.debug(fields, message);
  return { debug, info: debug, warn: debug, error: debug, child: () => quietly(logger) };
}
