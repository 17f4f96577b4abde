import { describe, expect, test } from "vitest";
import type { LeaderState, Topology } from "../../../src/discovery/topology.ts";
import { EARLY, type PoolIdentity } from "../../../src/pool/pool-terms.ts";
import { type EarlyPool, EarlyPools } from "../../../src/proxy/early-pools.ts";
import { epoch, member, topology } from "../routing/fixture.ts";

const [a, b] = [member("a"), member("b")];
const elected = (name: string, change = {}): LeaderState => ({
  kind: "elected",
  member: name,
  epoch: { ...epoch, ...change },
  reason: "still in recovery",
});
const writable = (name: string, change = {}): LeaderState => ({
  kind: "writable",
  member: name,
  epoch: { ...epoch, ...change },
});
const nobody: LeaderState = { kind: "none", reason: "the key is gone" };

/** A pool that keeps book of what it was asked. */
class Noted implements EarlyPool {
  readonly group: string;
  readonly identity: PoolIdentity;
  fenced = false;
  wanted: number[] = [];

  constructor(group: string, { host, port, name }: typeof a) {
    this.group = group;
    const endpoint = { member: name, host, port };
    this.identity = { database: "app", dbname: "app", user: "app", endpoint, purpose: "write", epoch: EARLY };
  }

  prepare(wanted: number): void {
    this.wanted.push(wanted);
  }
}

class Bench {
  readonly made: Noted[] = [];
  readonly opened: string[] = [];
  readonly early = new EarlyPools<string, Noted>((group, { leader, members }) => {
    const where = leader.kind === "none" ? undefined : members.get(leader.member);
    if (where === undefined || group === "dedicated") return null;
    const pool = new Noted(group, where);
    this.made.push(pool);
    return pool;
  });
  #now: Topology = topology(nobody, a, b);

  /** As the steering does: what is of no use any more is fenced first. */
  follow(leader: LeaderState, ...members: (typeof a)[]): void {
    this.#now = topology(leader, ...(members.length === 0 ? [a, b] : members));
    for (const pool of this.made) pool.fenced ||= !this.early.isFor(pool.identity, this.#now);
    this.early.follow(this.#now, ["standing"], (group) => this.opened.push(group));
  }

  enter(group: string): void {
    this.early.enter(group, this.#now);
  }

  get asked(): string[] {
    return this.made.map(({ group, identity, wanted }) => `${group} ${identity.endpoint.member} ${wanted}`);
  }
}

describe("for a leader that does not take writes yet", () => {
  test("there are servers for as many as wait, whenever they came, and for those who always have some", () => {
    const bench = new Bench();
    bench.enter("app");
    bench.enter("app");
    expect(bench.made).toEqual([]);
    bench.follow(elected("a"));
    bench.enter("app");
    bench.enter("late");
    expect(bench.asked).toEqual(["app a 2,3", "standing a 0", "late a 1"]);
  });

  test("nothing is made for a group that needs none", () => {
    const bench = new Bench();
    bench.enter("dedicated");
    bench.follow(elected("a"));
    expect(bench.asked).toEqual(["standing a 0"]);
    expect(bench.early.anyWaiting).toBe(true);
    bench.early.leave("dedicated");
    expect(bench.early.anyWaiting).toBe(false);
  });

  test("nothing is begun while it does not answer its probes, and what was begun stays", () => {
    const bench = new Bench();
    bench.enter("app");
    bench.follow(elected("a"), member("a", { state: "unreachable" }), b);
    expect(bench.asked).toEqual([]);
    bench.follow(elected("a"));
    bench.follow(elected("a"), member("a", { state: "unreachable" }), b);
    bench.follow(elected("a"));
    expect(bench.asked).toEqual(["app a 1,1", "standing a 0,0"]);
    expect(bench.made.some(({ fenced }) => fenced)).toBe(false);
  });

  test("they are handed over once, when that very leadership takes writes, under whatever epoch", () => {
    const bench = new Bench();
    bench.enter("app");
    bench.follow(elected("a"));
    // A restart in place: the same key, a new timeline, and so a new epoch.
    bench.follow(writable("a", { sequence: epoch.sequence + 1 }));
    expect(bench.opened).toEqual(["app", "standing"]);
    bench.follow(writable("a", { sequence: epoch.sequence + 1 }));
    expect(bench.opened).toHaveLength(2);
  });

  test.each([
    ["another one is elected", elected("b", { revision: 99n })],
    ["another one takes writes", writable("b", { revision: 99n })],
    ["the key is written anew", elected("a", { revision: 99n })],
    ["the key is gone", nobody],
    ["it turns out to lead a standby cluster", { kind: "standby", member: "a", epoch }],
  ] as const)("they are dropped when %s", (_what, then) => {
    const bench = new Bench();
    bench.enter("app");
    bench.follow(elected("a"));
    bench.follow(then);
    expect(bench.made.slice(0, 2).map(({ fenced }) => fenced)).toEqual([true, true]);
    bench.follow(writable("a"));
    expect(bench.opened).toEqual([]);
  });

  test("they are dropped when it moves", () => {
    const bench = new Bench();
    bench.follow(elected("a"));
    bench.follow(elected("a"), member("a", { port: 1 }), b);
    expect(bench.made[0]?.fenced).toBe(true);
  });
});
