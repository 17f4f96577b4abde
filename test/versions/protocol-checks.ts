// The protocol's kinds of traffic, on every version: the same messages to the primary itself and through pgsteer must be answered
// with the same messages. Cancel requests and large results besides.

import { deepStrictEqual, strictEqual } from "node:assert/strict";
import { errorFields, firstColumn, frontend, int32, message, outline, RawClient } from "../support/raw-client.ts";
import { sleep } from "../support/time.ts";
import type { Check, Door, Trial } from "./trial.ts";

const DOORS: readonly Door[] = ["write", "session", "auto"];

/** What a client sends in one go, and how many ReadyForQuery messages answer it. */
type Said = readonly [bytes: Buffer, ready: number];

const ask = (sql: string): Said => [frontend.query(sql), 1];
const say = (...parts: readonly Buffer[]): Said => [Buffer.concat(parts), 1];

/** Says each of `turns`, through every door, and compares all answers with PostgreSQL's own. */
async function sameAnswers(trial: Trial, turns: readonly Said[], doors: readonly Door[] = DOORS): Promise<undefined> {
  for (const door of doors) {
    const conversation = await trial.conversation(door);
    for (const [bytes, ready] of turns) {
      const { truth, said } = await conversation.take({ bytes, ready, open: false, cuts: [] });
      deepStrictEqual(said, truth, `${door}: answers to ${bytes.toString("latin1").slice(0, 60)}`);
    }
    conversation.destroy();
  }
}

const { bind, copyData, copyDone, describe, execute, extended, flush, parse, query, sync } = frontend;

const copyFail = (reason: string): Buffer => message("f", Buffer.from(`${reason}\0`));
/** Fast-path call of pg_catalog.int4pl: two binary arguments, a binary result. */
const functionCall = message(
  "F",
  int32(177),
  Buffer.from("00010001", "hex"),
  Buffer.from("0002", "hex"),
  ...[20, 22].flatMap((value) => [int32(4), int32(value)]),
  Buffer.from("0001", "hex"),
);

const simple: readonly Said[] = [
  ask("SELECT 1"),
  ask("SELECT generate_series(1, 5); SELECT 'two', NULL; "),
  ask(""),
  ask("BEGIN"),
  ask("SELECT 1/0"),
  ask("SELECT 1"),
  ask("ROLLBACK"),
  [functionCall, 1],
];

const extendedTurns: readonly Said[] = [
  [extended("SELECT 1, 'x'::text, now() IS NULL"), 1],
  say(
    parse("SELECT generate_series(1, 10)"),
    describe("", "S"),
    bind(),
    describe(),
    execute(3),
    execute(4),
    execute(0),
    sync(),
  ),
  say(parse("SELECT 'named'", "a"), bind("a", "p"), describe("a", "S"), execute(0, "p"), sync()),
  say(bind("a"), execute(), sync()),
  [extended("SELECT $1::int"), 1],
  say(parse("SELEC"), bind(), execute(), sync()),
  say(bind("missing"), sync()),
  say(message("C", Buffer.from("Sa\0")), sync()),
  say(bind("a"), sync()),
];

const pipeline: readonly Said[] = [
  [Buffer.concat(Array.from({ length: 200 }, (_, index) => extended(`SELECT ${index}`))), 200],
  [Buffer.concat([extended("SELECT 1"), extended("SELECT 1/0"), extended("SELECT 3"), query("SELECT 4")]), 4],
  say(
    parse("SELECT 1"),
    bind(),
    execute(),
    parse("SELECT 1/0"),
    bind(),
    execute(),
    parse("SELECT 2"),
    bind(),
    execute(),
    sync(),
  ),
  say(parse("SELECT 1", "p1"), bind("p1"), execute(), flush(), bind("p1"), execute(), sync()),
];

const rowsOf = (count: number): Buffer =>
  copyData(Buffer.from(Array.from({ length: count }, (_, index) => `${index}\trow ${index}\n`).join("")));

const copying: readonly Said[] = [
  ask("CREATE TEMP TABLE copied (id int, text text)"),
  say(query("COPY copied FROM STDIN"), rowsOf(1000), rowsOf(10), copyDone()),
  say(query("COPY copied FROM STDIN"), rowsOf(3), copyFail("enough")),
  say(query("COPY copied FROM STDIN"), rowsOf(3), copyData(Buffer.from("no number\tx\n")), rowsOf(3), copyDone()),
  ask("COPY (SELECT * FROM copied ORDER BY id, text) TO STDOUT"),
  ask("COPY (SELECT 1, 'two') TO STDOUT (FORMAT binary)"),
  ask("COPY (SELECT 1 / (3 - n) FROM generate_series(1, 5) n) TO STDOUT"),
  say(parse("COPY copied FROM STDIN"), bind(), execute(), rowsOf(5), copyDone(), sync()),
  say(parse("COPY copied TO STDOUT"), bind(), execute(), sync()),
  ask("SELECT count(*) FROM copied"),
];

const complaints: readonly Said[] = [
  ask(
    "DO $$ BEGIN RAISE NOTICE 'a notice' USING DETAIL = 'more', HINT = 'less'; RAISE WARNING '%', repeat('w', 20000); END $$",
  ),
  ask("DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'XX123', DETAIL = 'd', TABLE = 't', COLUMN = 'c'; END $$"),
  ask("SELECT * FROM missing"),
  ask("SELECT 'x'::int"),
  ask("SET client_min_messages = debug1"),
  ask("CREATE TEMP TABLE noted (id int PRIMARY KEY)"),
  ask("INSERT INTO noted VALUES ('x')"),
  ask("RESET client_min_messages"),
  [extended("DO $$ BEGIN RAISE NOTICE 'n'; END $$"), 1],
];

/** What came with each major, as a client meets it: new commands and tags, new notices. */
const novelties: readonly { readonly since: number; readonly sql: readonly string[] }[] = [
  {
    since: 14,
    sql: [
      "CREATE TEMP TABLE target (id int PRIMARY KEY, v int)",
      "INSERT INTO target SELECT n, 0 FROM generate_series(1, 5) n",
      "CREATE PROCEDURE pg_temp.answer(OUT a int, OUT b text) LANGUAGE sql AS 'SELECT 1, ''out'''",
      "CALL pg_temp.answer(NULL, NULL)",
      "SELECT ('{\"a\": [1, 2]}'::jsonb)['a'][1]",
      "SHOW default_toast_compression",
    ],
  },
  {
    since: 15,
    sql: ["MERGE INTO target t USING (SELECT 1 AS id) s ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = 9"],
  },
  { since: 16, sql: ["SELECT any_value(v), '1' IS JSON FROM target WHERE id = 1", "SHOW scram_iterations"] },
  {
    since: 17,
    sql: [
      "MERGE INTO target t USING (SELECT 2 AS id) s ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = 9 RETURNING merge_action(), t.v + 0 AS v",
      "SELECT * FROM JSON_TABLE('[1, 2]', '$[*]' COLUMNS (n int PATH '$'))",
      "SET transaction_timeout = '1min'",
      "SHOW transaction_timeout",
      "RESET transaction_timeout",
    ],
  },
  {
    since: 18,
    sql: [
      "UPDATE target SET v = 1 WHERE id = 3 RETURNING old.v + 0 AS old, new.v + 0 AS new",
      "CREATE TEMP TABLE virtual (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL)",
      "INSERT INTO virtual VALUES (21) RETURNING a + b AS sum",
      "SET search_path = pg_catalog; SHOW search_path",
    ],
  },
];

async function largeResult(trial: Trial): Promise<string> {
  const client = await trial.client("write");
  client.send(query("SELECT repeat('x', 1000000) FROM generate_series(1, 40)"));
  let bytes = 0;
  for (let next = await client.next(); next?.type !== "Z"; next = await client.next()) {
    if (next === null || next.type === "E") throw new Error(outline([next]).join());
    if (next.type === "D") bytes += firstColumn(next.body)?.length ?? 0;
  }
  strictEqual(bytes, 40_000_000);
  return "40 MB";
}

/** A statement that sleeps ends by a cancel request with the key that pgsteer gave; the session lives on. */
async function cancels(trial: Trial): Promise<undefined> {
  for (const door of ["write", "session", "read"] as const) {
    const login = trial.login(door);
    const client = trial.keep(await RawClient.open(login.port));
    const strings = `user\0${login.user}\0database\0${login.database}\0\0`;
    client.send(message("", int32(196_608), Buffer.from(strings)));
    const key = (await client.authenticate(login.user, login.password)).find((each) => each?.type === "K");
    if (key === undefined || key === null) throw new Error("no key");
    client.send(query("SELECT pg_sleep(60)"));
    const asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%' AND state = 'active'";
    const watcher = await trial.client(door === "read" ? "read" : "write");
    while ((await watcher.value(asleep)) === "0") await sleep(10);
    const canceller = trial.keep(await RawClient.open(login.port));
    canceller.send(message("", int32(80_877_102), key.body));
    const error = (await client.untilReady()).find((each) => each?.type === "E");
    strictEqual(error === null || error === undefined ? "none" : errorFields(error.body)["C"], "57014", door);
    strictEqual(await client.value("SELECT 'still there'"), "still there");
  }
}

async function new17(trial: Trial): Promise<undefined> {
  await sameAnswers(trial, [
    ask("CREATE TEMP TABLE forgiving (id int)"),
    say(query("COPY forgiving FROM STDIN (ON_ERROR ignore)"), copyData(Buffer.from("1\nx\n2\n")), copyDone()),
    ask("SELECT count(*) FROM forgiving"),
  ]);
}

async function newSyntax(trial: Trial): Promise<string> {
  const known = novelties.filter(({ since }) => since <= trial.major).flatMap(({ sql }) => sql);
  await sameAnswers(trial, known.flatMap((sql): Said[] => [ask(sql), [extended(sql), 1]]).filter(onceOnly), [
    "write",
    "session",
  ]);
  return `${known.length} statements`;
}

/** Statements of several commands have no extended form, and what is made once cannot be made again. */
function onceOnly([bytes]: Said): boolean {
  const isExtended = bytes[0] === "P".charCodeAt(0);
  return !(isExtended && /;|CREATE|INSERT/.test(bytes.toString("latin1")));
}

export const protocolChecks: readonly Check[] = [
  { name: "simple protocol", run: (trial) => sameAnswers(trial, simple) },
  { name: "extended protocol", run: (trial) => sameAnswers(trial, extendedTurns) },
  { name: "pipelines", run: (trial) => sameAnswers(trial, pipeline) },
  { name: "COPY in and out", run: (trial) => sameAnswers(trial, copying) },
  { name: "COPY … ON_ERROR ignore", since: 17, run: new17 },
  { name: "errors and notices", run: (trial) => sameAnswers(trial, complaints) },
  { name: "what each version brought", since: 14, run: newSyntax },
  { name: "large result", run: largeResult },
  { name: "cancel", run: cancels },
];
