import { describe, expect, test } from "vitest";
import { COORDINATION_READ_MS } from "../../../src/core/limits.ts";
import { silentLogger } from "../../../src/core/logger.ts";
import type { TopologyFeed } from "../../../src/discovery/feed.ts";
import type { Topology } from "../../../src/discovery/topology.ts";
import { Coordinator } from "../../../src/proxy/coordinator.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { topology } from "../metrics/fixture.ts";

/** Discovery as it is without a cluster: says what the test says. */
class Feed implements TopologyFeed {
  readonly #listeners = new Set<(now: Topology, before: Topology) => void>();
  #topology = topology();
  current = () => this.#topology;
  setUrgent = () => {};
  report = () => {};

  subscribe(listener: (now: Topology, before: Topology) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  says(now: Topology): void {
    const before = this.#topology;
    this.#topology = now;
    for (const listener of this.#listeners) listener(now, before);
  }
}

const etcd = { endpoints: ["http://127.0.0.1:1"], credentials: null, tls: null };
const router = { id: "r1", version: "0", host: "h", http: null };
const work = { steering: { pools: () => [], heldCount: 0 }, clients: () => [] };

describe("a router whose etcd does not answer", () => {
  test("holds for a moment, then follows what discovery says", async () => {
    const clock = new FakeClock();
    const feed = new Feed();
    const coordinator = new Coordinator(clock, silentLogger, feed, { etcd, patroniPrefix: "/service/main/", router });
    const told: string[] = [];
    coordinator.subscribe((now, before) => told.push(`${before.leader.kind} → ${now.leader.kind}`));
    coordinator.start(work);
    expect(coordinator.current().leader.kind).toBe("draining");
    expect(coordinator.standing.state).toBe("holding");
    await clock.advance(COORDINATION_READ_MS - 200);
    expect(told).toEqual([]);
    await clock.advance(400);
    expect(told).toEqual(["draining → writable"]);
    expect(coordinator.standing).toMatchObject({ state: "serving", request: null });
    // Nothing is held: it is discovery's own snapshot, and a change reaches whoever follows within the call.
    expect(coordinator.current()).toBe(feed.current());
    feed.says(topology({ kind: "none", reason: "nobody holds the leader key" }));
    expect(told).toEqual(["draining → writable", "writable → none"]);
    feed.says(feed.current());
    expect(told).toHaveLength(2);
    await coordinator.close();
  });
});
