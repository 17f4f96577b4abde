// Server connections over all pools of the process, per database and per user (max_db_connections, max_user_connections). Where a
// limit is met, an idle server of another pool under the same limit makes room: at once for a pool that has none, for others when it
// was unused for a while. Where none is idle, the pools that need one wait for it, those without any first, then by their oldest client. A pool that never has an idle one cedes a server to one that
// has none; what is ceded under one limit is kept until there is room under the other, so that nobody starves.

import type { Clock, Timer } from "../core/clock.ts";
import { CEDE_AFTER_MS } from "../core/limits.ts";
import { type Millis, millis } from "../core/units.ts";
import type { Place } from "./pool-terms.ts";

/** Connections that a database or a user may have; 0: any number. */
export interface QuotaLimits {
  database(name: string): number;
  user(name: string): number;
}

/** A pool, as a quota sees it. */
export interface QuotaMember {
  readonly identity: Place;
  /** Its connections, those being opened included. */
  readonly size: number;
  /** Since when its oldest client waits; null when none does. */
  readonly waitingSince: Millis | null;
  /** Since when its oldest idle server is; null when none is. */
  readonly idleSince: Millis | null;
  /** Closes that server. */
  evictIdle(): void;
  /** There may be room for what `take` refused. */
  retry(): void;
}

class Quota {
  readonly setting: string;
  readonly of: string;
  limit: number;
  used = 0;
  readonly members = new Set<QuotaMember>();

  constructor(setting: string, of: string, limit: number) {
    this.setting = setting;
    this.of = of;
    this.limit = limit;
  }

  get full(): boolean {
    return this.limit > 0 && this.used >= this.limit;
  }

  get exceeded(): boolean {
    return this.limit > 0 && this.used > this.limit;
  }

  /** The pool whose idle server is unused longest. */
  get idlest(): QuotaMember | null {
    let found: QuotaMember | null = null;
    for (const member of this.members) {
      if (member.idleSince === null) continue;
      if (found === null || member.idleSince < (found.idleSince ?? 0)) found = member;
    }
    return found;
  }

  /** Closes idle servers until the limit is kept, or none is idle. */
  evict(): void {
    while (this.exceeded) {
      const { idlest } = this;
      if (idlest === null) return;
      idlest.evictIdle();
    }
  }
}

export class Quotas {
  readonly #clock: Clock;
  readonly #databases = new Map<string, Quota>();
  readonly #users = new Map<string, Quota>();
  /** Those that were refused a connection which their clients need. */
  readonly #blocked = new Set<Share>();
  #limits: QuotaLimits;
  #waking = false;
  #again = false;
  /** Until the next look at those who are blocked: time alone can help them. */
  #look: Timer | null = null;

  constructor(clock: Clock, limits: QuotaLimits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  /** Takes new limits; connections that are too many are closed as they become idle. */
  reconfigure(limits: QuotaLimits): void {
    this.#limits = limits;
    for (const share of this.#blocked) share.dropClaims();
    for (const quota of this.#databases.values()) quota.limit = limits.database(quota.of);
    for (const quota of this.#users.values()) quota.limit = limits.user(quota.of);
    for (const quota of [...this.#databases.values(), ...this.#users.values()]) quota.evict();
    this.wake();
  }

  /** A new pool's share. */
  join(member: QuotaMember): Share {
    const { database, user } = member.identity;
    return new Share(this, member, [
      quotaOf(this.#databases, "max_db_connections", database, this.#limits.database(database)),
      quotaOf(this.#users, "max_user_connections", user, this.#limits.user(user)),
    ]);
  }

  /** Forgets a quota that nobody has a part in. */
  forget(quota: Quota): void {
    if (quota.members.size > 0 || quota.used > 0) return;
    for (const quotas of [this.#databases, this.#users]) if (quotas.get(quota.of) === quota) quotas.delete(quota.of);
  }

  block(share: Share): void {
    this.#blocked.add(share);
    this.#lookLater();
  }

  #lookLater(): void {
    this.#look ??= this.#clock.after(millis(CEDE_AFTER_MS), () => {
      this.#look = null;
      this.wake();
      if (this.#blocked.size > 0) this.#lookLater();
    });
  }

  unblock(share: Share): void {
    this.#blocked.delete(share);
  }

  get anyBlocked(): boolean {
    return this.#blocked.size > 0;
  }

  /** Closes idle servers for one that was counted already; whoever waits is not woken before it has its place. */
  makeRoom(quotas: readonly Quota[]): void {
    const outer = this.#waking;
    this.#waking = true;
    for (const quota of quotas) quota.evict();
    this.#waking = outer;
    if (!outer && this.#again) this.wake();
  }

  /** Lets those try again for whom there may be room. */
  wake(): void {
    this.#again = this.#waking;
    if (this.#waking || this.#blocked.size === 0) return;
    this.#waking = true;
    do {
      this.#again = false;
      for (const share of this.#inTurn()) {
        if (!this.#blocked.has(share)) continue;
        if (!share.possible) {
          if (this.isNeedy(share)) share.claim();
          continue;
        }
        this.#blocked.delete(share);
        share.member.retry();
      }
    } while (this.#again);
    this.#waking = false;
  }

  #inTurn(): Share[] {
    for (const share of this.#blocked) if (share.member.waitingSince === null) share.relent();
    const since = ({ member }: Share): number => member.waitingSince ?? 0;
    const poor = ({ member }: Share): number => (member.size === 0 ? 0 : 1);
    return [...this.#blocked].sort((a, b) => poor(a) - poor(b) || since(a) - since(b));
  }

  /** Whether a pool without any server, whose client waits since before `since`, lacks room under one of `quotas`. */
  needy(quotas: readonly Quota[], since: Millis): boolean {
    for (const share of this.#blocked) {
      const { waitingSince } = share.member;
      if (waitingSince === null || waitingSince >= since || !this.isNeedy(share)) continue;
      if (share.lacking.some((quota) => quota.full && quotas.includes(quota))) return true;
    }
    return false;
  }

  /** Whether an idle server may be closed for it now. */
  mayEvict({ member }: Share, idlest: QuotaMember | null): boolean {
    const since = idlest?.idleSince ?? null;
    return since !== null && (member.size === 0 || this.#clock.now() - since >= CEDE_AFTER_MS);
  }

  /** It has no server at all, and has waited long enough to get one of others'. */
  isNeedy({ member: { size, waitingSince } }: Share): boolean {
    return size === 0 && waitingSince !== null && this.#clock.now() - waitingSince >= CEDE_AFTER_MS;
  }
}

function quotaOf(quotas: Map<string, Quota>, setting: string, of: string, limit: number): Quota {
  const known = quotas.get(of);
  if (known !== undefined) return known;
  const quota = new Quota(setting, of, limit);
  quotas.set(of, quota);
  return quota;
}

/** One pool's part in the quotas of its database and its user. */
export class Share {
  readonly member: QuotaMember;
  readonly quotas: readonly Quota[];
  readonly #all: Quotas;
  /** Room that is kept for it. */
  readonly #claims = new Set<Quota>();

  constructor(all: Quotas, member: QuotaMember, quotas: readonly Quota[]) {
    this.#all = all;
    this.member = member;
    this.quotas = quotas;
    for (const quota of quotas) quota.members.add(member);
  }

  /** Room for one more connection, which is counted from now on. False, and `retry` is called in time, where there is none. */
  take(): boolean {
    if (!this.possible) {
      this.#all.block(this);
      return false;
    }
    const { lacking } = this;
    for (const quota of lacking) quota.used += 1;
    this.#all.makeRoom(lacking);
    if (lacking.some((quota) => quota.exceeded)) {
      for (const quota of lacking) quota.used -= 1;
      this.#all.block(this);
      return false;
    }
    this.#claims.clear();
    return true;
  }

  /** Where it has no room of its own yet. */
  get lacking(): readonly Quota[] {
    return this.#claims.size === 0 ? this.quotas : this.quotas.filter((quota) => !this.#claims.has(quota));
  }

  /** Keeps what room there is under one quota until there is some under the other, too. */
  claim(): void {
    for (const quota of this.lacking) {
      if (quota.full) continue;
      quota.used += 1;
      this.#claims.add(quota);
    }
  }

  /** Nobody waits any more. */
  relent(): void {
    this.#all.unblock(this);
    if (this.#claims.size === 0) return;
    this.dropClaims();
    this.#all.wake();
  }

  /** Gives back what was kept for it: a new limit may leave no room for that. */
  dropClaims(): void {
    for (const quota of this.#claims) quota.used -= 1;
    this.#claims.clear();
  }

  /** The same for a connection that nobody waits for: nothing is closed for it. */
  takeFree(): boolean {
    if (this.quotas.some((quota) => quota.full)) return false;
    for (const quota of this.quotas) quota.used += 1;
    return true;
  }

  /** A connection is gone. */
  give(): void {
    for (const quota of this.quotas) {
      quota.used -= 1;
      this.#all.forget(quota);
    }
    this.#all.wake();
  }

  /** The pool has an idle server that it does not need now. */
  spare(): void {
    if (this.#all.anyBlocked) this.#all.wake();
  }

  /** Whether there is room, or could be made. */
  get possible(): boolean {
    return this.lacking.every((quota) => !quota.full || this.#all.mayEvict(this, quota.idlest));
  }

  /** There are more connections than a reload allows. */
  get exceeded(): boolean {
    for (const quota of this.quotas) if (quota.exceeded) return true;
    return false;
  }

  /** Whether a server that is free now should rather be closed for another pool than go to a client that waits since `since`. */
  cedes(since: Millis): boolean {
    return this.#all.anyBlocked && this.#all.needy(this.quotas, since);
  }

  /** The limit that is met, as a sentence; null when none is. */
  get obstacle(): string | null {
    const full = this.quotas.find((quota) => quota.full);
    return full === undefined ? null : `${full.setting} is ${full.limit} for "${full.of}", and all are in use.`;
  }

  /** The pool is no more. Connections that it still has are given back one by one. */
  leave(): void {
    this.relent();
    for (const quota of this.quotas) {
      quota.members.delete(this.member);
      this.#all.forget(quota);
    }
  }
}
