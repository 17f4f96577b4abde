// Looking into a parse tree whose shape is libpg-query's: small questions to values of which nothing is known beforehand
// (https://github.com/pganalyze/libpg_query: field names are PostgreSQL's; zero, false and empty values are left out).

/** A node's fields. */
export type Fields = Readonly<Record<string, unknown>>;

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The fields of `value` where it is an object; none otherwise. */
export const fields = (value: unknown): Fields => (isFields(value) ? value : {});

/** Kind and fields of a node, `{ SelectStmt: { … } }`. */
export function nodeOf(value: unknown): readonly [kind: string, node: Fields] {
  const [entry] = Object.entries(fields(value));
  return entry === undefined ? ["", {}] : [entry[0], fields(entry[1])];
}

export const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

export const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** What a literal says, as SET writes it down; null where it is no literal, or NULL. */
export function literal(value: unknown): string | null {
  const [kind, node] = nodeOf(value);
  if (kind !== "A_Const" || node["isnull"] === true) return null;
  if ("sval" in node) return text(fields(node["sval"])["sval"]);
  if ("ival" in node) return String(fields(node["ival"])["ival"] ?? 0);
  if ("fval" in node) return text(fields(node["fval"])["fval"]);
  return null;
}

/** Whether a literal is true beyond doubt. */
export function isTrue(value: unknown): boolean {
  const [, node] = nodeOf(value);
  if (fields(node["boolval"])["boolval"] === true) return true;
  return /^\s*(?:t(?:r(?:ue?)?)?|y(?:es?)?|on|1)\s*$/i.test(literal(value) ?? "");
}

/** A name that may be qualified: its parts. */
export function nameParts(value: unknown): readonly string[] {
  return list(value).map((part) => text(fields(fields(part)["String"])["sval"]));
}

/** Every object in `root`, itself included, with the key under which it stands. Not recursive: trees can be deep. */
export function* everything(root: unknown): Generator<readonly [key: string, node: Fields]> {
  const stack: [string, unknown][] = [["", root]];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const [key, value] = next;
    if (Array.isArray(value)) for (const each of value) stack.push([key, each]);
    else if (isFields(value)) {
      yield [key, value];
      for (const [name, inner] of Object.entries(value)) if (typeof inner === "object") stack.push([name, inner]);
    }
  }
}
