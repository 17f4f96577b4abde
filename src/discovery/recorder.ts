// Writes a transcript while a cluster is watched: each piece of evidence before it is reduced, each change of what is believed after it.
// When a file is full another one begins, with what was known by then, so that each file can be replayed by itself.

import type { Clock } from "../core/clock.ts";
import { TRANSCRIPT_BYTES_MAX } from "../core/limits.ts";
import { type Millis, millis } from "../core/units.ts";
import type { Evidence, EvidenceState, MemberEvidence } from "./evidence-state.ts";
import { topologyOf } from "./members.ts";
import type { MemberName, Topology } from "./topology.ts";
import { type Entry, TranscriptWriter } from "./transcript.ts";
import { BeliefLog } from "./transcript-belief.ts";

/** Where lines are written to. Neither method may throw. */
export interface Paper {
  /** `line` without its end. */
  write(line: string): void;
  /** The file is full: what follows goes to a new one. */
  turn(): void;
}

export class Recorder {
  readonly #clock: Clock;
  readonly #paper: Paper;
  readonly #base: Millis;
  #writer: TranscriptWriter;
  #beliefs = new BeliefLog();
  #bytes = 0;
  /** When the last line was written that is not of belief: a belief later than that came of time alone. */
  #evidenceAt: Millis;

  constructor(clock: Clock, paper: Paper) {
    this.#clock = clock;
    this.#paper = paper;
    this.#base = clock.now();
    this.#writer = new TranscriptWriter(this.#base);
    this.#evidenceAt = this.#base;
  }

  /** Begins a file with what is known and believed. */
  begin(state: EvidenceState, at: Millis, believed: Topology): void {
    const { cluster, kind, freshMs, drainMs } = state.rules;
    const known = openingOf(state);
    const opening: readonly Entry[] = known.length === 0 ? [] : [...known, { kind: "time", at }];
    this.#write(
      this.#writer.header({
        cluster,
        source: kind,
        fresh_ms: freshMs,
        drain_ms: drainMs,
        wall_ms: Math.round(this.#clock.wall() - (this.#clock.now() - this.#base)),
        opening: opening.length,
        epoch: state.sequence - (state.leadership === null ? 0 : 1),
        timeline: state.newestTimeline,
        system_identifier: state.systemIdentifier,
      }),
    );
    for (const entry of opening) this.#entry(entry);
    this.#evidenceAt = at;
    this.#believe(believed, known.length === 0 ? this.#base : at);
  }

  /** `state` is the one before it. */
  evidence(evidence: Evidence, state: EvidenceState): void {
    if (this.#bytes > TRANSCRIPT_BYTES_MAX) this.#turn(state, evidence.at);
    this.#entry(evidence);
    this.#evidenceAt = evidence.at;
  }

  /** Something of what is believed has changed. */
  believed(topology: Topology, at: Millis): void {
    if (at > this.#evidenceAt) this.#entry({ kind: "time", at });
    this.#evidenceAt = at;
    this.#believe(topology, at);
  }

  #believe(topology: Topology, at: Millis): void {
    const belief = this.#beliefs.change(topology);
    if (belief !== null) this.#entry({ kind: "believed", at, belief });
  }

  #turn(state: EvidenceState, at: Millis): void {
    this.#paper.turn();
    this.#bytes = 0;
    this.#writer = new TranscriptWriter(this.#base);
    this.#beliefs = new BeliefLog();
    this.begin(state, at, topologyOf(state, at));
  }

  #entry(entry: Entry): void {
    this.#write(this.#writer.line(entry));
  }

  #write(line: string): void {
    this.#bytes += line.length + 1;
    this.#paper.write(line);
  }
}

/** Evidence that leads to the same state, or as good as: what has been measured of lag so far is left out. */
export function openingOf(state: EvidenceState): readonly Evidence[] {
  if (!state.answered) return [];
  const { claim, leadership, failover, source } = state;
  const seenAt = leadership?.seenAt ?? source.confirmedAt;
  const opening = [...state.members].flatMap(([name, member]) => {
    // Where the claim moves to an earlier time, no probe from before the key may seem to be younger than it.
    const old = leadership?.member === name && member.probe !== null && member.probe.startedAt < seenAt;
    return memberOpening(name, old ? { ...member, probe: null } : member);
  });
  // The request for a switchover counts from when it was seen.
  if (failover !== null) opening.push({ kind: "claim", at: failover.seenAt, claim, source });
  opening.sort((one, other) => one.at - other.at);
  const at = millis(Math.min(seenAt, opening[0]?.at ?? seenAt));
  return [{ kind: "claim", at, claim: failover === null ? claim : { ...claim, failover: null }, source }, ...opening];
}

function memberOpening(member: MemberName, { probe, doubt, failures }: MemberEvidence): Evidence[] {
  const opening: Evidence[] = [];
  if (probe !== null) {
    const { startedAt, at, ...answer } = probe;
    opening.push({ kind: "sql", at, startedAt, member, round: null, answer: { ok: true, ...answer } });
    const failed = { ok: false, reason: "failed once" } as const;
    if (doubt === null && failures > 0) {
      opening.push({ kind: "sql", at, startedAt: at, member, round: null, answer: failed });
    }
  }
  if (doubt === null) return opening;
  const { at, reason, away } = doubt;
  const answer = away ? ({ kind: "failed", reason } as const) : ({ kind: "login", inRecovery: true } as const);
  return [...opening, { kind: "connection", at, member, answer }];
}
