// From plain values to checked ones: runs a zod schema over one section of the file and puts each of zod's issues into
// words that name the key and the remedy. A person who mistyped a key is told the nearest one that exists.

import { z } from "zod";
import type { Path } from "./document.ts";
import { foreignSettings } from "./foreign-settings.ts";

/** Where mistakes go. `path` says where; the message reads on after the key, such as `is missing`. */
export interface Report {
  problem(path: Path, message: string, remedy: string): void;
  /** Something that works but hardly as meant. */
  warning(path: Path, message: string, remedy: string): void;
}

function unwrap(schema: unknown): unknown {
  let inner = schema;
  while (inner instanceof z.ZodOptional || inner instanceof z.ZodDefault || inner instanceof z.ZodPrefault) {
    inner = inner.unwrap();
  }
  return inner;
}

function schemaAt(schema: unknown, path: Path): unknown {
  return path.reduce<unknown>((outer, step) => {
    const inner = unwrap(outer);
    if (inner instanceof z.ZodObject) return inner.shape[String(step)];
    if (inner instanceof z.ZodArray) return inner.element;
    if (inner instanceof z.ZodRecord) return inner.valueType;
    return undefined;
  }, schema);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value at `path` of plain values; undefined when there is none. */
export function valueAt(root: unknown, path: Path): unknown {
  return path.reduce<unknown>((value, step) => {
    if (Array.isArray(value)) return value[Number(step)];
    return isRecord(value) && Object.hasOwn(value, step) ? value[step] : undefined;
  }, root);
}

/** A section that is named but left empty means the same as one that is left out. */
function withoutEmptySections(schema: unknown, value: unknown): unknown {
  const section = unwrap(schema);
  if (!(section instanceof z.ZodObject) || !isRecord(value)) return value;
  const entries = Object.entries(value).filter(
    ([key, inner]) => inner !== null || !(unwrap(section.shape[key]) instanceof z.ZodObject),
  );
  return Object.fromEntries(entries.map(([key, inner]) => [key, withoutEmptySections(section.shape[key], inner)]));
}

function distance(left: string, right: string): number {
  let above = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let row = 1; row <= left.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= right.length; column += 1) {
      const substitution = (above[column - 1] ?? 0) + (left[row - 1] === right[column - 1] ? 0 : 1);
      current.push(Math.min((above[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1, substitution));
    }
    above = current;
  }
  return above[right.length] ?? 0;
}

/** The one of `known` that is most like `written`, when it is like it at all. */
export function nearest(written: string, known: readonly string[]): string | null {
  const plain = (name: string) => name.toLowerCase().replaceAll(/[-_ ]/g, "");
  const wanted = plain(written).slice(0, 100);
  let best: string | null = null;
  let bestDistance = Math.max(2, Math.floor(wanted.length / 3)) + 1;
  for (const name of known) {
    const apart = distance(wanted, plain(name));
    if (apart < bestDistance) [best, bestDistance] = [name, apart];
  }
  return best;
}

/** Remedy for a key that does not exist among `known`. */
export function keyRemedy(written: string, known: readonly string[]): string {
  const guess = nearest(written, known);
  return guess === null ? `use one of: ${known.join(", ")}` : `write ${guess}`;
}

const kinds: Readonly<Record<string, string>> = {
  string: "a text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  object: "a section with settings",
  record: "a section with names",
  array: "a list",
};

function typeProblem(expected: string, value: unknown): [message: string, remedy: string] {
  const kind = kinds[expected] ?? expected;
  if (value === null) return ["has no value", `write ${kind}, or remove the key`];
  if (expected === "string" && (typeof value === "number" || typeof value === "boolean")) {
    return [`must be ${kind}`, "put it in quotes"];
  }
  if ((expected === "number" || expected === "int") && typeof value === "string" && /^\d+$/.test(value)) {
    return [`must be ${kind}`, "remove the quotes"];
  }
  if (expected === "array") return ["must be a list", "write [a, b], or one item per line behind a hyphen"];
  return [`must be ${kind}`, `write ${kind}`];
}

function describeIssue(issue: z.core.$ZodIssue, schema: unknown, value: unknown): [message: string, remedy: string] {
  if (value === undefined) {
    const described = schemaAt(schema, issue.path.map(String));
    const meaning = described instanceof z.ZodType ? described.description : undefined;
    return ["is missing", meaning === undefined ? "add it" : `add it: ${meaning}`];
  }
  switch (issue.code) {
    case "invalid_type":
      return typeProblem(issue.expected, value);
    case "invalid_value": {
      const known = issue.values.map(String);
      const message = typeof value === "string" ? `cannot be "${value.slice(0, 100)}"` : "has a wrong value";
      return [message, value === null ? `use one of: ${known.join(", ")}` : keyRemedy(String(value), known)];
    }
    case "too_small":
      if (issue.origin === "string" || issue.origin === "array")
        return ["is empty", "write a value, or remove the key"];
      return [`must be at least ${issue.minimum}`, `write ${issue.minimum} or more`];
    case "too_big":
      if (issue.origin === "array") return [`has more than ${issue.maximum} items`, "remove some"];
      return [`must be at most ${issue.maximum}`, `write ${issue.maximum} or less`];
    case "custom": {
      const remedy: unknown = issue.params?.["remedy"];
      return [issue.message, typeof remedy === "string" ? remedy : "correct it"];
    }
    case "invalid_union":
      if (value === null) return ["has no value", "write a value, or remove the key"];
      return [issue.message, "write a number or a text"];
    default:
      return [issue.message, "correct it"];
  }
}

/** Checks the value at `path` of `root` against `schema`. What does not fit is reported, and null returned. */
export function decodeSection<T extends z.ZodType>(
  schema: T,
  root: unknown,
  path: Path,
  report: Report,
): z.output<T> | null {
  const written = valueAt(root, path);
  const isEmptySection = written === null && unwrap(schema) instanceof z.ZodObject;
  const value = isEmptySection ? undefined : withoutEmptySections(schema, written);
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  for (const issue of result.error.issues) {
    const inner = issue.path.map((step) => (typeof step === "number" ? step : String(step)));
    if (issue.code === "unrecognized_keys") {
      const section = unwrap(schemaAt(schema, inner));
      const known = section instanceof z.ZodObject ? Object.keys(section.shape) : [];
      for (const key of issue.keys) {
        const foreign = foreignSettings.get(key);
        if (foreign !== undefined) report.problem([...path, ...inner, key], foreign.message, foreign.remedy);
        else report.problem([...path, ...inner, key], "is not a setting", keyRemedy(key, known));
      }
      continue;
    }
    const [message, remedy] = describeIssue(issue, schema, valueAt(value, inner));
    report.problem([...path, ...inner], message, remedy);
  }
  return null;
}
