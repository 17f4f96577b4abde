// Assertions: a failed one is a bug in pgsteer, never an operating condition, and it ends the process loudly.

/** A bug in pgsteer. Nothing catches it on purpose; the process ends with its stack. */
export class AssertionFailure extends Error {
  override readonly name = "AssertionFailure";
}

/** Throws AssertionFailure when `condition` is false. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionFailure(message);
}

/** For the `default` of an exhaustive switch: the type says that it cannot be reached. */
export function unreachable(value: never): never {
  throw new AssertionFailure(`unexpected value: ${String(value)}`);
}
