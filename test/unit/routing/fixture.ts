// Topologies in a few words, for tests of routing.

import { millis } from "../../../src/core/units.ts";
import type { Epoch, LeaderState, Member, Topology } from "../../../src/discovery/topology.ts";

export const epoch: Epoch = { timeline: 7, revision: 42n, sequence: 3 };

/** A readable member, but for `changes`. */
export function member(name: string, changes: Partial<Member> = {}): Member {
  return {
    name,
    host: "127.0.0.1",
    port: 5432,
    apiUrl: null,
    role: "replica",
    state: "streaming",
    timeline: 7,
    position: null,
    lagBytes: 0,
    lagSamples: 1,
    streaming: true,
    tags: { noloadbalance: false, nofailover: false },
    readable: true,
    reason: "",
    why: { writes: "is in recovery", reads: "is in recovery and streams" },
    ...changes,
  };
}

export function topology(leader: LeaderState, ...members: readonly Member[]): Topology {
  return {
    cluster: "demo",
    leader,
    members: new Map(members.map((each) => [each.name, each])),
    source: { kind: "static", connected: true, confirmedAt: millis(0), reason: "" },
    paused: false,
  };
}

export const writable = (name: string): LeaderState => ({ kind: "writable", member: name, epoch });
