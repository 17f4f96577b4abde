import { describe, expect, test } from "vitest";
import type { Topology } from "../../../src/discovery/topology.ts";
import { notReady, obstaclesOf, servicesOf, whyServesNothing } from "../../../src/metrics/readiness.ts";
import type { Snapshot } from "../../../src/metrics/snapshot.ts";
import { elected, listener, listenerSnapshot, member, none, snapshot, standby, topology } from "./fixture.ts";

const lagging = topology(undefined, [
  member("b", { lagBytes: 2000 }),
  member("c", { readable: false, reason: "gone" }),
]);

describe("what stands in the way of a listener", () => {
  test("is nothing while the leader takes writes and a replica is fresh", () => {
    for (const route of ["write", "read", "auto"] as const) {
      expect(obstaclesOf(topology(), listener(route))).toEqual({ write: null, read: null });
    }
  });

  test("is named in routing's own words when writes have nowhere to go", () => {
    expect(obstaclesOf(topology(none), listener("write")).write).toContain("nobody holds the leader key");
    expect(obstaclesOf(topology(elected), listener("auto")).write).toContain("a is still in recovery");
    expect(obstaclesOf(topology(standby), listener("write")).write).toContain("replicates from another one");
  });

  test("does not concern reads when the leader is away", () => {
    expect(obstaclesOf(topology(none), listener("read"))).toEqual({ write: null, read: null });
  });

  test("is the lag or the state of each replica when no read can be served", () => {
    const { write, read } = obstaclesOf(lagging, listener("read"));
    expect(write).toBeNull();
    expect(read).toMatch(/b: 2000 bytes behind, limit 1000; c: gone/);
    expect(obstaclesOf(lagging, listener("read", "primary")).read).toBeNull();
  });

  test("is asked for without taking a replica's turn away", () => {
    const [asked, unasked] = [listener("read"), listener("read")];
    const turns = ({ balance }: typeof asked) => [1, 2, 3].map(() => balance.next(topology())?.name);
    const before = turns(unasked);
    obstaclesOf(topology(), asked);
    expect(turns(asked)).toEqual(before);
  });
});

describe("who serves what", () => {
  const all = () => [listener("write"), listener("read"), listener("auto")];
  const shown = (services: ReturnType<typeof servicesOf>) =>
    Object.fromEntries(
      [...services].map(([name, serves]) => [name, serves.map(({ route, purpose }) => `${route} ${purpose}`)]),
    );

  test("is the leader for writes and each fresh replica for reads", () => {
    const replica = ["read read", "auto read"];
    expect(shown(servicesOf(topology(), all()))).toEqual({ a: ["write write", "auto write"], b: replica, c: replica });
  });

  test("is nobody for writes while the leader does not take them", () => {
    expect(shown(servicesOf(topology(elected), all()))).not.toHaveProperty("a");
  });

  test("is the leader for reads too where no replica will do and the listener falls back", () => {
    expect(shown(servicesOf(lagging, [listener("read", "primary")]))).toEqual({ a: ["read read"] });
    expect(shown(servicesOf(lagging, [listener("read")]))).toEqual({});
  });
});

describe("why a member serves nothing", () => {
  const why = (of: Topology, name: string, listeners = [listener("read")]) => {
    const found = of.members.get(name);
    return found === undefined ? null : whyServesNothing(of, found, listeners);
  };

  test("is its lag, its state, its leadership, or that nobody asks it", () => {
    expect(why(lagging, "b")).toBe("2000 bytes behind, limit 1000");
    expect(why(lagging, "c")).toBe("gone");
    expect(why(topology(elected), "a")).toBe("a is still in recovery");
    expect(why(topology(standby), "a")).toBe("it takes no writes");
    expect(why(topology(), "b", [listener("write")])).toBe("no listener reads from replicas");
  });
});

describe("/readyz", () => {
  const ask = (of: Snapshot, route: "write" | "read" | "auto" | null, cluster: string | null = null) =>
    notReady(of, { route, cluster });

  test("says yes to each route of a healthy cluster", () => {
    for (const route of ["write", "read", "auto", null] as const) expect(ask(snapshot(), route)).toBeNull();
  });

  test("says no to writes without a leader, and yes to reads and to any", () => {
    const leaderless = snapshot(topology(none));
    expect(ask(leaderless, "write")).toContain("nobody holds the leader key");
    expect(ask(leaderless, "auto")).toContain("nobody holds the leader key");
    expect(ask(leaderless, "read")).toBeNull();
    expect(ask(leaderless, null)).toBeNull();
  });

  test("says no to everything while draining, and before a listener is open", () => {
    for (const route of ["write", "read", "auto", null] as const) {
      expect(ask(snapshot(undefined, { draining: true }), route)).toContain("shutting down");
      expect(ask(snapshot(undefined, { listeners: [] }), route)).toBe("no listener is open");
    }
  });

  test("judges a route by the listeners that have it, else by those that decide by statement, else says no", () => {
    const only = (...routes: ("write" | "read" | "auto")[]) =>
      snapshot(undefined, { listeners: routes.map((route) => listenerSnapshot(route)) });
    expect(ask(only("auto"), "read")).toBeNull();
    expect(ask(only("write"), "read")).toBe('no listener has the route "read"');
    const broken = listenerSnapshot("auto", { obstacles: { write: "w", read: "r" } });
    const mixed = (route: "write" | "read") => snapshot(undefined, { listeners: [broken, listenerSnapshot(route)] });
    expect(ask(mixed("read"), "read")).toBeNull();
    expect(ask(mixed("read"), "write")).toBe("w");
    expect(ask(mixed("write"), "read")).toBe("r");
  });

  test("needs every cluster behind a route, unless one is named", () => {
    const other = listenerSnapshot("write", { cluster: "other", obstacles: { write: "no leader", read: null } });
    const two = snapshot(undefined, { listeners: [listenerSnapshot("write"), other] });
    expect(ask(two, "write")).toBe("no leader");
    expect(ask(two, "write", "main")).toBeNull();
    expect(ask(two, "write", "other")).toBe("no leader");
    expect(ask(two, null)).toBeNull();
    expect(ask(two, null, "mian")).toBe('no listener leads to a cluster "mian"');
  });
});
