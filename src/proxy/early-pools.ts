// What is got ready for a leader that holds the key and does not take writes yet: servers, logged in and in front of its gate, for
// those who wait. None is lent before the gate opens for that very leadership; then its pools get their epoch, and each server has
// to say for itself that it is out of recovery. Where another leads, or nobody does, they are dropped.

import { leaderMember, type Topology } from "../discovery/topology.ts";
import type { PoolIdentity } from "../pool/pool-terms.ts";

/** A leader key that stands, and where its holder is. */
interface Candidacy {
  readonly member: string;
  readonly host: string;
  readonly port: number;
  /** Of the leader key. A restart in place brings a new epoch under the same key. */
  readonly revision: bigint;
}

function candidacyOf(topology: Topology): Candidacy | null {
  const { leader } = topology;
  const member = leaderMember(topology);
  if (member === null || (leader.kind !== "elected" && leader.kind !== "writable")) return null;
  return { member: member.name, host: member.host, port: member.port, revision: leader.epoch.revision };
}

const isSame = (one: Candidacy, other: Candidacy | null): boolean =>
  one.member === other?.member && one.host === other.host && one.port === other.port && one.revision === other.revision;

/** A pool for writes whose gate is shut. */
export interface EarlyPool {
  readonly fenced: boolean;
  /** Has servers ready for so many. */
  prepare(wanted: number): void;
}

/** `Group`: those who share pools. */
export class EarlyPools<Group, P extends EarlyPool> {
  readonly #make: (group: Group, topology: Topology) => P | null;
  /** Clients that wait for a leader, by group. */
  readonly #waiting = new Map<Group, number>();
  readonly #pools = new Map<Group, P>();
  #candidacy: Candidacy | null = null;

  /** `make` is called for a group that has none, while a leader is elected; null where it shall have none. */
  constructor(make: (group: Group, topology: Topology) => P | null) {
    this.#make = make;
  }

  /** Whether somebody waits. */
  get anyWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  /** One more of `group` waits for a leader. */
  enter(group: Group, topology: Topology): void {
    this.#waiting.set(group, (this.#waiting.get(group) ?? 0) + 1);
    this.#prepare(group, topology);
  }

  leave(group: Group): void {
    const left = (this.#waiting.get(group) ?? 0) - 1;
    if (left > 0) this.#waiting.set(group, left);
    else this.#waiting.delete(group);
  }

  /** Whether what was got ready is of use under `topology`: an early pool of which this is false must be fenced. */
  isFor({ endpoint: { member, host, port } }: PoolIdentity, topology: Topology): boolean {
    const known = this.#candidacy;
    if (known === null || !isSame(known, candidacyOf(topology))) return false;
    return known.member === member && known.host === host && known.port === port;
  }

  /**
   * After the cut: prepares for an elected leader, for those who wait and for `standing`, who always have servers. Calls `open` for
   * each pool whose gate is open now.
   */
  follow(topology: Topology, standing: Iterable<Group>, open: (group: Group, pool: P) => void): void {
    const candidacy = candidacyOf(topology);
    if (this.#candidacy === null || !isSame(this.#candidacy, candidacy)) this.#pools.clear();
    this.#candidacy = candidacy;
    if (topology.leader.kind === "writable") {
      const ready = [...this.#pools];
      this.#pools.clear();
      for (const [group, pool] of ready) if (!pool.fenced) open(group, pool);
    } else if (topology.leader.kind === "elected") {
      for (const group of new Set([...this.#waiting.keys(), ...standing])) this.#prepare(group, topology);
    }
  }

  #prepare(group: Group, topology: Topology): void {
    if (topology.leader.kind !== "elected" || this.#candidacy === null) return;
    // One that does not answer its probes would not let us in; its next answer is followed.
    if (leaderMember(topology)?.state === "unreachable") return;
    const known = this.#pools.get(group);
    const pool = known === undefined || known.fenced ? this.#make(group, topology) : known;
    if (pool === null) return;
    this.#pools.set(group, pool);
    pool.prepare(this.#waiting.get(group) ?? 0);
  }
}
