// What each golden transcript has to show, in the words of its case: which leaders in which order, what never, and what is said of
// members. Members go by letters in the order in which they lead, for the names of a recording are as they come.

import { expect } from "vitest";
import type { Moment } from "../../src/discovery/replay.ts";
import type { Transcript } from "../../src/discovery/transcript.ts";

interface Seen {
  readonly transcript: Transcript;
  readonly moments: readonly Moment[];
  /** Each leader state once per change: `writable node1 1`, or `none`. */
  readonly leaders: readonly string[];
  /** All that was believed, as JSON. */
  readonly beliefs: string;
}

type Case = (seen: Seen) => void;

/** The leaders with letters for names. */
function lettered(leaders: readonly string[]): string[] {
  const letters = new Map<string, string>();
  return leaders.map((leader) => {
    const [kind = "", member, epoch] = leader.split(" ");
    if (member === undefined) return kind;
    const letter = letters.get(member) ?? String.fromCharCode(65 + letters.size);
    letters.set(member, letter);
    return `${kind} ${letter} ${epoch}`;
  });
}

interface Expected {
  /** These leaders in this order, whatever comes between. */
  readonly order: readonly string[];
  /** The last of them all; that of `order` unless it is named. */
  readonly end?: string;
  readonly never?: readonly string[];
  /** What is said of some member, or as a reason. */
  readonly says?: readonly RegExp[];
  readonly neverSays?: readonly RegExp[];
}

function shows({ order, end, never = [], says = [], neverSays = [] }: Expected): Case {
  return ({ leaders, beliefs }) => {
    const seen = lettered(leaders);
    let from = 0;
    for (const leader of order) {
      const found = seen.indexOf(leader, from);
      expect(found, `${leader} in ${seen.slice(from).join(", ")}`).toBeGreaterThanOrEqual(from);
      from = found + 1;
    }
    expect(seen.at(-1)).toBe(end ?? order.at(-1));
    for (const leader of never) expect(seen).not.toContain(leader);
    for (const words of says) expect(beliefs).toMatch(words);
    for (const words of neverSays) expect(beliefs).not.toMatch(words);
  };
}

const switchover = shows({
  order: ["writable A 1", "draining A 1", "none", "elected B 2", "writable B 2"],
  never: ["writable A 2", "writable A 3"],
  says: [
    /a switchover was asked for: no new ones begin/,
    /holds the leader key of revision \d+, but is still in recovery/,
  ],
});

const frozen = shows({
  order: ["writable A 1", "none", "elected B 2", "writable B 2"],
  never: ["writable A 2", "writable A 3", "draining A 1"],
});

export const cases: Readonly<Record<string, Case>> = {
  "switchover-3.0.2": switchover,
  "switchover-4.1": switchover,
  "switchover-scheduled": (seen) => {
    switchover(seen);
    const asked = seen.moments.find(({ state }) => (state.claim.failover?.dueAt ?? null) !== null);
    const drained = seen.moments.find(({ topology }) => topology.leader.kind === "draining");
    const due = asked?.state.claim.failover?.dueAt ?? Number.NaN;
    expect(asked?.topology.leader.kind).toBe("writable");
    expect(drained?.at).toBeGreaterThanOrEqual(due);
  },
  "switchover-called-off": shows({ order: ["writable A 1"], never: ["draining A 1"] }),
  "switchover-refused": shows({ order: ["writable A 1", "draining A 1", "writable A 1"], never: ["elected B 2"] }),
  "postgres-killed": (seen) => {
    shows({
      order: ["writable A 1", "elected A 1"],
      end: seen.leaders.at(-1)?.includes(" 2") ? "writable A 2" : "writable A 1",
    })(seen);
    expect(seen.leaders.slice(2)).not.toContain("none");
  },
  "patroni-stopped": shows({
    order: ["writable A 1", "elected A 1", "none", "elected B 2", "writable B 2"],
    never: ["writable A 2"],
    says: [/terminating connection due to administrator command/],
  }),
  "patroni-frozen-3.0.2": frozen,
  "patroni-frozen-4.1": (seen) => {
    frozen(seen);
    expect(seen.beliefs).toMatch(/takes writes on timeline 1, which is older than 2, without the leader key/);
  },
  "switchover-slow-promotion": (seen) => {
    shows({ order: ["writable A 1", "draining A 1", "none", "elected B 2", "writable B 2"], never: ["elected A 2"] })(
      seen,
    );
    // The old leader is read from as a replica while the new one is not yet writable.
    const [old] =
      seen.leaders
        .find((leader) => leader.startsWith("writable"))
        ?.split(" ")
        .slice(1) ?? [];
    const both = seen.moments.find(({ topology: { leader, members } }) => {
      const member = members.get(old ?? "");
      return leader.kind === "elected" && leader.member !== old && member?.role === "replica" && member.readable;
    });
    expect(both).toBeDefined();
  },
  "leader-restarted": shows({
    order: ["writable A 1", "elected A 1", "writable A 1"],
    never: ["elected A 2", "writable A 2"],
    says: [/the database system is (shutting down|starting up)|ECONNREFUSED/],
  }),
  paused: shows({
    order: ["writable A 1", "elected A 1", "none", "writable B 2"],
    says: [/"paused":true/, /nobody holds the leader key, and automatic failover is paused/],
  }),
  "member-removed": shows({ order: ["writable A 1"], says: [/"node\d":null/] }),
  lagging: shows({ order: ["writable A 1"], says: [/is in recovery and streams, but lags by 16 MB or more/] }),
  tags: shows({
    order: ["writable A 1", "draining A 1", "elected B 2", "writable B 2"],
    says: [/is tagged noloadbalance/, /holds the leader key; is tagged nofailover/],
  }),
  "static-two-writable": shows({
    order: ["writable A 1", "writable B 2"],
    never: ["writable A 2", "writable A 3"],
    says: [/takes writes on timeline 1, but timeline 2 has been written already/],
  }),
  "nostream-4.1": shows({
    order: ["writable A 1"],
    says: [/"reads":false,"why_reads":"is tagged nostream"/, /"why_reads":"is in recovery and streams"/],
    neverSays: [/tolerated for a while/],
  }),
  "node-killed": shows({
    order: ["writable A 1", "elected A 1", "none", "elected B 2", "writable B 2"],
    never: ["writable A 2", "draining A 1"],
    says: [/"node1":null/],
  }),
  cascading: shows({
    order: ["writable A 1"],
    never: ["draining A 1", "writable A 2"],
    says: [/"node3":\{[^}]*"reads":false,"why_reads":"does not stream"\}/],
  }),
  "foreign-member": shows({
    order: ["writable A 1", "elected A 1", "none"],
    never: ["writable A 2"],
    says: [/but has another system identifier than this cluster/],
  }),
  synchronous: shows({
    order: ["writable A 1", "draining A 1", "none", "elected B 2", "writable B 2"],
    never: ["writable A 2"],
    says: [/its PostgreSQL does not serve connections/],
  }),
  "quorum-4.1": shows({
    order: ["writable A 1", "elected A 1", "none", "elected B 2", "writable B 2"],
    never: ["writable A 2"],
  }),
  "standby-cluster": shows({
    order: ["standby A 1"],
    never: ["writable A 1"],
    says: [/leads a standby cluster, which takes no writes by design/, /"reads":true/],
  }),
  "etcd-lost": shows({
    order: ["writable A 1", "none", "elected A 1", "writable A 2"],
    says: [/held the leader key of revision \d+ when etcd was last heard and takes writes/, /etcd does not answer: /],
  }),
  "etcd-lost-failsafe": (seen) => {
    shows({ order: ["writable A 1"], says: [/etcd does not answer: /] })(seen);
    const first = seen.leaders.findIndex((leader) => leader.startsWith("writable"));
    expect(seen.leaders.slice(first)).toHaveLength(1);
  },
  "etcd-endpoint-lost": shows({ order: ["writable A 1"], never: ["writable A 2"], says: [/etcd does not answer: /] }),
  "etcd-compacted": shows({ order: ["writable A 1"], never: ["writable A 2"], says: [/etcd does not answer: /] }),
  "watch-silent": shows({ order: ["writable A 1"], never: ["writable A 2"], says: [/no answer to a read in \d+ ms/] }),
  "etcd-token-expired": shows({
    order: ["writable A 1"],
    never: ["writable A 2"],
    says: [/"paused":true/],
    neverSays: [/secret/],
  }),
  "static-tie": shows({
    order: ["writable A 1", "none", "writable A 1"],
    never: ["writable B 2"],
    says: [
      /10\.0\.0\.1:5432 and 10\.0\.0\.2:5432 both take writes/,
      /takes writes on timeline 3, but so does 10\.0\.0\.1:5432/,
    ],
  }),
  "switchover-by-rest": shows({ order: ["writable A 1", "elected A 1", "writable B 2"], never: ["writable A 2"] }),
  "key-put-back": shows({
    order: ["writable A 1", "none", "writable B 2", "elected A 3"],
    never: ["writable A 3"],
    says: [
      /it is on timeline 1, but timeline 2 has been written already/,
      /takes writes on timeline 2 without the leader key: node\d holds the leader key/,
    ],
  }),
};
