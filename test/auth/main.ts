// `npm run test:auth [-- --only matrix,timing]`: the proof of logins. Part by part, pgsteer beside PostgreSQL (and beside PgBouncer where
// that has the same): what clients get, by what they hold. Exits with 1 when anything failed.

import { Command } from "commander";
import { someOf } from "../support/options.ts";
import { attacks } from "./attacks.ts";
import { authQuery } from "./auth-query.ts";
import { Book, type Part, table } from "./book.ts";
import { encryption } from "./encryption.ts";
import { matrix } from "./matrix.ts";
import { pgbouncer } from "./pgbouncer.ts";
import { secured } from "./secured.ts";
import { timing } from "./timing.ts";

const parts: readonly Part[] = [matrix, pgbouncer, encryption, authQuery, secured, timing, attacks];
const names = parts.map(({ name }) => name);

async function runPart(part: Part): Promise<Book> {
  const book = new Book(part.name);
  console.log(`\n== ${part.name}: ${part.about}`);
  try {
    await part.run(book);
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : "";
    book.fail(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}${cause}`);
  }
  return book;
}

async function runAll(chosen: readonly Part[]): Promise<boolean> {
  const books: Book[] = [];
  const seconds: number[] = [];
  for (const part of chosen) {
    const begun = performance.now();
    books.push(await runPart(part));
    seconds.push((performance.now() - begun) / 1000);
  }
  console.log(`\n${table(books, seconds)}`);
  for (const { part, failures } of books) for (const failure of failures) console.log(`FAILED: ${part}: ${failure}`);
  const sum = (count: (book: Book) => number): number => books.reduce((total, book) => total + count(book), 0);
  const failed = sum(({ failures }) => failures.length);
  console.log(`${sum(({ passed }) => passed)} passed, ${failed} failed, ${sum(({ skips }) => skips.length)} skipped`);
  return failed === 0;
}

for (const [name, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const) {
  // The reapers end what was started.
  process.once(name, () => process.exit(code));
}
const list = parts.map(({ name, about }) => `  ${name.padEnd(14)}${about}`).join("\n");
await new Command("test:auth")
  .description(`how clients and pgsteer log in, beside PostgreSQL and PgBouncer\n\nparts:\n${list}`)
  .option("--only <parts>", `parts to run, of ${names.join(",")}`, someOf(names))
  .action(async ({ only }: { readonly only?: readonly string[] }) => {
    const chosen = parts.filter(({ name }) => only?.includes(name) ?? true);
    process.exitCode = (await runAll(chosen)) ? 0 : 1;
  })
  .parseAsync();
process.exit();
