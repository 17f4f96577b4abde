// What the project's own commands take: numbers and lists, with commander's errors for those who mistype.

import { InvalidArgumentError } from "commander";

/** For a whole number from 1. */
export function wholeNumber(max = 1_000_000): (written: string) => number {
  return (written) => {
    const value = Number(written);
    if (!Number.isInteger(value) || value < 1 || value > max) {
      throw new InvalidArgumentError(`a whole number from 1 to ${max}`);
    }
    return value;
  };
}

/** For a number above 0. */
export function positiveNumber(max: number): (written: string) => number {
  return (written) => {
    const value = Number(written);
    if (!(value > 0 && value <= max)) throw new InvalidArgumentError(`a number above 0, up to ${max}`);
    return value;
  };
}

/** For one or more of `known`, separated by commas; in the order of `known`. */
export function someOf<T extends string>(known: readonly T[]): (written: string) => readonly T[] {
  return (written) => {
    const names = written.split(",");
    const unknown = names.find((name) => !known.some((each) => each === name));
    if (unknown !== undefined) throw new InvalidArgumentError(`one or more of ${known.join(",")}`);
    return known.filter((each) => names.includes(each));
  };
}

/** A seed for runs that were given none. */
export const anySeed = (): number => 1 + Math.floor(Math.random() * 1_000_000);
