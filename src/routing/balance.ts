// Round robin over the replicas that are fresh enough for one listener. A replica leaves after two samples in a row above the
// limit and comes back after two below half of it, so that one that hovers at the limit does not flap.

import type { Member, MemberName, Topology } from "../discovery/topology.ts";
import type { ReadOptions } from "./target.ts";

const SAMPLES_TO_SWITCH = 2;

interface Freshness {
  fresh: boolean;
  /** Samples in a row that spoke for the other state. */
  against: number;
  samples: number;
}

export class Balance {
  readonly #options: ReadOptions;
  readonly #freshness = new Map<MemberName, Freshness>();
  #seen: Topology | null = null;
  #candidates: readonly Member[] = [];
  #turn = 0;

  constructor(options: ReadOptions) {
    this.#options = options;
  }

  get fallback(): "primary" | "none" {
    return this.#options.fallback;
  }

  /** The replica whose turn it is; null when none will do. */
  next(topology: Topology): Member | null {
    this.observe(topology);
    if (this.#candidates.length === 0) return null;
    this.#turn = (this.#turn + 1) % this.#candidates.length;
    return this.#candidates[this.#turn] ?? null;
  }

  /** The replicas that get reads now. */
  candidates(topology: Topology): readonly Member[] {
    this.observe(topology);
    return this.#candidates;
  }

  /** Takes a topology's lag samples in, once each. */
  observe(topology: Topology): void {
    if (topology === this.#seen) return;
    this.#seen = topology;
    const leader = topology.leader.kind === "none" ? null : topology.leader.member;
    for (const name of this.#freshness.keys()) if (!topology.members.has(name)) this.#freshness.delete(name);
    this.#candidates = [...topology.members.values()].filter(
      (member) => member.name !== leader && this.#isFresh(member) && member.readable,
    );
  }

  #isFresh(member: Member): boolean {
    if (member.lagBytes === null) return this.#freshness.get(member.name)?.fresh ?? true;
    const limit = this.#options.lagBytesMax;
    let state = this.#freshness.get(member.name);
    if (state === undefined) {
      state = { fresh: member.lagBytes <= limit, against: 0, samples: member.lagSamples };
      this.#freshness.set(member.name, state);
    } else if (state.samples !== member.lagSamples) {
      state.samples = member.lagSamples;
      const speaksAgainst = state.fresh ? member.lagBytes > limit : member.lagBytes <= limit / 2;
      state.against = speaksAgainst ? state.against + 1 : 0;
      if (state.against >= SAMPLES_TO_SWITCH) {
        state.fresh = !state.fresh;
        state.against = 0;
      }
    }
    return state.fresh;
  }

  /** Why a member that gets no reads gets none; null for one that does. */
  rejection(topology: Topology, member: Member): string | null {
    this.observe(topology);
    if (!member.readable) return member.reason === "" ? "not readable" : member.reason;
    const fresh = this.#freshness.get(member.name)?.fresh ?? true;
    return fresh ? null : `${member.lagBytes ?? "unknown"} bytes behind, limit ${this.#options.lagBytesMax}`;
  }

  /** One phrase for all that was rejected. */
  why(topology: Topology): string {
    const leader = topology.leader.kind === "none" ? null : topology.leader.member;
    const rejected = [...topology.members.values()]
      .filter((member) => member.name !== leader)
      .map((member) => `${member.name}: ${this.rejection(topology, member) ?? "none"}`);
    return rejected.length === 0 ? "there is none" : rejected.join("; ");
  }
}
