// All pools of one cluster, by identity; makes them on demand, sweeps them, fences them.

import type { Clock, Timer } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { millis } from "../core/units.ts";
import { Pool } from "./pool.ts";
import type { Place, PoolCounters, PoolIdentity, PoolObserver, PoolOptions, PoolSupply } from "./pool-terms.ts";
import type { Quotas } from "./quotas.ts";

const SWEEP_EVERY_MS = 1_000;
/** Members and purposes whose counters outlive their pools; beyond it the one that was retired first is forgotten. */
const RETIRED_TOTALS_MAX = 256;

/** Counters of all pools of a member and purpose since the start. */
export interface PoolTotals {
  readonly member: string;
  readonly purpose: "write" | "read";
  readonly counters: Readonly<PoolCounters>;
}

const keyOf = (identity: PoolIdentity): string =>
  JSON.stringify([
    identity.endpoint.member,
    identity.endpoint.host,
    identity.endpoint.port,
    identity.purpose,
    identity.epoch,
    identity.database,
    identity.dbname,
    identity.user,
    identity.dedicated?.client ?? 0,
  ]);

/** The settings of the pools of a place. */
export type OptionsOf = (place: Place) => PoolOptions;

export class Pools {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #quotas: Quotas;
  readonly #observer: PoolObserver;
  readonly #pools = new Map<string, Pool>();
  /** Counters of pools that are gone. */
  readonly #retired = new Map<string, PoolTotals>();
  readonly #sweeper: Timer;
  #options: OptionsOf;

  constructor(clock: Clock, logger: Logger, quotas: Quotas, options: OptionsOf, observer: PoolObserver) {
    this.#clock = clock;
    this.#logger = logger;
    this.#quotas = quotas;
    this.#options = options;
    this.#observer = observer;
    this.#sweeper = clock.every(millis(SWEEP_EVERY_MS), () => this.#sweep());
  }

  /** Takes new settings, for the pools that there are, too. */
  reconfigure(options: OptionsOf): void {
    this.#options = options;
    for (const pool of this.#pools.values()) pool.reconfigure(options(pool.identity));
  }

  /** The pool of this identity; keep it while it is not fenced. One that has to be made lives on `supply`. */
  of(identity: PoolIdentity, supply: PoolSupply): Pool {
    const key = keyOf(identity);
    const known = this.#pools.get(key);
    if (known !== undefined) return known;
    const options = this.#options(identity);
    const pool = new Pool(this.#clock, this.#logger, this.#quotas, identity, supply, options, this.#observer);
    this.#pools.set(key, pool);
    // Opens the minimum.
    pool.sweep();
    return pool;
  }

  /** An early pool becomes that of its member's leadership `epoch`. False where there is one already: then it stays early. */
  openGate(pool: Pool, epoch: number): boolean {
    const key = keyOf({ ...pool.identity, epoch });
    if (this.#pools.has(key)) return false;
    this.#pools.delete(keyOf(pool.identity));
    this.#pools.set(key, pool);
    pool.openGate(epoch);
    return true;
  }

  all(): Iterable<Pool> {
    return this.#pools.values();
  }

  /** Counters since the start, by member and purpose, of pools that are gone too. */
  totals(): readonly PoolTotals[] {
    const totals = new Map(this.#retired);
    for (const pool of this.#pools.values()) addTotals(totals, pool);
    return [...totals.values()];
  }

  #retire(key: string, pool: Pool, reason: string): void {
    this.#pools.delete(key);
    pool.fence(reason);
    addTotals(this.#retired, pool);
    for (const oldest of this.#retired.keys()) {
      if (this.#retired.size <= RETIRED_TOTALS_MAX) break;
      this.#retired.delete(oldest);
    }
  }

  /** Fences, for good, each pool that `condemned` names. Returns how many connections that cut. */
  fence(condemned: (identity: PoolIdentity) => boolean, reason: string): number {
    let cut = 0;
    for (const [key, pool] of [...this.#pools]) {
      if (!condemned(pool.identity)) continue;
      cut += pool.size;
      this.#retire(key, pool, reason);
    }
    return cut;
  }

  /** Waiters of these pools are sent elsewhere; the connections stay. */
  evictWaiters(which: (identity: PoolIdentity) => boolean): void {
    for (const pool of [...this.#pools.values()]) if (which(pool.identity)) pool.evictWaiters();
  }

  close(): void {
    this.#sweeper.cancel();
    this.fence(() => true, "shutting down");
  }

  #sweep(): void {
    for (const [key, pool] of this.#pools) {
      pool.sweep();
      if (!pool.unused) continue;
      // Fenced, so that whoever kept it asks for a new one.
      this.#retire(key, pool, "unused");
    }
  }
}

function addTotals(totals: Map<string, PoolTotals>, { identity, counters }: Pool): void {
  const { purpose, endpoint } = identity;
  const key = `${purpose} ${endpoint.member}`;
  const sum = { ...(totals.get(key)?.counters ?? { logins: 0, loginFailures: 0, serversClosed: 0, leases: 0 }) };
  sum.logins += counters.logins;
  sum.loginFailures += counters.loginFailures;
  sum.serversClosed += counters.serversClosed;
  sum.leases += counters.leases;
  totals.set(key, { member: endpoint.member, purpose, counters: sum });
}
