// Every state of the leader × target × fallback.

import { describe, expect, test } from "vitest";
import type { LeaderState, Member } from "../../../src/discovery/topology.ts";
import { Balance } from "../../../src/routing/balance.ts";
import { type Decision, route } from "../../../src/routing/route.ts";
import type { Target } from "../../../src/routing/target.ts";
import { epoch, member, topology } from "./fixture.ts";

const leaders: Readonly<Record<LeaderState["kind"], LeaderState>> = {
  none: { kind: "none", reason: "the key is gone" },
  elected: { kind: "elected", member: "a", epoch, reason: "in recovery" },
  writable: { kind: "writable", member: "a", epoch },
  draining: { kind: "draining", member: "a", epoch, reason: "switchover" },
  standby: { kind: "standby", member: "a", epoch },
};

const brief = (decision: Decision): string => {
  if (decision.kind === "member") return `${decision.purpose} ${decision.member.name} ${decision.epoch}`;
  return decision.kind === "hold" ? "hold" : `refuse ${decision.error.code}`;
};

function decide(leader: LeaderState, target: Target, fallback: "primary" | "none", ...members: Member[]): Decision {
  return route(topology(leader, ...members), target, new Balance({ lagBytesMax: 0, fallback }));
}

const leader = member("a", { role: "leader" });
const replica = member("b");

describe("a write", () => {
  test.each([
    ["none", "hold"],
    ["elected", "hold"],
    ["writable", "write a 3"],
    ["draining", "hold"],
    ["standby", "refuse read_only_cluster"],
  ] as const)("under a leader that is %s: %s", (state, expected) => {
    for (const fallback of ["primary", "none"] as const) {
      expect(brief(decide(leaders[state], "primary", fallback, leader, replica))).toBe(expected);
      // A replica changes nothing for writes.
      expect(brief(decide(leaders[state], "primary", fallback, leader))).toBe(expected);
    }
  });

  test("waits for a leader that has no member key", () => {
    expect(brief(decide(leaders.writable, "primary", "primary", replica))).toBe("hold");
  });

  test("does not ask whether the leader is readable", () => {
    const busy = member("a", { readable: false });
    expect(brief(decide(leaders.writable, "primary", "none", busy))).toBe("write a 3");
  });

  test("is told what it waits for, in a sentence that names it", () => {
    for (const [state, words] of [
      ["none", "the key is gone"],
      ["elected", "in recovery"],
      ["draining", "switchover"],
    ] as const) {
      const decision = decide(leaders[state], "primary", "none", leader);
      expect(decision.kind === "hold" && decision.reason).toMatch(new RegExp(`^(The|Cluster).*${words}\\.$`));
    }
  });
});

describe("a read", () => {
  const states = Object.keys(leaders) as LeaderState["kind"][];

  test.each(states)("goes to a replica under a leader that is %s", (state) => {
    for (const fallback of ["primary", "none"] as const) {
      expect(brief(decide(leaders[state], "replica", fallback, leader, replica))).toMatch(
        state === "none" ? /^read [ab] 0$/ : /^read b 0$/,
      );
    }
  });

  test.each(states)("without a replica falls back on a leader that is %s, if it may and can", (state) => {
    const asReplica = state === "none";
    const alone = decide(leaders[state], "replica", "primary", leader);
    expect(brief(alone)).toBe("read a 0");
    expect(brief(decide(leaders[state], "replica", "none", leader))).toBe(asReplica ? "read a 0" : "hold");
    const unreadable = member("a", { readable: false, reason: "starting" });
    expect(brief(decide(leaders[state], "replica", "primary", unreadable))).toBe("hold");
  });

  test("that waits is told of every replica that was rejected", () => {
    const behind = member("b", { lagBytes: 5 });
    const decision = decide(leaders.writable, "replica", "none", leader, behind);
    expect(decision.kind === "hold" && decision.reason).toBe(
      'Cluster "demo" has no replica for reads: b: 5 bytes behind, limit 0.',
    );
  });
});
