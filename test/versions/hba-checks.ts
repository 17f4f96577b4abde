// Our reading of HBA files beside that of PostgreSQL 16 and later, which know regular expressions and includes. What all versions know is
// in test/integration/hba.test.ts. The primary only shows what it would make of the files: they are never loaded.

import { deepStrictEqual, ok } from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { z } from "zod";
import { readHbaFile } from "../../src/auth/hba.ts";
import { type Connection, connect, query } from "../support/sql.ts";
import type { Check, Trial } from "./trial.ts";

const SEED = 20_261_121;
const FILES = 300;

const files = {
  readFile: (path: string): string => readFileSync(path, "utf8"),
  listFiles: (path: string): string[] => readdirSync(path),
};

const ruleRow = z.object({
  file_name: z.string(),
  line_number: z.number(),
  user_name: z.array(z.string()).nullable(),
  auth_method: z.string().nullable(),
  error: z.string().nullable(),
});

/** What PostgreSQL makes of its file as it is now: a line each. */
async function truth(connection: Connection): Promise<string[]> {
  const columns = "file_name, line_number, user_name, auth_method, error";
  const { rows } = await query(connection, `SELECT ${columns} FROM pg_hba_file_rules`);
  const lines = rows.map((row) => {
    const { file_name, line_number, user_name, auth_method, error } = ruleRow.parse(row);
    const place = `${file_name}:${line_number}`;
    return error === null ? `${place} ${user_name?.join(",")} ${auth_method}` : `${place} wrong`;
  });
  return lines;
}

/** The same of ours, as far as a file with mistakes says: of that, its wrong lines. */
function ours(file: string): { readonly lines: string[]; readonly complete: boolean } {
  const read = readHbaFile(file, files);
  if (!read.ok) return { lines: read.problems.map((each) => `${each.file}:${each.line} wrong`), complete: false };
  const word = (each: { kind: string; name?: string; keyword?: string }): string => each.name ?? each.keyword ?? "/";
  const lines = read.rules.map((rule) => `${rule.file}:${rule.line} ${rule.users.map(word).join(",")} ${rule.method}`);
  return { lines, complete: true };
}

/** Runs `work` with the primary's own file out of the way. */
async function withFile(trial: Trial, work: (connection: Connection, file: string) => Promise<void>): Promise<void> {
  const file = join(trial.pair.primary.directory, "pg_hba.conf");
  const kept = readFileSync(file);
  const connection = trial.keep(await connect(trial.pair.primary.login()));
  try {
    await work(connection, file);
  } finally {
    writeFileSync(file, kept);
  }
}

const pattern = fc
  .array(fc.constantFrom("^", "$", "a", "[a-z]", "(b|c)", "(", ")", "[", "*", "+", "{2}", "{2,1}", ".", "\\d", "\\."), {
    minLength: 1,
    maxLength: 5,
  })
  .map((parts) => `/${parts.join("")}`);
const name = fc.oneof(pattern, fc.constantFrom("all", "app", '"/^a,b$"', '"all"'));
const names = fc.array(name, { minLength: 1, maxLength: 2 }).map((words) => words.join(","));
const line = fc.tuple(names, names).map(([databases, users]) => `host ${databases} ${users} all trust`);

async function knowsPatterns(trial: Trial): Promise<string> {
  let wrong = 0;
  await withFile(trial, (connection, file) =>
    fc.assert(
      fc.asyncProperty(fc.array(line, { minLength: 1, maxLength: 4 }), async (lines) => {
        writeFileSync(file, `${lines.join("\n")}\n`);
        const expected = (await truth(connection)).filter((each) => each.endsWith("wrong"));
        wrong += expected.length;
        const { lines: said, complete } = ours(file);
        deepStrictEqual(complete ? [] : said, expected);
      }),
      { seed: SEED, numRuns: FILES },
    ),
  );
  ok(wrong > FILES / 10, "some of the expressions are wrong");
  return `${FILES} files, ${wrong} wrong`;
}

async function includes(trial: Trial): Promise<undefined> {
  const { directory } = trial.pair.primary;
  const write = (path: string, text: string): void => writeFileSync(join(directory, path), text);
  for (const folder of ["hba.d", "hba-more"]) mkdirSync(join(directory, folder));
  for (const file of ["b.conf", "a.conf", "Z.conf", ".hidden.conf"])
    write(`hba.d/${file}`, `host all ${file} all md5\n`);
  write("hba.d/other.txt", "nonsense\n");
  write("hba-more/one.conf", "\nhost all one all trust\ninclude two.conf\nhost all @names all reject\n");
  write("hba-more/two.conf", "local all two trust\n");
  write("hba-more/names", "n1, n2 # two\n@more\n");
  write("hba-more/more", '"n3" n4\n');
  await withFile(trial, async (connection, file) => {
    writeFileSync(
      file,
      "include_dir hba.d\ninclude hba-more/one.conf\ninclude_if_exists nowhere\nhost all last all md5\n",
    );
    const { lines, complete } = ours(file);
    ok(complete);
    deepStrictEqual(lines, await truth(connection));
    writeFileSync(file, "include nowhere\ninclude_dir nowhere\nhost all @nowhere all md5\nhost all last all md5\n");
    const wrong = (await truth(connection)).filter((each) => each.endsWith("wrong"));
    deepStrictEqual(ours(file).lines, wrong);
  });
  return undefined;
}

export const hbaChecks: readonly Check[] = [
  { name: "regular expressions in HBA files", since: 16, run: knowsPatterns },
  { name: "HBA files that include others", since: 16, run: includes },
];
