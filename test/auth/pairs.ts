// Combinations of values in which each value of each dimension meets each value of every other one at least once: a greedy covering,
// the same each time (https://csrc.nist.gov/projects/automated-combinatorial-testing-for-software). What cannot be is left out.

/** Values by the name of their dimension. */
export type Dimensions = Readonly<Record<string, readonly string[]>>;
/** One value per dimension. */
export type Combination<D extends Dimensions> = { readonly [K in keyof D]: D[K][number] };

/** The full product is made: more would take longer than what is tried with the rows. */
const COMBINATIONS_MAX = 100_000;

/**
 * Rows that cover every pair of values that stands in some possible combination. Each next row is the first of those that bring
 * most new pairs.
 */
export function pairwise<D extends Dimensions>(
  dimensions: D,
  possible: (combination: Combination<D>) => boolean,
): Combination<D>[] {
  const all = product(dimensions).filter((each) => possible(each));
  const ids = new Map<string, number>();
  const pairs = all.map((each) => pairsOf(dimensions, each).map((pair) => idOf(pair, ids)));
  const missing = new Set(pairs.flat());
  const rows: Combination<D>[] = [];
  while (missing.size > 0) {
    let best = -1;
    let most = 0;
    for (const [index, having] of pairs.entries()) {
      let news = 0;
      for (const pair of having) if (missing.has(pair)) news += 1;
      if (news > most) [best, most] = [index, news];
    }
    for (const pair of pairs[best] ?? []) missing.delete(pair);
    const row = all[best];
    if (row !== undefined) rows.push(row);
  }
  return rows;
}

function idOf(text: string, ids: Map<string, number>): number {
  const id = ids.get(text) ?? ids.size;
  ids.set(text, id);
  return id;
}

/** The pairs of values that a combination has, as texts. */
export function pairsOf<D extends Dimensions>(dimensions: D, combination: Combination<D>): string[] {
  const named = Object.keys(dimensions).map((name) => `${name}=${combination[name]}`);
  return named.flatMap((left, index) => named.slice(index + 1).map((right) => `${left} ${right}`));
}

function product<D extends Dimensions>(dimensions: D): Combination<D>[] {
  let rows: Record<string, string>[] = [{}];
  for (const [name, values] of Object.entries(dimensions)) {
    rows = rows.flatMap((row) => values.map((value) => ({ ...row, [name]: value })));
    if (rows.length > COMBINATIONS_MAX) throw new Error("too many combinations to choose pairs from");
  }
  return rows as Combination<D>[];
}
