// What came of the proof: every check once, as passed, failed or skipped, part by part, and the table at the end.

import Table from "cli-table3";

/** One part's account. */
export class Book {
  readonly part: string;
  readonly failures: string[] = [];
  readonly skips: string[] = [];
  /** What a person should know of it, in a few words. */
  note = "";
  passed = 0;

  constructor(part: string) {
    this.part = part;
  }

  /** Prints a line of the part's own report. */
  say(line: string): void {
    console.log(line);
  }

  pass(count = 1): void {
    this.passed += count;
  }

  fail(what: string): void {
    this.failures.push(what);
    this.say(`FAILED: ${what}`);
  }

  /** `why` is printed once for all that were skipped for it. */
  skip(why: string, count = 1): void {
    for (let left = count; left > 0; left -= 1) this.skips.push(why);
    this.say(`skipped ${count}: ${why}`);
  }

  /** Passed when they are equal in all that JSON shows; otherwise failed, with both. */
  equal(what: string, seen: unknown, expected: unknown): void {
    const [left, right] = [JSON.stringify(seen), JSON.stringify(expected)];
    if (left === right) this.pass();
    else this.fail(`${what}: ${left}, expected ${right}`);
  }

  holds(what: string, condition: boolean): void {
    if (condition) this.pass();
    else this.fail(what);
  }
}

/** A part of the proof. What it throws is a failure of its own. */
export interface Part {
  readonly name: string;
  readonly about: string;
  run(book: Book): Promise<void>;
}

export function table(books: readonly Book[], seconds: readonly number[]): string {
  const head = ["part", "passed", "failed", "skipped", "s", ""];
  const rows = new Table({ head, style: { head: [], border: [], compact: true } });
  for (const [index, book] of books.entries()) {
    const counts = [book.passed, book.failures.length, book.skips.length, (seconds[index] ?? 0).toFixed(0)];
    rows.push([book.part, ...counts.map(String), book.note]);
  }
  return rows.toString();
}

/** A table of a part's own report. */
export function reportTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const shown = new Table({ head: [...head], style: { head: [], border: [], compact: true } });
  for (const row of rows) shown.push([...row]);
  return shown.toString();
}
