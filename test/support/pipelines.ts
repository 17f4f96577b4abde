// Random pipelines of frontend messages for PostgreSQL: what clients send, in any order, with failures at each place. Needs the
// tables of `tables`.

import fc from "fast-check";
import { serialize } from "pg-protocol";

/** What the pipelines talk about: `missing` does not exist, `refusing` fails before it takes a row, `deferred` in its Sync. */
export const tables = `CREATE TABLE items (id int);
  CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
  INSERT INTO deferred VALUES (1);
  CREATE TABLE refusing (id int);
  CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no rows here'; END $$;
  CREATE TRIGGER refuse BEFORE INSERT ON refusing FOR EACH STATEMENT EXECUTE FUNCTION refuse()`;

/** One frontend message; its first byte is its type. */
export type Message = Buffer;

/** What a pipeline is made of: messages that belong together. */
export type Part = readonly Message[];

export const functionCall = (): Message => {
  // Fast-path call of pg_backend_pid() (OID 2026) without arguments, result as text.
  const message = Buffer.from("F\0\0\0\x0e\0\0\x07\xea\0\0\0\0\0\0", "latin1");
  return message;
};

export const rows = (good: boolean): Message[] => [
  serialize.copyData(Buffer.from("1\n2\n")),
  serialize.copyData(Buffer.from(good ? "3\n" : "three\n")),
  serialize.copyData(Buffer.from("4\n")),
];
export const copyEnd = (done: boolean): Message => (done ? serialize.copyDone() : serialize.copyFail("no more"));

const simpleSql = fc.constantFrom(
  "SELECT 1",
  "SELECT generate_series(1, 3); SELECT 'two'",
  "",
  ";",
  "SELECT 1/0",
  "SELEC",
  "SELECT 1; SELECT 1/0; SELECT 3",
  "BEGIN",
  "COMMIT",
  "ROLLBACK",
  "INSERT INTO deferred VALUES (1)",
  "COPY (SELECT generate_series(1, 5)) TO STDOUT",
  "COPY missing TO STDOUT",
  "COPY (SELECT 1) TO STDOUT; SELECT 1",
  "SET application_name = 'a'; RESET application_name",
  "DO $$ BEGIN RAISE NOTICE 'n'; END $$",
  "NOTIFY channel",
  "LISTEN channel",
  "SELECT pg_notify('channel', 'x')",
);
const preparedSql = fc.constantFrom(
  "SELECT 1",
  "SELECT generate_series(1, 5)",
  "",
  "SELEC",
  "SELECT 1/0",
  "SELECT 1; SELECT 2",
  "INSERT INTO deferred VALUES (1)",
  "BEGIN",
  "COMMIT",
  "ROLLBACK",
  "COPY (SELECT 1) TO STDOUT",
);
const name = fc.constantFrom("", "", "", "s");

const simple: fc.Arbitrary<Part> = simpleSql.map((sql) => [serialize.query(sql)]);
const simpleCopy: fc.Arbitrary<Part> = fc
  .record({
    sql: fc.constantFrom(
      "COPY items FROM STDIN",
      "COPY missing FROM STDIN",
      "SELECT 1; COPY items FROM STDIN; SELECT 2",
      "SELECT 1/0; COPY items FROM STDIN",
    ),
    good: fc.boolean(),
    done: fc.boolean(),
  })
  .map(({ sql, good, done }) => [serialize.query(sql), ...rows(good), copyEnd(done)]);
const twoCopies: fc.Arbitrary<Part> = fc
  .tuple(fc.boolean(), fc.boolean())
  .map(([first, second]) => [
    serialize.query("COPY items FROM STDIN; COPY items FROM STDIN"),
    ...rows(first),
    copyEnd(true),
    ...rows(true),
    copyEnd(second),
  ]);
const step: fc.Arbitrary<Part> = fc.oneof(
  fc.record({ name, text: preparedSql }).map((it): Part => [serialize.parse(it)]),
  fc.record({ portal: name, statement: name }).map((it): Part => [serialize.bind(it)]),
  fc.record({ type: fc.constantFrom("S" as const, "P" as const), name }).map((it): Part => [serialize.describe(it)]),
  fc.record({ portal: name, rows: fc.constantFrom(0, 1, 2) }).map((it): Part => [serialize.execute(it)]),
  fc.record({ type: fc.constantFrom("S" as const, "P" as const), name }).map((it): Part => [serialize.close(it)]),
  fc.constant<Part>([serialize.flush()]),
);
const whole: fc.Arbitrary<Part> = fc
  .record({ text: preparedSql, sync: fc.boolean() })
  .map(({ text, sync }) => [
    serialize.parse({ text }),
    serialize.bind(),
    serialize.describe({ type: "P" }),
    serialize.execute(),
    ...(sync ? [serialize.sync()] : []),
  ]);
// As libpq does it: a Sync right behind the Execute, which the copying server ignores, and one behind the copy.
const extendedCopy: fc.Arbitrary<Part> = fc
  .record({
    text: fc.constantFrom("COPY items FROM STDIN", "COPY missing FROM STDIN", "COPY refusing FROM STDIN"),
    early: fc.boolean(),
    good: fc.boolean(),
    done: fc.boolean(),
  })
  .map(({ text, early, good, done }) => [
    serialize.parse({ text }),
    serialize.bind(),
    serialize.execute(),
    ...(early ? [serialize.sync()] : []),
    ...rows(good),
    copyEnd(done),
    serialize.sync(),
  ]);
const sync: fc.Arbitrary<Part> = fc.constant<Part>([serialize.sync()]);
const stray: fc.Arbitrary<Part> = fc
  .tuple(fc.boolean(), fc.boolean())
  .map(([good, done]) => [...rows(good).slice(0, 1), copyEnd(done)]);

export const part = fc.oneof(
  { weight: 4, arbitrary: simple },
  { weight: 2, arbitrary: simpleCopy },
  { weight: 1, arbitrary: twoCopies },
  { weight: 6, arbitrary: step },
  { weight: 4, arbitrary: whole },
  { weight: 2, arbitrary: extendedCopy },
  { weight: 3, arbitrary: sync },
  { weight: 1, arbitrary: stray },
  { weight: 1, arbitrary: fc.constant<Part>([functionCall()]) },
);
