// A cluster under test, told in a few words: its evidence goes straight into the reducer.

import { lsn, type Millis, millis } from "../../../src/core/units.ts";
import { type ClusterClaim, emptyClaim, type MemberClaim } from "../../../src/discovery/claim.ts";
import {
  type EvidenceState,
  initialState,
  type RestEvidence,
  step,
  topologyOf,
} from "../../../src/discovery/evidence.ts";
import type { ConnectionEvidence, SqlEvidence } from "../../../src/discovery/feed.ts";
import type { LeaderState, Member, SourceHealth, Topology } from "../../../src/discovery/topology.ts";

export const ID = "7000000000000000001";

/** What a source says of a replica, but for `more`. */
export function member(name: string, more: Partial<MemberClaim> = {}): MemberClaim {
  const tags = { noloadbalance: false, nofailover: false };
  const base = { name, host: "10.0.0.1", port: 5432, apiUrl: null, role: "replica", state: "running" } as const;
  return { ...base, timeline: null, position: null, tags, ...more };
}

export type Answer = Partial<Extract<SqlEvidence, { ok: true }>>;

/** A cluster under test: its evidence in the order of its calls, and a clock that only `wait` moves. */
export class Case {
  state: EvidenceState;
  now: Millis = millis(1000);
  claim: ClusterClaim;
  #round = 0;
  #revision = 10n;

  constructor(kind: SourceHealth["kind"], names: readonly string[] = ["a", "b", "c"]) {
    this.state = initialState({ cluster: "main", kind, freshMs: 3000, drainMs: 30_000 }, this.now);
    const systemIdentifier = kind === "etcd" ? ID : null;
    this.claim = { ...emptyClaim, systemIdentifier, members: new Map(names.map((name) => [name, member(name)])) };
  }

  says(change: Partial<ClusterClaim> = {}, connected = true): this {
    this.claim = { ...this.claim, ...change };
    const reason = connected ? "" : "etcd is away";
    const source = { kind: this.state.rules.kind, connected, confirmedAt: this.now, reason };
    this.state = step(this.state, { kind: "claim", at: this.now, claim: this.claim, source });
    return this;
  }

  /** A new leader key. */
  key(name: string | null): this {
    this.#revision += 1n;
    return this.says({ leader: name === null ? null : { member: name, revision: this.#revision } });
  }

  lost(): this {
    return this.says({}, false);
  }

  wait(ms: number): this {
    this.now = millis(this.now + ms);
    return this;
  }

  probe(name: string, answer: Answer | string, more: { startedAt?: Millis; round?: number | null } = {}): this {
    const good = { ok: true, inRecovery: true, timeline: 1, position: lsn(1000), systemIdentifier: ID } as const;
    const evidence: SqlEvidence =
      typeof answer === "string"
        ? { ok: false, reason: answer }
        : { ...good, streaming: answer.inRecovery === false ? null : true, ...answer };
    const { startedAt = this.now, round = null } = more;
    this.state = step(this.state, { kind: "sql", at: this.now, startedAt, member: name, round, answer: evidence });
    return this;
  }

  /** One round of probes: the answers by member, in the order given. */
  round(answers: Readonly<Record<string, Answer | string>>): this {
    this.#round += 1;
    for (const [name, answer] of Object.entries(answers)) this.probe(name, answer, { round: this.#round });
    return this;
  }

  takesWrites(name: string, timeline = 1): this {
    return this.probe(name, { inRecovery: false, timeline });
  }

  report(name: string, answer: ConnectionEvidence): this {
    this.state = step(this.state, { kind: "connection", at: this.now, member: name, answer });
    return this;
  }

  rest(name: string, answer: RestEvidence): this {
    this.state = step(this.state, { kind: "rest", at: this.now, member: name, answer });
    return this;
  }

  get topology(): Topology {
    return topologyOf(this.state, this.now);
  }

  get leader(): LeaderState {
    return this.topology.leader;
  }

  /** `writable a 1`: kind, member, sequence. */
  get brief(): string {
    const { leader } = this;
    return leader.kind === "none" ? "none" : `${leader.kind} ${leader.member} ${leader.epoch.sequence}`;
  }

  member(name: string): Member {
    const found = this.topology.members.get(name);
    if (found === undefined) throw new Error(`no member ${name}`);
    return found;
  }

  get reason(): string {
    const { leader } = this;
    return "reason" in leader ? leader.reason : "";
  }
}

/** A cluster of three without a leader yet. */
export const etcd = (): Case => new Case("etcd").says();
/** `a` leads, writable, on timeline 1. */
export const steady = (): Case => etcd().key("a").wait(1).takesWrites("a").wait(1);
