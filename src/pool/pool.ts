// The servers of one member, database, user and purpose. Lends them, oldest waiter first, opens new ones up to the pool's size,
// and takes back only clean ones. Knows nothing of topology: its owner fences it when the member is no longer what it was. New
// servers are openings.ts's business, dirty ones cleaning.ts's, limits beyond this pool quotas.ts's.

import { assert } from "../core/assert.ts";
import type { Clock, Timer } from "../core/clock.ts";
import { REFILL_RETRY_MS } from "../core/limits.ts";
import type { Logger } from "../core/logger.ts";
import { type Millis, millis } from "../core/units.ts";
import { clean, isClean, type ReleaseMode, spoilt } from "./cleaning.ts";
import { IdleServers } from "./idle-servers.ts";
import { deposed, isShutdown, type LossCause, memberIsGoing } from "./loss.ts";
import { Openings, type OpeningsSink } from "./openings.ts";
import type { PoolCounters, PoolIdentity, PoolObserver, PoolOptions, PoolSupply, Waiter } from "./pool-terms.ts";
import type { QuotaMember, Quotas, Share } from "./quotas.ts";
import type { Server } from "./server.ts";
import { isExpired, mustCheck, outlived } from "./server-age.ts";
import { type LoginFailure, loginError } from "./server-login.ts";
import { TestedServers } from "./tested-servers.ts";
import { WaitQueue } from "./wait-queue.ts";

export class Pool implements OpeningsSink, QuotaMember {
  readonly counters: PoolCounters = { logins: 0, loginFailures: 0, serversClosed: 0, leases: 0 };
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #supply: PoolSupply;
  readonly #observer: PoolObserver;
  readonly #share: Share;
  readonly #idle = new IdleServers();
  readonly #active = new Set<Server>();
  readonly #tested: TestedServers;
  readonly #openings: Openings;
  readonly #waiters: WaitQueue<Waiter>;
  #identity: PoolIdentity;
  #options: PoolOptions;
  /** Servers that will be wanted when the gate opens. */
  #wanted = 0;
  /** Until the next waiter may have a server of the reserve. */
  #reserve: Timer | null = null;
  /** `min_pool_size` is not kept before. */
  #refillAt = 0;
  #fenced = false;

  constructor(
    clock: Clock,
    logger: Logger,
    quotas: Quotas,
    identity: PoolIdentity,
    supply: PoolSupply,
    options: PoolOptions,
    observer: PoolObserver,
  ) {
    this.#clock = clock;
    this.#logger = logger;
    this.#identity = identity;
    this.#supply = supply;
    this.#options = options;
    this.#observer = observer;
    this.#waiters = new WaitQueue(options.waitQueueMax);
    this.#tested = new TestedServers(clock);
    this.#openings = new Openings(clock, identity, supply, options, this.#tested, this);
    this.#share = quotas.join(this);
  }

  get identity(): PoolIdentity {
    return this.#identity;
  }

  /** Connections by state, and who waits. */
  get counts(): { idle: number; active: number; tested: number; login: number; waiting: number } {
    return {
      idle: this.#idle.size,
      active: this.#active.size,
      tested: this.#tested.size + this.#openings.early.size,
      login: this.#openings.logins,
      waiting: this.#waiters.size,
    };
  }

  /** Connections in its lists. */
  get size(): number {
    return this.#idle.size + this.#active.size + this.#tested.size + this.#openings.size;
  }

  /** Servers that are lent now. */
  get lent(): Iterable<Server> {
    return this.#active;
  }

  /** Settings in force. */
  get options(): PoolOptions {
    return this.#options;
  }

  get unused(): boolean {
    return this.size + this.#waiters.size === 0 && this.#floor === 0;
  }

  /** Servers to keep though nobody needs them now. */
  get #floor(): number {
    const { minPoolSize, poolSize } = this.#options;
    const kept = minPoolSize > 0 && this.#supply.inDemand() ? minPoolSize : 0;
    return Math.min(Math.max(kept, this.#wanted), poolSize);
  }

  /** Takes new settings. Servers that are too many leave as they become idle. */
  reconfigure(options: PoolOptions): void {
    this.#options = options;
    this.#waiters.resize(options.waitQueueMax);
    this.#openings.reconfigure(options);
    while (this.#idle.size > 0 && this.size > options.poolSize) this.evictIdle("pool_size");
    this.#reserve?.cancel();
    this.#reserve = null;
    this.#serve();
    this.#refill();
  }

  /** While the gate is shut: has servers ready for so many, none of which is lent before. */
  prepare(wanted: number): void {
    assert(this.#openings.gateIsShut, "prepared behind its gate");
    this.#wanted = wanted;
    this.#refill();
  }

  /** Its member leads, under this epoch: those of its servers that say so themselves can be lent from now on. */
  openGate(epoch: number): void {
    this.#identity = { ...this.#identity, epoch };
    this.#wanted = 0;
    this.#openings.openGate();
  }

  /** Cut for good: ask for another pool. */
  get fenced(): boolean {
    return this.#fenced;
  }

  /** A server now; or null: the waiter stands in the queue, or has already been refused. The caller lends it to its holder. */
  acquire(waiter: Waiter): Server | null {
    assert(!this.#fenced && !this.#openings.gateIsShut, "acquired from a pool that is fenced, or not open yet");
    if (this.#waiters.size === 0) {
      const server = this.#idle.next(this.#options.serverRoundRobin);
      if (server !== undefined && !mustCheck(server, this.#options, this.#clock.now())) {
        this.#idle.remove(server);
        return this.#take(server);
      }
    }
    const full = this.#waiters.add(waiter, this.#clock.now());
    if (full !== null) waiter.refused(full);
    else this.#serve();
    return null;
  }

  /** The waiter has lost interest. */
  leave(waiter: Waiter): void {
    this.#waiters.remove(waiter);
    if (this.#waiters.size === 0) this.#share.relent();
  }

  /** Why a client waits, as a sentence. */
  get obstacle(): string {
    const full = this.size >= this.#options.poolSize ? null : (this.#openings.obstacle ?? this.#share.obstacle);
    return full ?? "All servers of the pool are in use.";
  }

  #take(server: Server): Server {
    this.#active.add(server);
    this.counters.leases += 1;
    return server;
  }

  /** Takes a lent server back, clean, dirty or closed: what is not clean is made clean or closed. */
  release(server: Server, mode: ReleaseMode): void {
    assert(this.#active.delete(server), "released a server that was not lent");
    if (server.state === "closed") return this.#serve();
    if (this.#fenced) return server.close(deposed);
    const spoiltBy = spoilt(server);
    if (spoiltBy !== null) return this.#discard(server, spoiltBy);
    if (mode === "session" && this.identity.dedicated !== undefined) return this.#discard(server, "client left");
    if (!server.cancels.none) return this.#awaitCancels(server, mode);
    if (isClean(server, mode, this.#options)) {
      if (server.state === "active") server.takeBack(this.#clock.now());
      return this.#offer(server);
    }
    clean(this.#tested, server, mode, this.#options, this.#supply.login().connectQuery, (cleaned) => {
      if (cleaned === "clean") this.#offer(server);
      else if (cleaned === "failed") this.#discard(server, "reset failed");
      else this.#roleDropped(server);
    });
  }

  /** A cancel request that has not arrived yet would hit whatever runs next, a reset query included. */
  #awaitCancels(server: Server, mode: ReleaseMode): void {
    if (server.state === "active") server.takeBack(this.#clock.now());
    this.#tested.awaitCancels(server, () => {
      this.#active.add(server);
      this.release(server, mode);
    });
  }

  /** Its session belongs to a role that is no more: so do those of all others here. */
  #roleDropped(server: Server): void {
    for (const each of [...this.#active, ...this.#tested.all()]) each.doubtful = true;
    for (const each of [server, ...this.#idle.all()]) this.#discard(each, "its role was dropped");
  }

  /** An idle server, in no list: to the oldest waiter, or to the others that are idle. */
  #offer(server: Server): void {
    if (this.#fenced) return server.close(deposed);
    const waitingSince = this.#waiters.oldest;
    const superfluous = this.#superfluous(server, waitingSince);
    if (superfluous !== null) return this.#discard(server, superfluous);
    const waiter = this.#waiters.shift();
    if (waiter !== null) waiter.granted(this.#take(server));
    else {
      this.#idle.add(server);
      this.#share.spare();
    }
    if (this.#waiters.size > 0) this.#serve();
  }

  /** Why a server that is in no list should not be kept; null where it should. */
  #superfluous(server: Server, waitingSince: Millis | null): string | null {
    // It would be taken for an answer to whoever comes next.
    if (server.midMessage) return "it said more than it was asked";
    if (isExpired(server, this.#options, server.idleSince)) return "server_lifetime";
    const { poolSize, reservePoolSize } = this.#options;
    if (this.size >= poolSize + (waitingSince === null ? 0 : reservePoolSize)) return "pool_size";
    if (this.#share.exceeded) return "max_db_connections or max_user_connections";
    return waitingSince !== null && this.#share.cedes(waitingSince) ? "another pool has none" : null;
  }

  #discard(server: Server, reason: string): void {
    server.close({ kind: "ours", reason });
  }

  /** Finds servers for those who wait: idle ones first, asked whether they still answer where they are old, then new ones. */
  #serve(): void {
    if (this.#fenced) return;
    while (this.#waiters.size > this.#underway) {
      const server = this.#idle.next(this.#options.serverRoundRobin);
      if (server === undefined) break;
      this.#idle.remove(server);
      const waiter = mustCheck(server, this.#options, this.#clock.now()) ? null : this.#waiters.shift();
      if (waiter === null) this.#check(server);
      else waiter.granted(this.#take(server));
    }
    this.#open();
  }

  /** Servers that will soon be there for those who wait. */
  get #underway(): number {
    return this.#openings.underway + this.#tested.checks;
  }

  #check(server: Server): void {
    this.#tested.check(server, this.#options.serverCheckQuery ?? "", (answers) => {
      if (answers) this.#offer(server);
      else this.#discard(server, "server_check_query failed");
    });
  }

  /** Opens as many connections as there are waiters, up to the size of the pool; beyond it for those who have waited too long. */
  #open(): void {
    if (this.#waiters.size === 0) return;
    this.#openFor(this.#waiters.size, this.#options.poolSize);
    const { poolSize, reservePoolSize, reservePoolTimeoutMs } = this.#options;
    if (reservePoolSize === 0 || reservePoolTimeoutMs === 0 || this.size < poolSize) return;
    const late = this.#clock.now() - reservePoolTimeoutMs;
    const { count, next } = this.#waiters.overdue(late, this.#underway + reservePoolSize);
    this.#openFor(count, poolSize + reservePoolSize);
    if (next === null || this.#reserve !== null || this.size >= poolSize + reservePoolSize) return;
    this.#reserve = this.#clock.after(millis(next - late), () => {
      this.#reserve = null;
      this.#serve();
    });
  }

  #openFor(waiters: number, size: number): void {
    while (!this.#openings.paused && waiters > this.#underway && this.size < size && this.#share.take()) {
      this.#openings.start();
    }
  }

  /** Opens what is missing to `min_pool_size`, as far as there is room. */
  #refill(): void {
    if (this.#fenced || this.#clock.now() < this.#refillAt) return;
    const floor = this.#floor;
    while (this.size < floor && !this.#openings.paused && this.#share.takeFree()) this.#openings.start();
  }

  // OpeningsSink

  loggedIn(server: Server, inRecovery: boolean | null): void {
    this.counters.logins += 1;
    this.#observer.loggedIn(this, server.parameters, inRecovery);
  }

  opened(server: Server): void {
    this.#refillAt = 0;
    this.#offer(server);
  }

  loginFailed(failure: LoginFailure): void {
    this.counters.loginFailures += 1;
    // A leader that starts refuses for a while: to be expected, and its probes tell of it.
    if (this.#openings.gateIsShut && failure.transient) return this.#share.give();
    this.#failed(failure, "server login failed");
    // Too many connections, say, is no sign that the member is going.
    const away = failure.transient && (failure.kind === "unreachable" || isShutdown(failure.fields));
    if (away) this.#observer.failed(this, failure.reason);
    if (!failure.transient) this.#refuse(failure);
    this.#share.give();
  }

  refused(failure: LoginFailure): void {
    this.#failed(failure, "connect_query failed");
    if (!failure.transient) this.#refuse(failure);
  }

  #failed({ reason }: LoginFailure, what: string): void {
    this.#refillAt = this.#clock.now() + REFILL_RETRY_MS;
    const { endpoint, user, database } = this.identity;
    this.#logger.warn({ member: endpoint.member, user, database, reason }, what);
  }

  /** Waiting will not help. */
  #refuse(failure: LoginFailure): void {
    const error = loginError(failure);
    const refused = this.#waiters.drain();
    this.#share.relent();
    for (const waiter of refused) waiter.refused(error);
  }

  serverClosed(server: Server, cause: LossCause): void {
    this.counters.serversClosed += 1;
    this.#idle.remove(server);
    this.#tested.forget(server);
    this.#openings.lost(server);
    // An active one stays listed until its holder, who hears of it next, releases it.
    const { endpoint, user, database } = this.identity;
    const level = cause.kind === "violation" ? "error" : "debug";
    this.#logger[level]({ member: endpoint.member, user, database, reason: cause.reason }, "server connection closed");
    if (memberIsGoing(cause)) this.#observer.failed(this, cause.reason);
    this.#share.give();
    this.#serve();
  }

  // QuotaMember

  get waitingSince(): Millis | null {
    return this.#waiters.oldest;
  }

  get idleSince(): Millis | null {
    return this.#idle.oldest?.idleSince ?? null;
  }

  evictIdle(reason = "its place is needed by another pool"): void {
    const server = this.#idle.oldest;
    if (server !== undefined) this.#discard(server, reason);
  }

  retry(): void {
    this.#serve();
    if (this.#wanted > 0) this.#refill();
  }

  /** Closes idle servers that are too old or too long unused, and opens what is missing to `min_pool_size`. */
  sweep(): void {
    const now = this.#clock.now();
    const floor = this.#floor;
    for (const server of this.#idle.all()) {
      // Closing one can move others.
      const reason = this.#idle.has(server) ? outlived(server, this.#options, now, this.size > floor) : null;
      if (reason !== null) this.#discard(server, reason);
    }
    this.#refill();
  }

  /** Cuts every connection at once, whatever TCP thinks, and sends the waiters elsewhere. For good. */
  fence(reason: string): void {
    if (this.#fenced) return;
    this.#fenced = true;
    this.#reserve?.cancel();
    this.#share.leave();
    const { logins } = this.#openings;
    const servers = [...this.#idle.all(), ...this.#tested.all(), ...this.#openings.early, ...this.#active];
    this.#openings.abort();
    for (let login = 0; login < logins; login += 1) this.#share.give();
    for (const server of servers) server.close({ kind: "fenced", reason });
    for (const waiter of this.#waiters.drain()) waiter.evicted();
  }

  /** Sends the waiters elsewhere; connections stay. */
  evictWaiters(): void {
    const evicted = this.#waiters.drain();
    this.#share.relent();
    for (const waiter of evicted) waiter.evicted();
  }
}
