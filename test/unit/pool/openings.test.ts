// What waits in front of a gate, as far as no PostgreSQL is needed for it; the rest is in test/integration/early-servers.test.ts.

import { afterEach, expect, test } from "vitest";
import { EARLY_RETRY_MS } from "../../../src/core/limits.ts";
import { EARLY } from "../../../src/pool/pool-terms.ts";
import { Holder, PoolBench, until } from "../../support/pool-bench.ts";
import { freePort } from "../../support/ports.ts";

let bench: PoolBench | undefined;
afterEach(() => bench?.fence());

test("in front of the gate a login that fails is tried again soon, in silence, and opening it ends the pause", async () => {
  // Nobody listens: a leader that starts.
  bench = new PoolBench(await freePort());
  const pool = bench.pool({ identity: { epoch: EARLY } });
  pool.prepare(1);
  await until("the first login fails", () => pool.counters.loginFailures === 1);
  for (const failures of [2, 3, 4]) {
    await bench.clock.advance(EARLY_RETRY_MS - 1);
    expect(pool.counts.login).toBe(0);
    await bench.clock.advance(1);
    await until("it is tried again", () => pool.counters.loginFailures === failures);
  }
  expect(bench.observed).toEqual([]);
  pool.openGate(7);
  expect(pool.identity.epoch).toBe(7);
  // Nobody is wanted any more but whoever comes; what fails now is told.
  const holder = new Holder(pool).acquire();
  await until("the login fails", () => bench?.observed.includes("failed"));
  pool.leave(holder);
});

test("in front of the gate there are never more logins than the pool may have", async () => {
  bench = new PoolBench(await freePort());
  const pool = bench.pool({ identity: { epoch: EARLY }, options: { poolSize: 3 } });
  pool.prepare(50);
  expect(pool.size).toBe(3);
  pool.prepare(60);
  expect(pool.size).toBe(3);
});
