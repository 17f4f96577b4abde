// What a stranger said, for people to read: names and texts go to logs and terminals, where control characters would be orders.

/** As long as PostgreSQL's names may be, and then some. */
const CHARACTERS_MAX = 80;

/** `text` without characters that are not to be seen, and not longer than a line has room for. */
export function printable(text: string, charactersMax: number = CHARACTERS_MAX): string {
  const seen = text.slice(0, charactersMax).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
  return text.length > charactersMax ? `${seen}…` : seen;
}
