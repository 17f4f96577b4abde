// From the text of a regular expression to what it says, in PostgreSQL's syntax of advanced regular expressions
// (https://www.postgresql.org/docs/current/functions-matching.html#POSIX-SYNTAX-DETAILS) and the C locale, in which it reads those of
// HBA and ident files. hba-pattern.ts runs it.

type Test = (letter: string) => boolean;

/** What an expression says. */
export type PatternNode =
  | { readonly kind: "letter"; readonly test: Test }
  | { readonly kind: "place"; readonly is: (before: string, after: string) => boolean }
  | { readonly kind: "sequence"; readonly parts: readonly PatternNode[] }
  | { readonly kind: "choice"; readonly branches: readonly PatternNode[] }
  | { readonly kind: "group"; readonly inside: PatternNode; readonly number: number | null }
  | {
      readonly kind: "repeat";
      readonly inside: PatternNode;
      readonly min: number;
      readonly max: number;
      readonly lazy: boolean;
    };

/** What cannot be understood; the message reads on after "the regular expression". */
export class PatternRefused extends Error {}

const isWord: Test = (letter) => /^[A-Za-z0-9_]$/.test(letter);
const isDigit: Test = (letter) => /^[0-9]$/.test(letter);
const isSpace: Test = (letter) => /^[ \t\n\v\f\r]$/.test(letter);
const not =
  (test: Test): Test =>
  (letter) =>
    !test(letter);

const shorthands: ReadonlyMap<string, Test> = new Map([
  ["d", isDigit],
  ["w", isWord],
  ["s", isSpace],
  ["D", not(isDigit)],
  ["W", not(isWord)],
  ["S", not(isSpace)],
]);

/** In PostgreSQL's C locale, in which it compiles these expressions. */
const classes: ReadonlyMap<string, Test> = new Map([
  ["alnum", (letter) => /^[A-Za-z0-9]$/.test(letter)],
  ["alpha", (letter) => /^[A-Za-z]$/.test(letter)],
  ["blank", (letter) => letter === " " || letter === "\t"],
  ["cntrl", (letter) => letter < " " || letter === "\x7f"],
  ["digit", isDigit],
  ["graph", (letter) => /^[!-~]$/.test(letter)],
  ["lower", (letter) => /^[a-z]$/.test(letter)],
  ["print", (letter) => /^[ -~]$/.test(letter)],
  ["punct", (letter) => /^[!-/:-@[-`{-~]$/.test(letter)],
  ["space", isSpace],
  ["upper", (letter) => /^[A-Z]$/.test(letter)],
  ["word", isWord],
  ["xdigit", (letter) => /^[A-Fa-f0-9]$/.test(letter)],
]);

const wordEdges: ReadonlyMap<string, (before: string, after: string) => boolean> = new Map([
  ["m", (before, after) => !isWord(before) && isWord(after)],
  ["M", (before, after) => isWord(before) && !isWord(after)],
  ["y", (before, after) => isWord(before) !== isWord(after)],
  ["Y", (before, after) => isWord(before) === isWord(after)],
  ["A", (before) => before === ""],
  ["Z", (_before, after) => after === ""],
]);

const controls: Readonly<Record<string, string>> = {
  a: "\x07",
  b: "\b",
  B: "\\",
  e: "\x1b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

/** PostgreSQL's DUPMAX. */
const REPEAT_MAX = 255;

/** The most parentheses inside one another. */
const NESTING_MAX = 50;

/** Throws PatternRefused. */
export function readPattern(source: string): PatternNode {
  return new Reader(source).whole();
}

/** Text to tree. */
class Reader {
  readonly #letters: readonly string[];
  #at = 0;
  #groups = 0;
  #depth = 0;

  constructor(source: string) {
    if (source.startsWith("***") || /^\(\?[a-z]+\)/.test(source))
      throw new PatternRefused("begins with options, which are not understood");
    this.#letters = [...source];
  }

  whole(): PatternNode {
    const node = this.#choice();
    if (this.#at < this.#letters.length) throw new PatternRefused("has a closing parenthesis too many");
    return node;
  }

  #peek(ahead = 0): string {
    return this.#letters[this.#at + ahead] ?? "";
  }

  #next(): string {
    const letter = this.#peek();
    this.#at += 1;
    return letter;
  }

  #eat(letter: string): boolean {
    if (this.#peek() !== letter) return false;
    this.#at += 1;
    return true;
  }

  #choice(): PatternNode {
    const branches = [this.#sequence()];
    while (this.#eat("|")) branches.push(this.#sequence());
    return { kind: "choice", branches };
  }

  #sequence(): PatternNode {
    const parts: PatternNode[] = [];
    while (this.#peek() !== "" && this.#peek() !== "|" && this.#peek() !== ")") parts.push(this.#quantified());
    return { kind: "sequence", parts };
  }

  #quantified(): PatternNode {
    const atom = this.#atom();
    const bounds = this.#bounds();
    if (bounds === null) return atom;
    if (atom.kind === "place") throw new PatternRefused("repeats something that has no length");
    const lazy = this.#eat("?");
    if (/^[*+?]$/.test(this.#peek())) throw new PatternRefused("repeats a repetition");
    return { kind: "repeat", inside: atom, ...bounds, lazy };
  }

  #bounds(): { min: number; max: number } | null {
    if (this.#eat("*")) return { min: 0, max: Number.POSITIVE_INFINITY };
    if (this.#eat("+")) return { min: 1, max: Number.POSITIVE_INFINITY };
    if (this.#eat("?")) return { min: 0, max: 1 };
    // A brace before anything but a digit stands for itself.
    if (this.#peek() !== "{" || !isDigit(this.#peek(1))) return null;
    const written = /^\{(\d{1,3})(?:(,)(\d{1,3})?)?\}/.exec(this.#letters.slice(this.#at, this.#at + 9).join(""));
    if (written === null) throw new PatternRefused("has braces that count nothing");
    const min = Number(written[1]);
    const max =
      written[2] === undefined ? min : written[3] === undefined ? Number.POSITIVE_INFINITY : Number(written[3]);
    const most = max === Number.POSITIVE_INFINITY ? min : max;
    if (min > most || most > REPEAT_MAX) throw new PatternRefused("has braces that count nothing");
    this.#at += written[0].length;
    return { min, max };
  }

  #atom(): PatternNode {
    const letter = this.#next();
    switch (letter) {
      case "(":
        return this.#group();
      case "[":
        return { kind: "letter", test: this.#bracket() };
      case ".":
        return { kind: "letter", test: () => true };
      case "^":
        return { kind: "place", is: (before) => before === "" };
      case "$":
        return { kind: "place", is: (_before, after) => after === "" };
      case "\\":
        return this.#escape();
      case "*":
      case "+":
      case "?":
        throw new PatternRefused("repeats nothing");
      default:
        if (letter === "{" && isDigit(this.#peek())) throw new PatternRefused("repeats nothing");
        return { kind: "letter", test: (one) => one === letter };
    }
  }

  #group(): PatternNode {
    let number: number | null = null;
    if (this.#eat("?")) {
      if (!this.#eat(":")) throw new PatternRefused("looks ahead or behind, which is not understood");
    } else {
      this.#groups += 1;
      number = this.#groups;
    }
    this.#depth += 1;
    if (this.#depth > NESTING_MAX)
      throw new PatternRefused(`has more than ${NESTING_MAX} parentheses, one inside the other`);
    const inside = this.#choice();
    this.#depth -= 1;
    if (!this.#eat(")")) throw new PatternRefused("lacks a closing parenthesis");
    return { kind: "group", inside, number };
  }

  #escape(): PatternNode {
    const letter = this.#next();
    const edge = wordEdges.get(letter);
    if (edge !== undefined) return { kind: "place", is: edge };
    const shorthand = shorthands.get(letter);
    if (shorthand !== undefined) return { kind: "letter", test: shorthand };
    const meant = this.#escaped(letter);
    return { kind: "letter", test: (one) => one === meant };
  }

  /** The letter for which a backslash and `letter` stand. */
  #escaped(letter: string): string {
    if (letter === "") throw new PatternRefused("ends in a backslash");
    if (letter === "u" || letter === "U") {
      const digits = { u: 4, U: 8 }[letter];
      const written = this.#letters.slice(this.#at, this.#at + digits).join("");
      if (!new RegExp(`^[0-9A-Fa-f]{${digits}}$`).test(written))
        throw new PatternRefused(`has a \\${letter} without its digits`);
      this.#at += digits;
      const code = Number.parseInt(written, 16);
      if (code > 0x10ffff) throw new PatternRefused(`has a \\${letter} that is no letter`);
      return String.fromCodePoint(code);
    }
    const control = controls[letter];
    if (control !== undefined) return control;
    if (isDigit(letter)) throw new PatternRefused("refers back to a group, which is not understood");
    if (/^[A-Za-z]$/.test(letter)) throw new PatternRefused(`has \\${letter}, which is not understood`);
    return letter;
  }

  #bracket(): Test {
    const negated = this.#eat("^");
    const tests: Test[] = [];
    for (let first = true; first || this.#peek() !== "]"; first = false) {
      if (this.#peek() === "") throw new PatternRefused("lacks a closing bracket");
      tests.push(this.#bracketItem());
    }
    this.#next();
    const listed: Test = (letter) => tests.some((test) => test(letter));
    return negated ? not(listed) : listed;
  }

  #bracketItem(): Test {
    const start = this.#next();
    if (start === "[" && this.#peek() === ":") return this.#namedClass();
    if (start === "[" && /^[.=]$/.test(this.#peek()))
      throw new PatternRefused("has a collating element, which is not understood");
    if (start === "\\") {
      const shorthand = shorthands.get(this.#peek());
      if (shorthand !== undefined) {
        this.#next();
        return shorthand;
      }
    }
    const from = start === "\\" ? this.#escaped(this.#next()) : start;
    if (this.#peek() !== "-" || this.#peek(1) === "]" || this.#peek(1) === "") return (letter) => letter === from;
    this.#next();
    const end = this.#next();
    if (end === "[" && /^[:.=]$/.test(this.#peek())) throw new PatternRefused("has a range that ends in a class");
    const to = end === "\\" ? this.#escaped(this.#next()) : end;
    const [low, high] = [codeOf(from), codeOf(to)];
    if (low > high) throw new PatternRefused("has a range that runs backwards");
    return (letter) => low <= codeOf(letter) && codeOf(letter) <= high;
  }

  #namedClass(): Test {
    const rest = this.#letters.slice(this.#at, this.#at + 12).join("");
    const name = /^:([a-z]+):\]/.exec(rest)?.[1] ?? "";
    const test = classes.get(name);
    if (test === undefined) throw new PatternRefused("has a class of letters that does not exist");
    this.#at += name.length + 3;
    return test;
  }
}

const codeOf = (letter: string): number => letter.codePointAt(0) ?? 0;
