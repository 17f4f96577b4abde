// Goes through a transcript as the observer went through the evidence itself: the same reducer, the same moments, and so the same
// beliefs, unless the rules have changed since it was written.

import { type Millis, millis } from "../core/units.ts";
import { initialState, step, topologyOf } from "./evidence.ts";
import type { EvidenceState } from "./evidence-state.ts";
import type { Topology } from "./topology.ts";
import type { Entry, Transcript } from "./transcript.ts";
import { type BeliefChange, BeliefLog } from "./transcript-belief.ts";

/** What is believed after an entry. */
export interface Moment {
  readonly at: Millis;
  /** Null before the first. */
  readonly entry: Entry | null;
  readonly state: EvidenceState;
  readonly topology: Topology;
}

function startOf({ header, rules }: Transcript): EvidenceState {
  const { epoch, timeline, system_identifier: systemIdentifier } = header;
  return { ...initialState(rules, millis(0)), sequence: epoch, newestTimeline: timeline, systemIdentifier };
}

/** Each moment of a transcript, in order; of what it repeats in its opening, only what came of all of it. */
export function* replay(transcript: Transcript): Generator<Moment> {
  let state = startOf(transcript);
  let left = transcript.header.opening;
  if (left === 0) yield { at: millis(0), entry: null, state, topology: topologyOf(state, millis(0)) };
  for (const entry of transcript.entries) {
    if (entry.kind === "believed") continue;
    if (entry.kind !== "time") state = step(state, entry);
    left -= 1;
    if (left <= 0) yield { at: entry.at, entry, state, topology: topologyOf(state, entry.at) };
  }
}

/** A change of what is believed, and when. */
export interface Belief {
  readonly at: Millis;
  readonly belief: BeliefChange;
}

/** What the rules of now make of a transcript. */
export function beliefsOf(transcript: Transcript): readonly Belief[] {
  const log = new BeliefLog();
  const beliefs: Belief[] = [];
  for (const { at, topology } of replay(transcript)) {
    const belief = log.change(topology);
    if (belief !== null) beliefs.push({ at, belief });
  }
  return beliefs;
}

/** What was believed when it was written. */
export function beliefsThen({ entries }: Transcript): readonly Belief[] {
  return entries.flatMap((entry) => (entry.kind === "believed" ? [{ at: entry.at, belief: entry.belief }] : []));
}
