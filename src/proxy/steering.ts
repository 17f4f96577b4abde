// One cluster's crossing: joins what discovery believes with the pools, and finds each client a server now, or a place to wait.
// The only part that knows both.

import type { Credentials } from "../auth/credentials.ts";
import type { ScramDerivations } from "../auth/scram.ts";
import type { ServerTls } from "../auth/tls-options.ts";
import type { Clock } from "../core/clock.ts";
import { GROUPS_MAX } from "../core/limits.ts";
import type { Logger } from "../core/logger.ts";
import type { Millis } from "../core/units.ts";
import type { TopologyFeed } from "../discovery/feed.ts";
import type { LeaderState, Member, MemberName, Topology } from "../discovery/topology.ts";
import { byAdministrator, type LossCause } from "../pool/loss.ts";
import type { Pool } from "../pool/pool.ts";
import {
  type Dedicated,
  EARLY,
  isEarly,
  type Place,
  type PoolIdentity,
  type PoolLogin,
  type PoolSupply,
  type Waiter,
} from "../pool/pool-terms.ts";
import { Pools, type PoolTotals } from "../pool/pools.ts";
import type { Quotas } from "../pool/quotas.ts";
import type { Server } from "../pool/server.ts";
import { followsClient } from "../pool/settings.ts";
import type { Balance } from "../routing/balance.ts";
import { type Decision, route } from "../routing/route.ts";
import type { Target } from "../routing/target.ts";
import type { Directory } from "./directory.ts";
import { EarlyPools } from "./early-pools.ts";
import { type Group, newGroup } from "./group.ts";
import { LifeSigns } from "./life-signs.ts";
import { Reachability } from "./reachability.ts";
import { noWitness, type Witness } from "./witness.ts";

/** A client that wants a server. Its pool is told to it before it is granted one. */
export interface Seeker extends Waiter {
  readonly target: Target;
  readonly balance: Balance;
  readonly group: Group;
  readonly waitingSince: Millis;
  pool: Pool | null;
}

export interface SteeringOptions {
  readonly credentials: Credentials;
  readonly tls: ServerTls;
  readonly random: (bytes: number) => Buffer;
  readonly derivations: ScramDerivations;
  readonly directory: Directory;
}

export class Steering {
  readonly cluster: string;
  /** Hears who is held, who is served, and what is cut. */
  readonly witness: Witness;
  readonly #feed: TopologyFeed;
  readonly #logger: Logger;
  readonly #pools: Pools;
  readonly #lifeSigns: LifeSigns;
  readonly #reachability: Reachability;
  readonly #groups = new Map<string, Group>();
  /** Those for whom no member could be named. */
  readonly #held = new Set<Seeker>();
  readonly #unsubscribe: () => void;
  /** When each member was last seen to be named leader. */
  readonly #ledAt = new Map<MemberName, Millis>();
  readonly #clock: Clock;
  readonly #early: EarlyPools<Group, Pool>;
  #urgent = false;
  #options: SteeringOptions;

  constructor(
    clock: Clock,
    logger: Logger,
    quotas: Quotas,
    cluster: string,
    feed: TopologyFeed,
    options: SteeringOptions,
    witness: Witness = noWitness,
  ) {
    this.cluster = cluster;
    this.witness = witness;
    this.#clock = clock;
    this.#feed = feed;
    this.#logger = logger;
    this.#options = options;
    this.#lifeSigns = new LifeSigns(clock);
    this.#pools = new Pools(clock, logger, quotas, (place) => options.directory.poolOptions(place), {
      loggedIn: (pool, parameters, inRecovery) => {
        this.#noteReported(pool.identity, parameters);
        feed.report(pool.identity.endpoint.member, { kind: "login", inRecovery });
      },
      failed: (pool, reason) => feed.report(pool.identity.endpoint.member, { kind: "failed", reason }),
    });
    this.#early = new EarlyPools((group, topology) => this.#earlyPool(group, topology));
    this.#reachability = new Reachability(clock, (member) => this.#giveUp(member));
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
    this.#pools.reconfigure((place) => options.directory.poolOptions(place));
  }

  group({ database, dbname, user }: Place): Group {
    const key = JSON.stringify([database, dbname, user]);
    let group = this.#groups.get(key);
    if (group === undefined) {
      if (this.#groups.size >= GROUPS_MAX) this.#forgetUnusedGroups();
      group = newGroup({ database, dbname, user });
      this.#groups.set(key, group);
    }
    return group;
  }

  /** A group of one client, that nobody else can find. */
  dedicatedGroup(place: Place, dedicated: Dedicated): Group {
    return { ...newGroup(place), dedicated };
  }

  /** Makes the pools that the directory wants to be there before any client is: the leader's, or those of the replicas. */
  standBy(target: Target, balance: Balance): void {
    const { topology } = this;
    for (const place of this.#options.directory.standing) {
      const group = this.group(place);
      if (target === "primary") {
        const decision = route(topology, target, balance);
        if (decision.kind === "member") this.#poolFor(group, decision);
      } else {
        const replicas = balance.candidates(topology);
        for (const member of replicas) this.#poolFor(group, { kind: "member", member, purpose: "read", epoch: 0 });
      }
    }
  }

  /** A group without a client and a living pool is made again when it is needed. */
  #forgetUnusedGroups(): void {
    for (const [key, { clients, write, reads }] of this.#groups) {
      const pools = [write, ...reads.values()];
      if (clients === 0 && pools.every((pool) => pool === null || pool.fenced)) this.#groups.delete(key);
    }
  }

  #noteReported(place: PoolIdentity, parameters: ReadonlyMap<string, string>): void {
    if (place.dedicated !== undefined) return;
    const group = this.group(place);
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
    this.#withdraw(seeker);
    this.witness.gaveUp(seeker);
  }

  #withdraw(seeker: Seeker): void {
    if (this.#held.delete(seeker) && seeker.target === "primary") {
      this.#early.leave(seeker.group);
      this.#hurry();
    }
    seeker.pool?.leave(seeker);
    seeker.pool = null;
  }

  /** Why somebody with this target waits now, as a sentence. */
  whyWaiting(seeker: Seeker): string {
    if (!this.#held.has(seeker)) return seeker.pool?.obstacle ?? "All servers of the pool are in use.";
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

  /**
   * Whether a server's last words are about its session alone, although a server that shuts down says the same: its member takes
   * connections, and is still what it was. Answers at once where the words leave no doubt.
   */
  judge(pool: Pool, cause: LossCause, then: (memberLives: boolean) => void): void {
    if (!byAdministrator(cause) || pool.fenced) return then(false);
    const { endpoint, dbname, user } = pool.identity;
    const login = { endpoint, database: dbname, user, ...this.#loginOf(pool.identity) };
    this.#lifeSigns.ask(login, (alive) => then(alive && !pool.fenced));
  }

  close(): void {
    this.#unsubscribe();
    this.#reachability.close();
    this.#pools.close();
  }

  #hold(seeker: Seeker): void {
    seeker.pool = null;
    this.#held.add(seeker);
    if (seeker.target !== "primary") return;
    this.witness.held(seeker);
    this.#early.enter(seeker.group, this.#feed.current());
    this.#hurry();
  }

  /** The gate is probed often while somebody waits for it. */
  #hurry(): void {
    const { anyWaiting } = this.#early;
    if (this.#urgent === anyWaiting) return;
    this.#urgent = anyWaiting;
    this.#feed.setUrgent(anyWaiting);
  }

  #poolFor(group: Group, decision: Decision & { kind: "member" }): Pool {
    const { member, purpose, epoch } = decision;
    const known = purpose === "write" ? group.write : group.reads.get(member.name);
    if (known && !known.fenced && known.identity.epoch === epoch && leadsTo(known.identity, member)) return known;
    const pool = this.#poolOf(group, member, purpose, epoch);
    if (purpose === "write") group.write = pool;
    else group.reads.set(member.name, pool);
    return pool;
  }

  #poolOf(group: Group, member: Member, purpose: "write" | "read", epoch: number): Pool {
    const { place, dedicated } = group;
    const endpoint = { member: member.name, host: member.host, port: member.port };
    const identity: PoolIdentity = { ...place, endpoint, purpose, epoch, ...(dedicated && { dedicated }) };
    return this.#pools.of(identity, this.#supplyOf(group));
  }

  /** Null for a group that needs none: its client has a server of its own, or the leader has only been doubted for a moment. */
  #earlyPool(group: Group, { leader, members }: Topology): Pool | null {
    if (leader.kind !== "elected" || group.dedicated !== undefined) return null;
    const { write } = group;
    if (write !== null && !write.fenced && write.identity.epoch === leader.epoch.sequence && write.size > 0)
      return null;
    const member = members.get(leader.member);
    return member === undefined ? null : this.#poolOf(group, member, "write", EARLY);
  }

  /** Groups that have servers whether somebody waits or not. */
  *#standing(): Iterable<Group> {
    for (const group of this.#groups.values()) {
      const { minPoolSize } = this.#options.directory.poolOptions(group.place);
      if (minPoolSize > 0 && this.#supplyOf(group).inDemand()) yield group;
    }
  }

  #openGate(group: Group, pool: Pool, { leader }: Topology): void {
    const { tested: ready, login } = pool.counts;
    const { user, database } = group.place;
    this.#logger.debug({ user, database, ready, login }, "servers were opened before the leader took writes");
    if (leader.kind === "writable" && this.#pools.openGate(pool, leader.epoch.sequence)) group.write = pool;
    else this.#pools.fence((identity) => identity === pool.identity, "it is not needed");
  }

  #loginOf(place: Place): PoolLogin {
    const { directory, credentials, tls, random, derivations } = this.#options;
    const secret = directory.secretOf(place) ?? credentials.forServer(place.user, place.database);
    const refused = (): void => {
      if (secret !== null) credentials.refused(place.user, secret);
    };
    return { secret, refused, tls, random, derivations, connectQuery: directory.connectQuery(place) };
  }

  #supplyOf(group: Group): PoolSupply {
    const { place } = group;
    return {
      login: () => this.#loginOf(place),
      inDemand: () => group.clients > 0 || this.#options.directory.stands(place),
    };
  }

  /** A new topology: cut first, then send those who wait where they can be served. */
  #follow(now: Topology, before: Topology): void {
    for (const leader of [leaderName(before.leader), leaderName(now.leader)]) {
      if (leader !== null) this.#ledAt.set(leader, this.#clock.now());
    }
    this.#cut(now, before);
    this.#early.follow(now, this.#standing(), (group, pool) => this.#openGate(group, pool, now));
    const writable = now.leader.kind === "writable";
    this.#pools.evictWaiters(({ purpose, endpoint }) =>
      purpose === "write" ? !writable : now.members.get(endpoint.member)?.readable !== true,
    );
    this.#retryHeld();
    this.#reachability.follow(now);
  }

  /** Nothing will come over the connections to a member that cannot be reached: who waits for an answer need not wait for TCP. */
  #giveUp(member: MemberName): void {
    this.#logger.warn({ member }, "member cannot be reached: its connections are cut");
    this.witness.cut(this.#pools.fence(({ endpoint }) => endpoint.member === member, "the member cannot be reached"));
  }

  #cut(now: Topology, before: Topology): void {
    const epoch = now.leader.kind === "none" ? null : now.leader.epoch.sequence;
    const leads = now.leader.kind !== "standby" && now.leader.kind !== "none";
    const was = leaderName(before.leader);
    const deposed = was !== null && was !== leaderName(now.leader) ? was : null;
    if (deposed !== null) this.#logger.info({ member: deposed, epoch }, "leader deposed: its connections are cut");
    const cut = this.#pools.fence((identity) => {
      const { purpose, endpoint, epoch: opened } = identity;
      if (endpoint.member === deposed) return true;
      const member = now.members.get(endpoint.member);
      if (member === undefined || member.host !== endpoint.host || member.port !== endpoint.port) return true;
      if (isEarly(identity)) return !this.#early.isFor(identity, now);
      return purpose === "write" && (!leads || opened !== epoch);
    }, "the member was deposed");
    this.witness.cut(cut);
  }

  #retryHeld(): void {
    const waiting = [...this.#held].sort((a, b) => a.waitingSince - b.waitingSince);
    for (const seeker of waiting) {
      if (!this.#held.has(seeker)) continue;
      if (route(this.#feed.current(), seeker.target, seeker.balance).kind === "hold") continue;
      this.#withdraw(seeker);
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
