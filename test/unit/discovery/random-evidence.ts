// Random evidence of a cluster of three, in random order: each piece as it could be, the whole as no cluster would say it.

import fc from "fast-check";
import { lsn, type Millis, millis } from "../../../src/core/units.ts";
import { type ClusterClaim, emptyClaim, type FailoverClaim } from "../../../src/discovery/claim.ts";
import type { Evidence } from "../../../src/discovery/evidence.ts";
import type { SourceHealth } from "../../../src/discovery/topology.ts";
import { ID, member } from "./fixture.ts";

const name = fc.constantFrom("a", "b", "c");
const timeline = fc.integer({ min: 1, max: 4 });

function claimOf(kind: SourceHealth["kind"]): fc.Arbitrary<ClusterClaim> {
  const keyed = kind !== "static";
  return fc
    .record({
      leader: fc.option(fc.record({ member: name, revision: fc.bigInt(1n, 6n) }), { nil: null, freq: 6 }),
      missing: fc.option(name, { nil: null, freq: 5 }),
      moved: fc.option(name, { nil: null, freq: 5 }),
      failover: fc.option(
        fc.record({
          id: fc.constantFrom("1", "2"),
          leader: fc.option(name),
          candidate: fc.option(name),
          due: timeline,
        }),
        { freq: 5 },
      ),
      paused: fc.boolean(),
      standbyCluster: fc.constantFrom(null, false, false, false, true),
      endedTimeline: fc.integer({ min: 0, max: 2 }),
      tagged: name,
    })
    .map(({ leader, missing, moved, failover, tagged, ...rest }) => ({
      ...emptyClaim,
      ...(keyed
        ? { ...rest, leader: kind === "patroni" && leader !== null ? { ...leader, revision: 0n } : leader }
        : {}),
      members: new Map(
        ["a", "b", "c"]
          .filter((each) => each !== missing)
          .map((each) => {
            const tags = { noloadbalance: each === tagged, nofailover: false };
            return [each, member(each, { host: each === moved ? "10.9.9.9" : `10.0.0.${each.charCodeAt(0)}`, tags })];
          }),
      ),
      failover: failover === null || !keyed ? null : failoverOf(failover),
      systemIdentifier: kind === "etcd" ? ID : null,
    }));
}

interface Asked {
  readonly id: string;
  readonly leader: string | null;
  readonly candidate: string | null;
  readonly due: number;
}

const failoverOf = ({ due, ...asked }: Asked): FailoverClaim => ({ ...asked, dueAt: millis(due * 1000) });

const reason = fc.constantFrom("connection refused", "reset by peer", "no answer in 1000 ms");

/** Something seen, without its moment; `age` is how long ago it began to be asked. */
function pieceOf(kind: SourceHealth["kind"]): fc.Arbitrary<(at: Millis) => Evidence> {
  const claim = fc
    .record({ claim: claimOf(kind), connected: fc.constantFrom(true, true, true, kind === "static") })
    .map(({ claim, connected }) => (at: Millis): Evidence => {
      const source = { kind, connected, confirmedAt: at, reason: connected ? "" : "it is away" };
      return { kind: "claim", at, claim, source };
    });
  const foreign = kind === "etcd" ? fc.constantFrom(ID, ID, ID, "8") : fc.constant(ID);
  const good = fc
    .record({
      inRecovery: fc.boolean(),
      timeline,
      position: fc.bigInt(0n, 1n << 40n),
      id: foreign,
      streaming: fc.boolean(),
    })
    .map(({ inRecovery, position, id, streaming, ...rest }) => ({
      ok: true as const,
      ...rest,
      inRecovery,
      position: lsn(position),
      systemIdentifier: id,
      streaming: inRecovery ? streaming : null,
    }));
  const sql = fc
    .record({
      member: name,
      age: fc.integer({ min: 0, max: 900 }),
      round: fc.option(timeline),
      answer: fc.oneof(
        { weight: 4, arbitrary: good },
        { weight: 1, arbitrary: fc.record({ ok: fc.constant(false as const), reason }) },
      ),
    })
    .map(({ member, age, round, answer }) => (at: Millis): Evidence => {
      return { kind: "sql", at, startedAt: millis(Math.max(0, at - age)), member, round, answer };
    });
  const role = fc.constantFrom("primary", "standby_leader", "replica", "unknown");
  const rest = fc
    .record({ member: name, role, timeline: fc.option(timeline) })
    .map(({ member, role, timeline }) => (at: Millis): Evidence => {
      return { kind: "rest", at, member, answer: { ok: true, role, state: "running", timeline } };
    });
  const connection = fc
    .record({
      member: name,
      answer: fc.oneof(
        fc.record({ kind: fc.constant("login" as const), inRecovery: fc.option(fc.boolean()) }),
        fc.record({ kind: fc.constant("failed" as const), reason }),
      ),
    })
    .map(
      ({ member, answer }) =>
        (at: Millis): Evidence => ({ kind: "connection", at, member, answer }),
    );
  return fc.oneof(
    { weight: 3, arbitrary: claim },
    { weight: 8, arbitrary: sql },
    { weight: 1, arbitrary: rest },
    { weight: 1, arbitrary: connection },
  );
}

/** Evidence in the order of its time. */
export function randomEvidence(kind: SourceHealth["kind"]): fc.Arbitrary<readonly Evidence[]> {
  const step = fc.tuple(pieceOf(kind), fc.constantFrom(0, 1, 1, 5, 40, 300, 5000));
  return fc.array(step, { maxLength: 60 }).map((steps) => {
    let at = 1000;
    return steps.map(([piece, pause]) => {
      at += pause;
      return piece(millis(at));
    });
  });
}
