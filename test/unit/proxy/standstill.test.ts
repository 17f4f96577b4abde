import { describe, expect, test } from "vitest";
import { COORDINATION_READ_MS, SWITCHOVER_HOLD_MS } from "../../../src/core/limits.ts";
import { millis } from "../../../src/core/units.ts";
import type { CoordinationRequest } from "../../../src/discovery/coordination-keys.ts";
import type { LeaderState } from "../../../src/discovery/topology.ts";
import {
  announcedState,
  holdOf,
  holdReason,
  requestOf,
  type Standstill,
  type Surroundings,
  stepStandstill,
  unread,
} from "../../../src/proxy/standstill.ts";
import { FakeClock } from "../../support/fake-clock.ts";

const by = { by: "root@db1", since: "2026-11-20T20:00:00Z" };
const switchover: CoordinationRequest = {
  kind: "switchover",
  id: "s1",
  ...by,
  leader: "a",
  revision: "10",
  candidate: null,
  deadline_ms: 5000,
};
const pause: CoordinationRequest = { kind: "pause", id: "p1", ...by };
const epoch = (revision: bigint) => ({ timeline: 1, revision, sequence: Number(revision) });
const oldLeader: LeaderState = { kind: "writable", member: "a", epoch: epoch(10n) };
const elected: LeaderState = { kind: "elected", member: "b", epoch: epoch(11n), reason: "in recovery" };
const newLeader: LeaderState = { kind: "writable", member: "b", epoch: epoch(11n) };
const nobody: LeaderState = { kind: "none", reason: "nobody holds the leader key" };

/** A router that goes from moment to moment. */
class Router {
  state: Standstill = unread(new FakeClock());
  #around: Surroundings = {
    now: millis(0),
    read: false,
    connected: false,
    refused: false,
    request: null,
    leader: oldLeader,
    open: () => 0,
    inTheWay: () => "1 transaction is open",
  };

  /** With what has changed; steps until nothing follows any more. Returns the states that it went through. */
  sees(changes: Partial<Omit<Surroundings, "now" | "open">> & { at?: number; open?: number } = {}): string[] {
    const { at, open, ...rest } = changes;
    this.#around = {
      ...this.#around,
      ...rest,
      ...(at === undefined ? {} : { now: millis(at) }),
      ...(open === undefined ? {} : { open: () => open }),
    };
    const path: string[] = [];
    for (let last: Standstill | null = null; last !== this.state; ) {
      last = this.state;
      this.state = stepStandstill(last, this.#around);
      if (last !== this.state) path.push(this.state.kind);
    }
    return path;
  }
}

/** One that has read from etcd that there is nothing. */
function atWork(): Router {
  const router = new Router();
  expect(router.sees({ read: true, connected: true })).toEqual(["serving"]);
  return router;
}

describe("a router that starts", () => {
  test("serves nobody before it has read whether there is a request", () => {
    const router = new Router();
    expect([router.sees(), holdOf(router.state), announcedState(router.state)]).toEqual([[], "everything", "holding"]);
    expect(router.sees({ at: COORDINATION_READ_MS - 1 })).toEqual([]);
    expect(holdReason(router.state)).toMatch(/has not been read from etcd yet/);
    expect(router.sees({ at: COORDINATION_READ_MS })).toEqual(["serving"]);
  });

  test("does not wait for what etcd refuses to show", () => {
    expect(new Router().sees({ refused: true })).toEqual(["serving"]);
  });

  test("holds when all are paused, or when a switchover is under way", () => {
    expect(new Router().sees({ read: true, connected: true, request: pause })).toEqual(["draining", "paused"]);
    expect(new Router().sees({ read: true, connected: true, request: switchover })).toEqual(["draining", "drained"]);
  });

  test("sees a request that it did not read in time", () => {
    const router = new Router();
    router.sees({ at: COORDINATION_READ_MS });
    expect(router.sees({ read: true, connected: true, request: pause })).toEqual(["draining", "paused"]);
  });
});

describe("a switchover", () => {
  test("drains, holds until the new leader takes writes, and says for how long", () => {
    const router = atWork();
    expect(router.sees({ at: 100, request: switchover, open: 3 })).toEqual(["draining"]);
    expect([holdOf(router.state), holdReason(router.state)]).toEqual(["leader", expect.stringContaining("root@db1")]);
    expect(router.sees({ at: 2000, open: 1 })).toEqual([]);
    expect(router.sees({ at: 2100, open: 0 })).toEqual(["drained"]);
    expect(router.sees({ at: 3000, leader: nobody })).toEqual(["holding"]);
    expect(router.sees({ at: 3100, leader: elected })).toEqual([]);
    expect(holdOf(router.state)).toBe("leader");
    expect(router.sees({ at: 3200, leader: newLeader })).toEqual(["serving"]);
    expect(router.state).toMatchObject({ kind: "serving", request: "s1", heldMs: 3100 });
    // The request still stands for a moment: it is over for this router.
    expect(router.sees({ at: 4000 })).toEqual([]);
    expect(router.sees({ at: 4100, request: null })).toEqual(["serving"]);
    expect(requestOf(router.state)).toBe(null);
  });

  test("is called off at once when its request goes, whatever the state", () => {
    for (const open of [1, 0]) {
      const router = atWork();
      router.sees({ request: switchover, open });
      expect(router.sees({ request: null })).toEqual(["serving"]);
      expect([holdOf(router.state), requestOf(router.state)]).toEqual(["nothing", null]);
    }
  });

  test("cannot be, with open transactions at the deadline: says who, and goes on", () => {
    const router = atWork();
    router.sees({ at: 0, request: switchover, open: 1 });
    expect(router.sees({ at: 4999 })).toEqual([]);
    expect(router.sees({ at: 5000 })).toEqual(["cannot"]);
    expect(router.state).toMatchObject({ reason: "1 transaction is open" });
    expect(holdOf(router.state)).toBe("nothing");
    expect(router.sees({ at: 6000, open: 0 })).toEqual([]);
    expect(router.sees({ request: null })).toEqual(["serving"]);
  });

  test("holds nothing after its deadline when etcd does not answer", () => {
    for (const open of [1, 0]) {
      const router = atWork();
      router.sees({ at: 0, request: switchover, open });
      expect(router.sees({ at: 4999, connected: false })).toEqual([]);
      expect(holdOf(router.state)).toBe("leader");
      expect(router.sees({ at: 5000 })).toEqual(["serving"]);
      expect(router.state).toMatchObject({ reason: expect.stringContaining("etcd does not answer") });
      // Not again, when etcd is back with the old request.
      expect(router.sees({ at: 6000, connected: true })).toEqual([]);
    }
  });

  test("whose command does nothing more is given up", () => {
    const router = atWork();
    router.sees({ at: 0, request: switchover });
    expect(router.sees({ at: 5000 + SWITCHOVER_HOLD_MS - 1 })).toEqual([]);
    expect(router.sees({ at: 5000 + SWITCHOVER_HOLD_MS })).toEqual(["serving"]);
  });

  test("about a leader of the past holds nothing", () => {
    const router = atWork();
    expect(router.sees({ leader: newLeader, request: switchover })).toEqual(["serving"]);
    expect([holdOf(router.state), requestOf(router.state)]).toEqual(["nothing", "s1"]);
  });

  test("is overtaken by a failover", () => {
    const router = atWork();
    router.sees({ request: switchover, open: 2 });
    expect(router.sees({ leader: nobody, open: 0 })).toEqual(["holding"]);
    expect(router.sees({ leader: newLeader })).toEqual(["serving"]);
  });

  test("goes on from one request to the next", () => {
    const router = atWork();
    router.sees({ request: switchover });
    expect(router.sees({ request: { ...switchover, id: "s2" }, open: 1 })).toEqual(["draining"]);
    expect(requestOf(router.state)).toBe("s2");
  });
});

describe("a pause", () => {
  test("holds everything until it is ended, with or without etcd", () => {
    const router = atWork();
    expect(router.sees({ at: 100, request: pause, open: 1 })).toEqual(["draining"]);
    expect(holdOf(router.state)).toBe("everything");
    expect(router.sees({ at: 200, open: 0 })).toEqual(["paused"]);
    expect(holdReason(router.state)).toMatch(/paused by pgsteer pause \(root@db1/);
    expect(router.sees({ at: 10_000_000, connected: false, leader: newLeader })).toEqual([]);
    expect(router.sees({ connected: true, request: null })).toEqual(["serving"]);
  });
});
