// Numbers out of repeated measurements: medians with the range beside them, because the range is the noise.

/** What several rounds of one measurement amount to. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** The middle value, or the mean of the two middle ones. Throws when there is none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  if (upper === undefined || lower === undefined) throw new Error("the median of nothing");
  return (lower + upper) / 2;
}

/** Nearest rank: the smallest value that `share` (0 to 1) of the values do not exceed. Null when there is none. */
export function percentile(values: readonly number[], share: number): number | null {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? null;
}

/** Null when a round is missing its value: a median over other rounds than its neighbours' would compare nothing. */
export function spread(values: readonly (number | null)[]): Spread | null {
  const present = values.filter((value) => value !== null);
  if (present.length === 0 || present.length < values.length) return null;
  return { median: median(present), min: Math.min(...present), max: Math.max(...present) };
}

/**
 * The median over rounds of value / reference, each pair from the same round: what the machine does to a whole round
 * leaves it unchanged. Null when a value is missing.
 */
export function ratio(values: readonly (number | null)[], references: readonly (number | null)[]): number | null {
  const ratios = values.map((value, round) => {
    const reference = references[round] ?? null;
    return value === null || reference === null || reference === 0 ? null : value / reference;
  });
  return spread(ratios)?.median ?? null;
}

/** `items` beginning with the one at `by`, so that over the rounds each comes first, second, … equally often. */
export function rotate<T>(items: readonly T[], by: number): T[] {
  const at = items.length === 0 ? 0 : by % items.length;
  return [...items.slice(at), ...items.slice(0, at)];
}
