// A YAML 1.2 text as a tree of plain values that still knows where each of them was written, so that every problem can
// name its line. Aliases are bounded, duplicate keys and unknown tags are problems.

import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  visit,
} from "yaml";
import type { Problem } from "./config.ts";

/** Uses of aliases in one file; more smells of an attack that grows a short file to gigabytes. */
const ALIASES_MAX = 100;
/** A configuration is kilobytes; beyond this it is the wrong file. Characters. */
const TEXT_LENGTH_MAX = 1_048_576;

/** The way to a value: keys of maps, indexes of lists. */
export type Path = readonly (string | number)[];

/** `["listeners", 1, "port"]` → `listeners[1].port`. */
export function keyOf(path: Path): string {
  return path.reduce<string>((key, step) => {
    if (typeof step === "number") return `${key}[${step}]`;
    return key === "" ? step : `${key}.${step}`;
  }, "");
}

/** A parsed file. */
export interface ConfigDocument {
  /** Plain values; null when the text could not be parsed. */
  readonly root: unknown;
  readonly problems: readonly Problem[];
  /**
   * The position of the value at `path`; of its key when it is a map, a list or nothing; of the nearest parent when
   * there is none.
   */
  position(path: Path): { line: number; column: number };
}

const remedies: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: "keep one of them",
  TAB_AS_INDENT: "indent with spaces",
  BAD_INDENT: "line it up with its neighbours",
  MULTIPLE_DOCS: "keep one document, remove the --- line",
  TAG_RESOLVE_FAILED: "remove the tag",
};

function resolved(node: unknown, document: Document): unknown {
  return isAlias(node) ? node.resolve(document) : node;
}

function offsetOf(document: Document, path: Path): number {
  let node: unknown = document.contents;
  let offset = isNode(node) ? (node.range?.[0] ?? 0) : 0;
  for (const step of path) {
    const inside = resolved(node, document);
    let key: Node | null = null;
    let value: unknown = null;
    if (isMap(inside)) {
      const pair = inside.items.find((item) => (isScalar(item.key) ? String(item.key.value) : "") === String(step));
      if (pair === undefined) break;
      key = isNode(pair.key) ? pair.key : null;
      value = pair.value;
    } else if (isSeq(inside)) {
      value = inside.items[Number(step)];
    }
    const isValue = isScalar(value) && value.value !== null;
    const shown = key === null || isValue ? value : key;
    if (!isNode(shown)) break;
    offset = shown.range?.[0] ?? offset;
    node = value;
  }
  return offset;
}

/** The parser's message without what it quotes from the file, which may be the beginning of a password that lacks its quotes. */
function withoutQuotation(message: string): string {
  const bare = message
    .replace(/: .*$/s, "")
    .replace(/^The .* tag has/s, "a tag has")
    .replace(/^(Unsupported YAML version|Unknown directive|Invalid escape sequence) .*$/s, "$1");
  return bare.charAt(0).toLowerCase() + bare.slice(1);
}

/** Parses `text`. Never throws; what is wrong is in `problems`. */
export function parseConfigDocument(text: string): ConfigDocument {
  if (text.length > TEXT_LENGTH_MAX) {
    const message = `is longer than ${TEXT_LENGTH_MAX} characters`;
    const problem = { line: 1, column: 1, key: "", message, remedy: "check that this is the configuration file" };
    return { root: null, problems: [problem], position: () => ({ line: 1, column: 1 }) };
  }
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false, version: "1.2", uniqueKeys: true });
  const at = (offset: number) => {
    const { line, col } = lineCounter.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const problems: Problem[] = [];
  const broken = (offset: number, message: string, remedy: string) => {
    const position = at(offset);
    // One slip often breaks the parser's mind several times on the same line; the first message is the one to heed.
    if (problems.some((problem) => problem.line === position.line)) return;
    problems.push({ ...position, key: "", message: `the YAML is broken: ${message}`, remedy });
  };
  for (const { pos, message, code } of [...document.errors, ...document.warnings]) {
    broken(pos[0], withoutQuotation(message), remedies[code] ?? "check quotes, colons and indentation here");
  }
  visit(document, {
    Alias: (_key, alias) => {
      if (alias.resolve(document) !== undefined) return;
      broken(
        alias.range?.[0] ?? 0,
        "there is no anchor for the alias here",
        "quote a text that begins with *, or define &anchor before *alias",
      );
    },
  });
  let root: unknown = null;
  if (problems.length === 0) {
    try {
      root = document.toJS({ maxAliasCount: ALIASES_MAX });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      broken(0, withoutQuotation(message), "write the values out instead of using aliases");
    }
  }
  return { root, problems, position: (path) => at(offsetOf(document, path)) };
}
