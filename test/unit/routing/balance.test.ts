// Who gets reads, and when a replica leaves or comes back: by its lag samples, each counted once.

import { describe, expect, test } from "vitest";
import type { Member } from "../../../src/discovery/topology.ts";
import { Balance } from "../../../src/routing/balance.ts";
import { member, topology, writable } from "./fixture.ts";

const LIMIT = 1_000;
const balanceOf = (): Balance => new Balance({ lagBytesMax: LIMIT, fallback: "none" });
const cluster = (...replicas: Member[]) =>
  topology(writable("leader"), member("leader", { role: "leader" }), ...replicas);
const names = (members: readonly Member[]): string[] => members.map(({ name }) => name);

/** Shows the balance one sample of lag after the other; says at each whether the replica gets reads. */
function follow(lags: readonly (number | null)[], balance = balanceOf(), from = 1): boolean[] {
  return lags.map((lagBytes, index) => {
    const now = cluster(member("a", { lagBytes, lagSamples: from + index }));
    return balance.candidates(now).length === 1;
  });
}

describe("Balance", () => {
  test("gives each replica its turn, and the leader none", () => {
    const balance = balanceOf();
    const now = cluster(member("a"), member("b"), member("c"));
    const turns = Array.from({ length: 9 }, () => balance.next(now)?.name);
    for (const name of ["a", "b", "c"]) expect(turns.filter((turn) => turn === name)).toHaveLength(3);
    expect(turns.slice(0, 3)).toEqual(turns.slice(3, 6));
  });

  test("goes on fairly when the topology changes between turns", () => {
    const balance = balanceOf();
    const count = new Map<string, number>();
    for (let turn = 0; turn < 300; turn += 1) {
      const name = balance.next(cluster(member("a"), member("b", { reason: `${turn}` }), member("c")))?.name ?? "none";
      count.set(name, (count.get(name) ?? 0) + 1);
    }
    expect([...count.values()]).toEqual([100, 100, 100]);
  });

  test("lets a replica go after two samples in a row above the limit, not after one", () => {
    expect(follow([0, LIMIT + 1, LIMIT + 1])).toEqual([true, true, false]);
    expect(follow([0, LIMIT + 1, 0, LIMIT + 1, 0])).toEqual([true, true, true, true, true]);
    expect(follow([0, LIMIT, LIMIT, LIMIT])).toEqual([true, true, true, true]);
  });

  test("takes it back after two in a row below half of the limit, not at the limit", () => {
    expect(follow([5_000, 999, 999, 501, 501])).toEqual([false, false, false, false, false]);
    expect(follow([5_000, 500, 501, 500, 500])).toEqual([false, false, false, false, true]);
  });

  test("counts a sample once, however often the topology is shown again", () => {
    const balance = balanceOf();
    follow([0, LIMIT + 1], balance);
    const again = Array.from({ length: 5 }, (_, index) =>
      balance.candidates(cluster(member("a", { lagBytes: LIMIT + 1, lagSamples: 2, reason: `${index}` }))),
    );
    expect(again.every((candidates) => candidates.length === 1)).toBe(true);
    expect(follow([LIMIT + 1], balance, 3)).toEqual([false]);
  });

  test("judges a new member by its first sample, and one that came back as new", () => {
    expect(follow([LIMIT + 1])).toEqual([false]);
    const balance = balanceOf();
    expect(follow([LIMIT + 1], balance)).toEqual([false]);
    expect(balance.candidates(cluster())).toEqual([]);
    expect(follow([LIMIT], balance)).toEqual([true]);
  });

  test("believes what it knew while the lag is unknown", () => {
    expect(follow([null])).toEqual([true]);
    expect(follow([5_000, null, null, 0, 0])).toEqual([false, false, false, false, true]);
  });

  test("gives nobody anything who is not readable, whatever the lag, and says why", () => {
    const balance = balanceOf();
    const now = cluster(
      member("a", { readable: false, reason: "tagged noloadbalance" }),
      member("b", { lagBytes: 5_000 }),
      member("c", { readable: false }),
    );
    expect(balance.next(now)).toBeNull();
    expect(balance.why(now)).toBe("a: tagged noloadbalance; b: 5000 bytes behind, limit 1000; c: not readable");
    expect(new Balance({ lagBytesMax: 0, fallback: "none" }).why(cluster())).toBe("there is none");
  });

  test("counts a former leader as a replica, and its successor no longer", () => {
    const balance = balanceOf();
    const both = [member("a"), member("b")] as const;
    expect(names(balance.candidates(topology(writable("a"), ...both)))).toEqual(["b"]);
    expect(names(balance.candidates(topology(writable("b"), ...both)))).toEqual(["a"]);
    expect(names(balance.candidates(topology({ kind: "none", reason: "x" }, ...both)))).toEqual(["a", "b"]);
  });

  test("takes a limit of zero at its word", () => {
    const strict = new Balance({ lagBytesMax: 0, fallback: "none" });
    expect(follow([0, 1, 1, 0, 0], strict)).toEqual([true, true, false, false, true]);
  });
});
