// Pools that share limits, under whatever their clients do: no limit is exceeded, clients of a pool are served in their order, and
// everybody is served in the end, even beside a pool whose clients never stop coming.

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CEDE_AFTER_MS } from "../../../src/core/limits.ts";
import type { Pool } from "../../../src/pool/pool.ts";
import { FakePostgres } from "../../support/fake-postgres.ts";
import { Holder, PoolBench, until } from "../../support/pool-bench.ts";

let postgres: FakePostgres;

beforeAll(async () => {
  postgres = await FakePostgres.start();
});

afterAll(async () => {
  await postgres.stop();
});

const databases = ["one", "two"] as const;
const users = ["ann", "bob"] as const;
const pairs = databases.flatMap((database) => users.map((user) => ({ database, user })));

type Command =
  | { readonly kind: "acquire"; readonly pool: number }
  | { readonly kind: "release" | "leave" | "break"; readonly which: number }
  | { readonly kind: "wait"; readonly ms: number }
  | { readonly kind: "limit"; readonly database: number; readonly user: number }
  | { readonly kind: "resize"; readonly pool: number; readonly size: number };

const which = fc.nat(50);
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("acquire" as const), pool: fc.nat(pairs.length - 1) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("release" as const), which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("leave" as const), which }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("break" as const), which }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.constantFrom(0, 50, 120, 6_000, 40_000) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("limit" as const), database: fc.nat(4), user: fc.nat(4) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("resize" as const),
      pool: fc.nat(pairs.length - 1),
      size: fc.integer({ min: 1, max: 3 }),
    }),
  },
);

const busyOnes = fc.subarray([0, 1, 2, 3], { minLength: 1, maxLength: 3 });

/** Four pools with their clients; limits that hold over several of them. */
class World {
  readonly limits = { database: 2, user: 3 };
  readonly bench = new PoolBench(postgres.port, {
    database: () => this.limits.database,
    user: () => this.limits.user,
  });
  readonly pools: readonly Pool[];
  /** Clients that wait or hold. */
  readonly clients: Holder[] = [];
  /** What each count may be: its limit, or what it was when the limit fell below. */
  readonly #ceilings = new Map<string, number>();
  /** Who waits, oldest first. */
  readonly #queues = new Map<Pool, Holder[]>();
  readonly #faults: string[] = [];

  constructor() {
    this.pools = pairs.map((identity) =>
      this.bench.pool({
        identity,
        options: { poolSize: 2, minPoolSize: 1, reservePoolSize: 1, waitQueueMax: 100, serverLifetimeMs: 30_000 },
      }),
    );
  }

  acquire(pool: Pool): Holder {
    const client = new Holder(pool);
    const queue = this.#queues.get(pool) ?? [];
    this.#queues.set(pool, queue);
    queue.push(client);
    const granted = client.granted.bind(client);
    client.granted = (server) => {
      if (queue[0] !== client) this.#faults.push("a client was served before an older one");
      queue.splice(queue.indexOf(client), 1);
      granted(server);
    };
    return client.acquire();
  }

  #leave(client: Holder): void {
    const queue = this.#queues.get(client.pool);
    queue?.splice(queue.indexOf(client), 1);
    client.pool.leave(client);
  }

  run(next: Command): void {
    const pick = (from: readonly Holder[], at: number): Holder | undefined => from[at % Math.max(1, from.length)];
    const { pools, clients, bench } = this;
    switch (next.kind) {
      case "acquire":
        if (pools[next.pool]) clients.push(this.acquire(pools[next.pool] as Pool));
        return;
      case "release": {
        const client = pick(
          clients.filter(({ server }) => server !== null),
          next.which,
        );
        if (client === undefined) return;
        clients.splice(clients.indexOf(client), 1);
        return client.release(next.which % 3 === 0 ? "session" : "transaction");
      }
      case "leave": {
        const client = pick(
          clients.filter(({ server }) => server === null),
          next.which,
        );
        if (client === undefined) return;
        clients.splice(clients.indexOf(client), 1);
        return this.#leave(client);
      }
      case "break":
        return postgres.breakOne(next.which);
      case "limit":
        Object.assign(this.limits, { database: next.database, user: next.user });
        return bench.quotas.reconfigure({
          database: () => this.limits.database,
          user: () => this.limits.user,
        });
      case "resize": {
        const pool = pools[next.pool];
        return pool?.reconfigure({ ...pool.options, poolSize: next.size });
      }
      case "wait":
        return;
    }
  }

  /** Clients whose server broke have no claim any more. */
  forgetTheLost(): void {
    for (const client of [...this.clients]) {
      if (client.cause !== null) this.clients.splice(this.clients.indexOf(client), 1);
    }
  }

  check(): void {
    expect(this.#faults).toEqual([]);
    for (const pool of this.pools) {
      const { poolSize, reservePoolSize } = pool.options;
      this.#keeps(JSON.stringify(pool.identity), pool.size, poolSize + reservePoolSize);
    }
    const sizes = (key: "database" | "user", name: string): number =>
      this.pools.filter(({ identity }) => identity[key] === name).reduce((sum, { size }) => sum + size, 0);
    for (const name of databases) this.#keeps(`database ${name}`, sizes("database", name), this.limits.database);
    for (const name of users) this.#keeps(`user ${name}`, sizes("user", name), this.limits.user);
  }

  #keeps(what: string, count: number, limit: number): void {
    const most = limit === 0 ? Number.POSITIVE_INFINITY : limit;
    const ceiling = Math.max(most, this.#ceilings.get(what) ?? most);
    expect(count, `${what}, limit ${limit}`).toBeLessThanOrEqual(ceiling);
    this.#ceilings.set(what, count);
  }

  get opening(): boolean {
    return this.pools.some(({ counts }) => counts.login + counts.tested > 0);
  }

  /** The clients of some pools come back as soon as they have left; all others are served meanwhile, and leave. */
  async everybodyIsServed(busy: readonly Pool[]): Promise<void> {
    const others = this.clients.filter(({ pool }) => !busy.includes(pool));
    const crowd = this.clients.filter(({ pool }) => busy.includes(pool));
    for (const pool of busy) for (let count = 0; count < 3; count += 1) crowd.push(this.acquire(pool));
    for (let round = 0; others.some(({ log, cause }) => log.length === 0 && cause === null); round += 1) {
      expect(round, "rounds until everybody is served").toBeLessThan(300);
      for (const client of others) client.release();
      for (const client of [...crowd]) {
        if (client.server === null && client.cause === null) continue;
        crowd.splice(crowd.indexOf(client), 1, this.acquire(client.pool));
        client.release();
      }
      await this.bench.clock.advance(60);
      await until("connections are open", () => !this.opening);
      this.check();
    }
  }
}

describe("pools that share limits", () => {
  test("keep them all, serve each pool's clients in their order, and starve nobody", { timeout: 60_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 40 }), busyOnes, async (commands, busy) => {
        const world = new World();
        try {
          for (const next of commands) {
            world.run(next);
            world.check();
            if (next.kind === "wait") {
              await world.bench.clock.advance(next.ms);
              await until("connections are open", () => !world.opening);
              for (const pool of world.pools) pool.sweep();
            }
            world.forgetTheLost();
            world.check();
          }
          await world.everybodyIsServed(world.pools.filter((_pool, index) => busy.includes(index)));
        } finally {
          world.bench.fence();
        }
        expect(world.pools.map(({ size }) => size)).toEqual([0, 0, 0, 0]);
      }),
      { numRuns: 60 },
    );
  });

  test("keep what was ceded under one limit until there is room under the other, or nobody waits any more", async () => {
    const bench = new PoolBench(postgres.port, { database: () => 1, user: () => 1 });
    const [oneAnn, oneBob, , twoBob] = pairs.map((identity) => bench.pool({ identity }));
    if (!oneAnn || !oneBob || !twoBob) throw new Error("four pools");
    const [ann, bob] = [new Holder(oneAnn), new Holder(twoBob)];
    await Promise.all([ann.acquired(), bob.acquired()]);
    const poor = new Holder(oneBob).acquire();
    await bench.clock.advance(CEDE_AFTER_MS);
    const nextAnn = new Holder(oneAnn).acquire();
    const nextBob = new Holder(twoBob).acquire();
    ann.release();
    await bench.clock.advance(CEDE_AFTER_MS);
    expect([oneAnn.size, oneBob.size, twoBob.size]).toEqual([0, 0, 1]);
    bob.release();
    expect([oneAnn.size, oneBob.size, twoBob.size]).toEqual([0, 1, 0]);
    await until("it is served", () => poor.server);
    expect([nextAnn.server, nextBob.server]).toEqual([null, null]);
    poor.release();
    await until("the others are, too", () => nextAnn.server !== null && nextBob.server !== null);

    const other = new Holder(oneBob).acquire();
    await bench.clock.advance(CEDE_AFTER_MS);
    const lastAnn = new Holder(oneAnn).acquire();
    nextAnn.release();
    expect([oneAnn.size, lastAnn.server]).toEqual([0, null]);
    oneBob.leave(other);
    await until("what was kept is given back", () => lastAnn.server);
    bench.fence();
  });

  test("a lower limit takes back what was kept for a pool", async () => {
    const limits = { database: 1, user: 2 };
    const bench = new PoolBench(postgres.port, { database: () => limits.database, user: () => limits.user });
    const [oneAnn, oneBob, twoAnn] = pairs.map((identity) => bench.pool({ identity }));
    if (!oneAnn || !oneBob || !twoAnn) throw new Error("four pools");
    const [bob, ann] = [new Holder(oneBob), new Holder(twoAnn)];
    await Promise.all([bob.acquired(), ann.acquired()]);
    const poor = new Holder(oneAnn).acquire();
    await bench.clock.advance(CEDE_AFTER_MS);
    Object.assign(limits, { database: 0, user: 1 });
    bench.quotas.reconfigure({ database: () => limits.database, user: () => limits.user });
    expect([oneAnn.size, twoAnn.size]).toEqual([0, 1]);
    ann.release();
    await until("it is served in the other's place", () => poor.server);
    expect([oneAnn.size, twoAnn.size]).toEqual([1, 0]);
    bench.fence();
  });
});
