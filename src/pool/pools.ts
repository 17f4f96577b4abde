// All pools of one cluster, by identity; makes them on demand, sweeps them, fences them.

import type { Clock, Timer } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { millis } from "../core/units.ts";
import { Pool, type PoolIdentity, type PoolLogin, type PoolObserver, type PoolOptions } from "./pool.ts";

const SWEEP_EVERY_MS = 1_000;

const keyOf = (identity: PoolIdentity): string =>
  JSON.stringify([
    identity.endpoint.member,
    identity.endpoint.host,
    identity.endpoint.port,
    identity.purpose,
    identity.epoch,
    identity.database,
    identity.user,
  ]);

export class Pools {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #observer: PoolObserver;
  readonly #pools = new Map<string, Pool>();
  readonly #sweeper: Timer;
  #options: PoolOptions;

  constructor(clock: Clock, logger: Logger, options: PoolOptions, observer: PoolObserver) {
    this.#clock = clock;
    this.#logger = logger;
    this.#options = options;
    this.#observer = observer;
    this.#sweeper = clock.every(millis(SWEEP_EVERY_MS), () => this.#sweep());
  }

  /** Settings for pools that are made from now on. */
  reconfigure(options: PoolOptions): void {
    this.#options = options;
  }

  /** The pool of this identity; keep it while it is not fenced. `login` is used where it has to be made. */
  of(identity: PoolIdentity, login: () => PoolLogin): Pool {
    const key = keyOf(identity);
    let pool = this.#pools.get(key);
    if (pool === undefined) {
      pool = new Pool(this.#clock, this.#logger, identity, login(), this.#options, this.#observer);
      this.#pools.set(key, pool);
    }
    return pool;
  }

  all(): Iterable<Pool> {
    return this.#pools.values();
  }

  /** Fences, for good, each pool that `condemned` names. */
  fence(condemned: (identity: PoolIdentity) => boolean, reason: string): void {
    for (const [key, pool] of [...this.#pools]) {
      if (!condemned(pool.identity)) continue;
      this.#pools.delete(key);
      pool.fence(reason);
    }
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
      this.#pools.delete(key);
      pool.fence("unused");
    }
  }
}
