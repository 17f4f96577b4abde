// One cluster's crossing: joins what discovery believes with the pools, and finds each client a server now, or a place to wait.
// The only part that knows both.

import type { ScramDerivations } from "../auth/scram.ts";
import type { Secret } from "../auth/secret.ts";
import type { ServerTls } from "../auth/tls-options.ts";
import type { Clock } from "../core/clock.ts";
import { GROUPS_MAX } from "../core/limits.ts";
import type { Logger } from "../core/logger.ts";
import type { Millis } from "../core/units.ts";
import type { TopologyFeed } from "../discovery/feed.ts";
import type { LeaderState, Member, MemberName, Topology } from "../discovery/topology.ts";
import type { Dedicated, Pool, PoolIdentity, PoolOptions, Waiter } from "../pool/pool.ts";
import { Pools, type PoolTotals } from "../pool/pools.ts";
import type { Server } from "../pool/server.ts";
import { followsClient } from "../pool/settings.ts";
import type { Balance } from "../routing/balance.ts";
import { type Decision, route } from "../routing/route.ts";
import type { Target } from "../routing/target.ts";

/** A client that wants a server. Its pool is told to it before it is granted one. */
export interface Seeker extends Waiter {
  readonly target: Target;
  readonly balance: Balance;
  readonly group: Group;
  readonly waitingSince: Millis;
  pool: Pool | null;
}

/** What a server said when it took a client's startup settings. */
export interface Greeting {
  readonly parameters: ReadonlyMap<string, string>;
  /** NoticeResponses as they came. */
  readonly notices: readonly Buffer[];
}

/** All that clients of one database and user share. */
export interface Group {
  readonly database: string;
  readonly user: string;
  /** Of a client that has a server to itself. */
  readonly dedicated?: Dedicated;
  /** Pools that served last; asked for again once fenced. */
  write: Pool | null;
  readonly reads: Map<MemberName, Pool>;
  /** What is told at login, by target and settings; least recently used first. */
  readonly welcomes: Map<string, Greeting>;
  /** What the last server login reported: when it changes, the welcomes are no longer true. */
  reported: string;
}

export interface SteeringOptions {
  readonly secretOf: (user: string) => Secret | null;
  readonly tls: ServerTls;
  readonly random: (bytes: number) => Buffer;
  readonly derivations: ScramDerivations;
  readonly pool: PoolOptions;
}

export class Steering {
  readonly cluster: string;
  readonly #feed: TopologyFeed;
  readonly #logger: Logger;
  readonly #pools: Pools;
  readonly #groups = new Map<string, Group>();
  /** Those for whom no member could be named. */
  readonly #held = new Set<Seeker>();
  readonly #unsubscribe: () => void;
  /** When each member was last seen to be named leader. */
  readonly #ledAt = new Map<MemberName, Millis>();
  readonly #clock: Clock;
  #options: SteeringOptions;
  #heldWrites = 0;

  constructor(clock: Clock, logger: Logger, cluster: string, feed: TopologyFeed, options: SteeringOptions) {
    this.cluster = cluster;
    this.#clock = clock;
    this.#feed = feed;
    this.#logger = logger;
    this.#options = options;
    this.#pools = new Pools(clock, logger, options.pool, {
      loggedIn: (pool, parameters, inRecovery) => {
        this.#noteReported(pool.identity, parameters);
        feed.report(pool.identity.endpoint.member, { kind: "login", inRecovery });
      },
      failed: (pool, reason) => feed.report(pool.identity.endpoint.member, { kind: "failed", reason }),
    });
    this.#unsubscribe = feed.subscribe((now, before) => this.#follow(now, before));
  }

  get topology(): Topology {
    return this.#feed.current();
  }

  /** Clients for whom no member can be named now. */
  get heldCount(): number {
    return this.#held.size;
  }

  pools(): Iterable<Pool> {
    return this.#pools.all();
  }

  /** What happened to servers since the start, pools that are gone included. */
  serverTotals(): readonly PoolTotals[] {
    return this.#pools.totals();
  }

  /** Takes new settings; servers that are logged in stay so. */
  reconfigure(options: SteeringOptions): void {
    this.#options = options;
    this.#pools.reconfigure(options.pool);
  }

  group(database: string, user: string): Group {
    const key = JSON.stringify([database, user]);
    let group = this.#groups.get(key);
    if (group === undefined) {
      if (this.#groups.size >= GROUPS_MAX) this.#forgetUnusedGroups();
      group = { database, user, write: null, reads: new Map(), welcomes: new Map(), reported: "" };
      this.#groups.set(key, group);
    }
    return group;
  }

  /** A group of one client, that nobody else can find. */
  dedicatedGroup(database: string, user: string, dedicated: Dedicated): Group {
    return { database, user, dedicated, write: null, reads: new Map(), welcomes: new Map(), reported: "" };
  }

  /** A group without a living pool is made again when it is needed. */
  #forgetUnusedGroups(): void {
    for (const [key, { write, reads }] of this.#groups) {
      const pools = [write, ...reads.values()];
      if (pools.every((pool) => pool === null || pool.fenced)) this.#groups.delete(key);
    }
  }

  #noteReported({ database, user, dedicated }: PoolIdentity, parameters: ReadonlyMap<string, string>): void {
    if (dedicated !== undefined) return;
    const group = this.group(database, user);
    const reported = JSON.stringify(
      [...parameters].filter(([name]) => followsClient(name) || name === "server_version"),
    );
    if (reported !== group.reported) group.welcomes.clear();
    group.reported = reported;
  }

  /** A server now; or null: the seeker waits, or was refused within the call. */
  seek(seeker: Seeker): Server | null {
    const decision = route(this.#feed.current(), seeker.target, seeker.balance);
    if (decision.kind === "refuse") {
      seeker.refused(decision.error);
      return null;
    }
    if (decision.kind === "hold") {
      this.#hold(seeker);
      return null;
    }
    const pool = this.#poolFor(seeker.group, decision);
    seeker.pool = pool;
    return pool.acquire(seeker);
  }

  /** The seeker has lost interest. */
  leave(seeker: Seeker): void {
    if (this.#held.delete(seeker) && seeker.target === "primary") this.#countHeldWrites(-1);
    seeker.pool?.leave(seeker);
    seeker.pool = null;
  }

  /** Why somebody with this target waits now, as a sentence. */
  whyWaiting(seeker: Seeker): string {
    if (!this.#held.has(seeker)) return "All servers of the pool are in use.";
    const decision = route(this.#feed.current(), seeker.target, seeker.balance);
    return decision.kind === "hold" ? decision.reason : "";
  }

  /**
   * Whether nothing that this server ran can have written: it said that it is in recovery, and its member was at no time named
   * leader since its login. Servers before 14 do not say it, and count as able to write.
   */
  isReplica(server: Server): boolean {
    const ledAt = this.#ledAt.get(server.endpoint.member);
    return server.parameters.get("in_hot_standby") === "on" && (ledAt === undefined || ledAt < server.loggedInAt);
  }

  close(): void {
    this.#unsubscribe();
    this.#pools.close();
  }

  #hold(seeker: Seeker): void {
    seeker.pool = null;
    this.#held.add(seeker);
    if (seeker.target === "primary") this.#countHeldWrites(1);
  }

  #countHeldWrites(by: number): void {
    const before = this.#heldWrites > 0;
    this.#heldWrites += by;
    if (before !== this.#heldWrites > 0) this.#feed.setUrgent(this.#heldWrites > 0);
  }

  #poolFor(group: Group, decision: Decision & { kind: "member" }): Pool {
    const { member, purpose, epoch } = decision;
    const known = purpose === "write" ? group.write : group.reads.get(member.name);
    if (known && !known.fenced && known.identity.epoch === epoch && leadsTo(known.identity, member)) return known;
    const endpoint = { member: member.name, host: member.host, port: member.port };
    const { database, user, dedicated } = group;
    const identity: PoolIdentity = { endpoint, database, user, purpose, epoch, ...(dedicated && { dedicated }) };
    const pool = this.#pools.of(identity, () => ({
      secret: this.#options.secretOf(group.user),
      tls: this.#options.tls,
      random: this.#options.random,
      derivations: this.#options.derivations,
    }));
    if (purpose === "write") group.write = pool;
    else group.reads.set(member.name, pool);
    return pool;
  }

  /** A new topology: cut first, then send those who wait where they can be served. */
  #follow(now: Topology, before: Topology): void {
    for (const leader of [leaderName(before.leader), leaderName(now.leader)]) {
      if (leader !== null) this.#ledAt.set(leader, this.#clock.now());
    }
    this.#cut(now, before);
    const writable = now.leader.kind === "writable";
    this.#pools.evictWaiters(({ purpose, endpoint }) =>
      purpose === "write" ? !writable : now.members.get(endpoint.member)?.readable !== true,
    );
    this.#retryHeld();
  }

  #cut(now: Topology, before: Topology): void {
    const epoch = now.leader.kind === "none" ? null : now.leader.epoch.sequence;
    const leads = now.leader.kind !== "standby" && now.leader.kind !== "none";
    const was = leaderName(before.leader);
    const deposed = was !== null && was !== leaderName(now.leader) ? was : null;
    if (deposed !== null) this.#logger.info({ member: deposed, epoch }, "leader deposed: its connections are cut");
    this.#pools.fence(({ purpose, endpoint, epoch: opened }) => {
      if (endpoint.member === deposed) return true;
      const member = now.members.get(endpoint.member);
      if (member === undefined || member.host !== endpoint.host || member.port !== endpoint.port) return true;
      return purpose === "write" && (!leads || opened !== epoch);
    }, "the member was deposed");
  }

  #retryHeld(): void {
    const waiting = [...this.#held].sort((a, b) => a.waitingSince - b.waitingSince);
    for (const seeker of waiting) {
      if (!this.#held.has(seeker)) continue;
      if (route(this.#feed.current(), seeker.target, seeker.balance).kind === "hold") continue;
      this.leave(seeker);
      const server = this.seek(seeker);
      if (server !== null) seeker.granted(server);
    }
  }
}

const leaderName = (leader: LeaderState): MemberName | null => (leader.kind === "none" ? null : leader.member);

const leadsTo = (identity: PoolIdentity, member: Member): boolean =>
  identity.endpoint.host === member.host &&
  identity.endpoint.port === member.port &&
  identity.endpoint.member === member.name;
