// Whatever the evidence, and in whatever order: rules that must hold of every topology, checked by accounts of their own.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Millis } from "../../../src/core/units.ts";
import { millis } from "../../../src/core/units.ts";
import { type Evidence, initialState, step, topologyOf } from "../../../src/discovery/evidence.ts";
import type { SourceHealth, Topology } from "../../../src/discovery/topology.ts";
import { randomEvidence } from "./random-evidence.ts";

/** What the evidence itself says, told in the plainest way. */
class Account {
  /** Who the last claim says holds the key, and when that was first said of this very key. */
  holder: { readonly member: string; readonly revision: bigint; readonly since: Millis } | null = null;
  /** When each member's last probe began that said it takes writes, and on which timeline. */
  readonly primaries = new Map<string, { readonly startedAt: Millis; readonly timeline: number }>();
  newestServed = 0;

  take(evidence: Evidence): void {
    if (evidence.kind === "claim" && evidence.claim !== null) {
      const { leader } = evidence.claim;
      const same = leader?.member === this.holder?.member && leader?.revision === this.holder?.revision;
      if (leader === null) this.holder = null;
      else if (!same) this.holder = { ...leader, since: evidence.at };
    }
    if (evidence.kind !== "sql" || !evidence.answer.ok) return;
    const { inRecovery, timeline } = evidence.answer;
    if (inRecovery) this.primaries.delete(evidence.member);
    else this.primaries.set(evidence.member, { startedAt: evidence.startedAt, timeline });
  }
}

const served = ({ leader }: Topology): string | null =>
  leader.kind === "writable" || leader.kind === "draining" ? leader.member : null;

/** Goes through the evidence; `check` is called at each topology in which some member is served for writes. */
function goThrough(
  kind: SourceHealth["kind"],
  evidence: readonly Evidence[],
  check: (account: Account, member: string, topology: Topology) => void,
): void {
  const account = new Account();
  let state = initialState({ cluster: "main", kind, freshMs: 3500, drainMs: 30_000 }, millis(1000));
  for (const piece of evidence) {
    account.take(piece);
    state = step(state, piece);
    const topology = topologyOf(state, piece.at);
    const member = served(topology);
    if (member !== null) check(account, member, topology);
  }
}

const RUNS = { numRuns: 400 };

describe.each(["etcd", "patroni", "static"] as const)("whatever %s and the members say", (kind) => {
  test("no member is served for writes on an older timeline than one served before", () => {
    fc.assert(
      fc.property(randomEvidence(kind), (evidence) => {
        goThrough(kind, evidence, (account, member) => {
          const timeline = account.primaries.get(member)?.timeline ?? 0;
          expect(timeline).toBeGreaterThanOrEqual(account.newestServed);
          account.newestServed = timeline;
        });
      }),
      RUNS,
    );
  });

  test("no member is served for writes unless its last answer says that it takes them", () => {
    fc.assert(
      fc.property(randomEvidence(kind), (evidence) => {
        goThrough(kind, evidence, (account, member) => expect([...account.primaries.keys()]).toContain(member));
      }),
      RUNS,
    );
  });

  test("each member says why, and exactly one gets writes while a leader is writable", () => {
    fc.assert(
      fc.property(randomEvidence(kind), (evidence) => {
        goThrough(kind, evidence, (_account, member, { members }) => {
          for (const { why } of members.values()) expect([why.writes, why.reads]).not.toContain("");
          expect(members.get(member)?.why.writes).toContain("takes writes");
        });
      }),
      RUNS,
    );
  });
});

describe.each(["etcd", "patroni"] as const)("whatever %s and the members say of the leader key", (kind) => {
  test("no member is served for writes while another, or nobody, holds the key", () => {
    fc.assert(
      fc.property(randomEvidence(kind), (evidence) => {
        goThrough(kind, evidence, (account, member) => expect(account.holder?.member).toBe(member));
      }),
      RUNS,
    );
  });

  test("no member is served for writes without a probe that began after its key was seen", () => {
    fc.assert(
      fc.property(randomEvidence(kind), (evidence) => {
        goThrough(kind, evidence, (account, member) => {
          const { startedAt } = account.primaries.get(member) ?? { startedAt: -1 };
          expect(startedAt).toBeGreaterThanOrEqual(account.holder?.since ?? Number.POSITIVE_INFINITY);
        });
      }),
      RUNS,
    );
  });
});
