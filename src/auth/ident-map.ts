// User name maps, PostgreSQL's pg_ident.conf: which names in a certificate may log in as which users
// (https://www.postgresql.org/docs/current/auth-username-maps.html).

import { readLines } from "./hba-lines.ts";
import { fault, type NameWord, namesMatch, type Read, readNames } from "./hba-names.ts";
import type { AccessFiles, FieldLine, FileProblem, Token } from "./hba-tokens.ts";

interface IdentLine {
  readonly map: string;
  readonly systemName: NameWord;
  readonly user: NameWord;
  /** The user's name as written, where `\1` stands for what the system name's first group took. */
  readonly userText: string;
}

export type IdentFile =
  | { readonly ok: true; readonly maps: IdentMaps }
  | { readonly ok: false; readonly problems: readonly FileProblem[] };

const userWords: ReadonlySet<string> = new Set(["all"]);
const form = "write MAP SYSTEM-NAME USER; a name with a comma in quotes";
const BACK_REFERENCE = "\\1";

/** All maps of a file. */
export class IdentMaps {
  readonly #lines: readonly IdentLine[];

  constructor(lines: readonly IdentLine[]) {
    this.#lines = lines;
  }

  has(map: string): boolean {
    return this.#lines.some((line) => line.map === map);
  }

  /** Whether `map` lets `systemName` log in as `user`. */
  allows(map: string, systemName: string, user: string): boolean {
    for (const line of this.#lines) {
      if (line.map !== map) continue;
      const verdict = judge(line, systemName, user);
      // As in PostgreSQL, a \1 without anything to stand for ends the search.
      if (verdict !== null) return verdict;
    }
    return false;
  }
}

/** True: allowed; false: refused for good; null: the next line may allow it. */
function judge(
  { systemName: word, user: wanted, userText }: IdentLine,
  systemName: string,
  user: string,
): boolean | null {
  if (word.kind !== "pattern")
    return word.kind === "name" && word.name === systemName && isUser(wanted, user) ? true : null;
  const match = word.match(systemName);
  if (match === null) return null;
  if (wanted.kind === "pattern" || !userText.includes(BACK_REFERENCE)) return isUser(wanted, user) ? true : null;
  if (match.group === null) return false;
  const { group } = match;
  return userText.replace(BACK_REFERENCE, () => group) === user ? true : null;
}

const isUser = (wanted: NameWord, user: string): boolean => namesMatch([wanted], user, () => true);

export function readIdentFile(file: string, files: AccessFiles): IdentFile {
  const terms = { called: "lines", remedy: "use a regular expression" };
  const { values: lines, problems } = readLines(file, files, terms, readLine);
  return problems.length === 0 ? { ok: true, maps: new IdentMaps(lines) } : { ok: false, problems };
}

function readLine({ fields }: FieldLine): Read<IdentLine> {
  const words: Token[] = [];
  for (const [index, what] of ["map", "system name", "user"].entries()) {
    const [token, second] = fields[index] ?? [];
    if (token === undefined) return fault(`ends before its ${what}`, form);
    if (second !== undefined) return fault(`has several words as ${what}`, form);
    words.push(token);
  }
  const [map, system, user] = words;
  if (map === undefined || system === undefined || user === undefined) return fault("is too short", form);
  if (!user.quoted && user.text.startsWith("+")) {
    const message = `has ${user.text}, which asks who is a member of which role; pgsteer does not know that`;
    return fault(message, "write a line for each user");
  }
  const systemName = readNames([system], new Set());
  if (!systemName.ok) return systemName;
  const wanted = readNames([user], userWords);
  if (!wanted.ok) return wanted;
  const [systemWord, userWord] = [systemName.value[0], wanted.value[0]];
  if (systemWord === undefined || userWord === undefined) return fault("is too short", form);
  return { ok: true, value: { map: map.text, systemName: systemWord, user: userWord, userText: user.text } };
}
