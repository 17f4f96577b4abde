// Expectations outside of a test runner: they throw what a person needs to read.

import { isDeepStrictEqual } from "node:util";

/** Throws `why` unless `holds`. */
export function check(holds: boolean, why: string | (() => string)): void {
  if (!holds) throw new Error(typeof why === "string" ? why : why());
}

/** Throws unless the two are structurally the same. */
export function equal(what: string, seen: unknown, expected: unknown): void {
  check(
    isDeepStrictEqual(seen, expected),
    () => `${what}: ${JSON.stringify(seen)}, expected ${JSON.stringify(expected)}`,
  );
}

/** Throws unless `parts` occur in `sequence` in this order, whatever stands between them. */
export function inOrder(what: string, sequence: readonly string[], parts: readonly string[]): void {
  let at = 0;
  for (const each of sequence) if (each === parts[at]) at += 1;
  check(at === parts.length, () => `${what}: ${sequence.join(" → ")}, expected ${parts.join(" → … → ")}`);
}
