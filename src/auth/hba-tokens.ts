// PostgreSQL's files of fields, pg_hba.conf and pg_ident.conf: lines into fields, fields into tokens, other files included where a
// line or an @name asks for them (https://www.postgresql.org/docs/current/auth-pg-hba-conf.html; hba.c has the small print).
// Files come in through the functions that are handed in; what is wrong is collected, never thrown.

import { dirname, isAbsolute, join } from "node:path";
import { ACCESS_FILE_DEPTH_MAX, ACCESS_FILES_MAX } from "../core/limits.ts";

/** Where the files come from. Both throw as node:fs does. */
export interface AccessFiles {
  readonly readFile: (path: string) => string;
  /** Names of the files in a directory; directories are not among them. */
  readonly listFiles: (path: string) => readonly string[];
}

/** One word of a field. Quoted at its beginning, it has no special meaning. */
export interface Token {
  readonly text: string;
  readonly quoted: boolean;
}

/** One line that says something: at least one field, each with at least one token. */
export interface FieldLine {
  readonly file: string;
  /** From 1; of the first line where it is continued. */
  readonly line: number;
  readonly fields: readonly (readonly Token[])[];
}

/** What is wrong in one line of one file, and what to do about it. */
export interface FileProblem {
  readonly file: string;
  /** From 1; 0: the file as a whole. */
  readonly line: number;
  readonly message: string;
  readonly remedy: string;
}

/** What a file and all that it includes come to. */
export interface FieldFile {
  readonly lines: readonly FieldLine[];
  readonly problems: readonly FileProblem[];
}

/** Reads `file`, absolute, and what it includes. */
export function readFieldFile(file: string, files: AccessFiles): FieldFile {
  const reading = new Reading(files);
  reading.file(file, null, 0);
  return { lines: reading.lines, problems: reading.problems };
}

/** Where a file is asked for. */
interface Place {
  readonly file: string;
  readonly line: number;
}

class Reading {
  readonly lines: FieldLine[] = [];
  readonly problems: FileProblem[] = [];
  readonly #files: AccessFiles;
  readonly #told = new Set<string>();
  #count = 0;
  #faults = 0;

  constructor(files: AccessFiles) {
    this.#files = files;
  }

  file(file: string, from: Place | null, depth: number, mayBeMissing = false): void {
    const text = this.#read(file, from, depth, mayBeMissing);
    if (text === null) return;
    for (const [line, content] of logicalLines(text)) {
      const place = { file, line };
      const faults = this.#faults;
      const fields = this.#fieldsOf(content, place, depth);
      // Without the words of a file that cannot be read the rest of the line would mean something else.
      if (faults !== this.#faults || fields.length === 0 || this.#include(fields, place, depth)) continue;
      this.lines.push({ file, line, fields });
    }
  }

  /** Whether the line asks for other files, which are then read. */
  #include(fields: readonly (readonly Token[])[], place: Place, depth: number): boolean {
    const [how, what] = [fields[0]?.[0]?.text, fields[1]?.[0]?.text];
    if (fields.length !== 2 || what === undefined) return false;
    const path = resolve(what, place.file);
    if (how === "include") this.file(path, place, depth + 1);
    else if (how === "include_if_exists") this.file(path, place, depth + 1, true);
    else if (how === "include_dir") this.#directory(path, place, depth);
    else return false;
    return true;
  }

  #directory(path: string, place: Place, depth: number): void {
    let names: readonly string[];
    try {
      names = this.#files.listFiles(path);
    } catch (error) {
      this.#problem(place, `includes a directory that ${readFailure(error)}: ${path}`, "check the path");
      return;
    }
    const wanted = names.filter((name) => name.endsWith(".conf") && !name.startsWith("."));
    for (const name of wanted.toSorted(byBytes)) this.file(join(path, name), place, depth + 1);
  }

  #fieldsOf(content: string, place: Place, depth: number): (readonly Token[])[] {
    return fieldsOf(content)
      .map((tokens) => tokens.flatMap((token) => this.#expanded(token, place, depth)))
      .filter((tokens) => tokens.length > 0);
  }

  /** An @name stands for all words of that file. */
  #expanded(token: Token, place: Place, depth: number): readonly Token[] {
    if (token.quoted || token.text.length < 2 || !token.text.startsWith("@")) return [token];
    const path = resolve(token.text.slice(1), place.file);
    const text = this.#read(path, place, depth + 1, false);
    if (text === null) return [];
    const inside: Token[] = [];
    for (const [line, words] of logicalLines(text)) {
      for (const field of this.#fieldsOf(words, { file: path, line }, depth + 1)) inside.push(...field);
    }
    return inside;
  }

  #read(path: string, from: Place | null, depth: number, mayBeMissing: boolean): string | null {
    const place = from ?? { file: path, line: 0 };
    this.#count += 1;
    if (this.#count > ACCESS_FILES_MAX) {
      if (this.#count === ACCESS_FILES_MAX + 1) {
        this.#problem(
          place,
          `is beyond the limit of ${ACCESS_FILES_MAX} files`,
          "look for files that include each other",
        );
      }
      return null;
    }
    if (depth > ACCESS_FILE_DEPTH_MAX) {
      this.#problem(
        place,
        `includes files more than ${ACCESS_FILE_DEPTH_MAX} deep`,
        "look for a file that includes itself",
      );
      return null;
    }
    try {
      return this.#files.readFile(path);
    } catch (error) {
      if (mayBeMissing && codeOf(error) === "ENOENT") return null;
      const remedy = "check the path (it starts in the directory of the file that names it) and its permissions";
      this.#problem(
        place,
        `${from === null ? "is a file" : "asks for a file"} that ${readFailure(error)}: ${path}`,
        remedy,
      );
      return null;
    }
  }

  /** A file that is included twice has its problems once. */
  #problem(place: Place, message: string, remedy: string): void {
    this.#faults += 1;
    const key = `${place.file}:${place.line} ${message}`;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    this.problems.push({ ...place, message, remedy });
  }
}

const resolve = (name: string, from: string): string => (isAbsolute(name) ? name : join(dirname(from), name));

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

function readFailure(error: unknown): string {
  const code = codeOf(error);
  if (code === "ENOENT") return "does not exist";
  if (code === "EACCES" || code === "EPERM") return "may not be read by the user that runs pgsteer";
  return `cannot be read (${typeof code === "string" ? code : "unknown error"})`;
}

/** Lines with their numbers; one that ends in a backslash goes on in the next, wherever the backslash stands. */
function* logicalLines(text: string): Generator<[line: number, content: string]> {
  const physical = text.replace(/^\uFEFF/, "").split(/\r*\n/);
  for (let index = 0; index < physical.length; index += 1) {
    const first = index + 1;
    let content = physical[index] ?? "";
    while (content.endsWith("\\")) {
      content = content.slice(0, -1);
      index += 1;
      const next = physical[index] ?? "";
      // What went before does not count: an empty line behind a backslash ends the record.
      if (next === "") break;
      content += next;
    }
    yield [first, content];
  }
}

/** Fields are parted by blanks, the tokens of a field by commas; blanks may follow a comma. */
function fieldsOf(content: string): (readonly Token[])[] {
  const fields: Token[][] = [];
  let isNew = true;
  for (const { token, goesOn } of tokensOf(content)) {
    if (isNew) fields.push([]);
    fields.at(-1)?.push(token);
    isNew = !goesOn;
  }
  return fields;
}

const isBlank = (letter: string): boolean => letter === " " || letter === "\t" || letter === "\r";

/** `goesOn`: a comma follows at once, so that the next token belongs to the same field. */
function* tokensOf(content: string): Generator<{ readonly token: Token; readonly goesOn: boolean }> {
  let at = 0;
  for (;;) {
    while (at < content.length && (isBlank(content[at] ?? "") || content[at] === ",")) at += 1;
    const { token, end, goesOn } = tokenAt(content, at);
    at = end;
    if (token === null) return;
    yield { token, goesOn };
  }
}

/** A quote opens and closes anywhere in a token; doubled between quotes it stands for itself. `#` ends the line. */
function tokenAt(content: string, start: number): { token: Token | null; end: number; goesOn: boolean } {
  let [text, quoted, anyQuote, inside] = ["", false, false, false];
  let at = start;
  for (; at < content.length; at += 1) {
    const letter = content[at] ?? "";
    if (letter === '"') {
      if (inside && content[at + 1] === '"') {
        text += letter;
        at += 1;
        continue;
      }
      inside = !inside;
      quoted ||= text === "";
      anyQuote = true;
      continue;
    }
    if (!inside && (letter === "#" || letter === "," || isBlank(letter))) break;
    text += letter;
  }
  const stopped = content[at];
  const end = stopped === "#" ? content.length : stopped === undefined ? at : at + 1;
  return { token: anyQuote || text !== "" ? { text, quoted } : null, end, goesOn: stopped === "," };
}
