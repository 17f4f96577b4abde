// The words of HBA and ident files that stand for names: of databases, of users. A word may be a name, a keyword unless it is quoted,
// or a regular expression, if it begins with a slash (PostgreSQL 16 on).

import { compilePattern, type PatternMatch } from "./hba-pattern.ts";
import type { Token } from "./hba-tokens.ts";

/** A word that was looked at. */
export type NameWord =
  | { readonly kind: "keyword"; readonly keyword: string }
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "pattern"; readonly match: (name: string) => PatternMatch | null };

/** What is wrong with a line, and what to do about it; reads on after the line's place. */
export interface LineFault {
  readonly message: string;
  readonly remedy: string;
}

/** Something that was read, or what is wrong with it. */
export type Read<T> = { readonly ok: true; readonly value: T } | ({ readonly ok: false } & LineFault);

export const fault = (message: string, remedy: string): { readonly ok: false } & LineFault => ({
  ok: false,
  message,
  remedy,
});

/** PostgreSQL's NAMEDATALEN - 1: it cuts longer names off, and so do we before we compare them. */
const NAME_BYTES_MAX = 63;

/** A name as PostgreSQL will have it. */
export function cutName(name: string): string {
  if (name.length * 3 <= NAME_BYTES_MAX || Buffer.byteLength(name) <= NAME_BYTES_MAX) return name;
  // A letter that is cut in two is left out.
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Buffer.from(name).subarray(0, NAME_BYTES_MAX), {
    stream: true,
  });
}

/** `keywords`: the words that mean more than themselves here. */
export function readNames(tokens: readonly Token[], keywords: ReadonlySet<string>): Read<readonly NameWord[]> {
  const words: NameWord[] = [];
  for (const { text, quoted } of tokens) {
    if (!quoted && keywords.has(text)) words.push({ kind: "keyword", keyword: text });
    else if (text.startsWith("/")) {
      const pattern = compilePattern(text.slice(1));
      if (!pattern.ok)
        return fault(`has the regular expression ${text}, which ${pattern.message}`, "write it otherwise");
      words.push({ kind: "pattern", match: pattern.match });
    } else words.push({ kind: "name", name: text });
  }
  return { ok: true, value: words };
}

/** Whether one of `words` stands for `name`; keywords are the caller's to judge. */
export function namesMatch(words: readonly NameWord[], name: string, keyword: (keyword: string) => boolean): boolean {
  return words.some((word) => {
    if (word.kind === "keyword") return keyword(word.keyword);
    return word.kind === "name" ? word.name === name : word.match(name) !== null;
  });
}
