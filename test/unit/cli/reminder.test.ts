import { describe, expect, test } from "vitest";
import { remindOfLostSources } from "../../../src/cli/reminder.ts";
import { type Logger, silentLogger } from "../../../src/core/logger.ts";
import type { TopologyFeed } from "../../../src/discovery/feed.ts";
import type { Topology } from "../../../src/discovery/topology.ts";
import { FakeClock } from "../../support/fake-clock.ts";
import { none, topology } from "../metrics/fixture.ts";

function setUp() {
  const clock = new FakeClock();
  const said: string[] = [];
  const logger: Logger = {
    ...silentLogger,
    error: (fields, message) => said.push(`${fields["seconds"]} s, ${fields["reason"]}: ${message}`),
  };
  const connected = topology();
  const lost = (of: Topology): Topology => ({ ...of, source: { ...of.source, connected: false, reason: "refused" } });
  const state = { now: lost(topology(none)) };
  const feed: TopologyFeed = {
    current: () => state.now,
    subscribe: () => () => {},
    setUrgent: () => {},
    report: () => {},
  };
  const timer = remindOfLostSources(clock, logger, new Map([["main", feed]]));
  return { clock, said, state, connected, lost, timer };
}

describe("a source that does not answer", () => {
  test("is said loudly a few seconds after the start, and again every half minute", async () => {
    const { clock, said } = setUp();
    await clock.advance(3_000);
    expect(said).toEqual([]);
    await clock.advance(1_000);
    expect(said).toEqual(["3 s, refused: etcd does not answer: clients that need a leader wait"]);
    await clock.advance(60_000);
    expect(said).toHaveLength(3);
  });

  test("is not said of one that answers, or that comes back soon", async () => {
    const { clock, said, state, connected, lost } = setUp();
    state.now = connected;
    await clock.advance(100_000);
    state.now = lost(connected);
    await clock.advance(2_000);
    state.now = connected;
    await clock.advance(100_000);
    expect(said).toEqual([]);
  });

  test("says that the last leader is still served when it is", async () => {
    const { clock, said, state, connected, lost } = setUp();
    state.now = lost(connected);
    await clock.advance(5_000);
    expect(said[0]).toContain("the last known leader is served while it confirms itself");
  });

  test("is said no more once cancelled", async () => {
    const { clock, said, timer } = setUp();
    timer.cancel();
    await clock.advance(100_000);
    expect(said).toEqual([]);
  });
});
