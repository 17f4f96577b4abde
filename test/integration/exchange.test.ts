// The reply ledger against a real PostgreSQL: random pipelines, sent in random pieces while answers come in. The ledger must take
// every answer as owed, agree about COPY, and be empty exactly when PostgreSQL has answered everything.

import { connect, type Socket } from "node:net";
import fc from "fast-check";
import { serialize } from "pg-protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Backend } from "../../src/protocol/constants.ts";
import { Exchange, FORWARD } from "../../src/protocol/exchange.ts";
import { Framer, type FrameSink, WHOLE } from "../../src/protocol/framer.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { type Connection, connect as connectSql, queryOnce, query as sqlQuery } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

/** One frontend message; its first byte is its type. */
type Message = Buffer;

/** What a pipeline is made of: messages that belong together. */
type Part = readonly Message[];

const functionCall = (): Message => {
  // Fast-path call of pg_backend_pid() (OID 2026) without arguments, result as text.
  const message = Buffer.from("F\0\0\0\x0e\0\0\x07\xea\0\0\0\0\0\0", "latin1");
  return message;
};

const rows = (good: boolean): Message[] => [
  serialize.copyData(Buffer.from("1\n2\n")),
  serialize.copyData(Buffer.from(good ? "3\n" : "three\n")),
  serialize.copyData(Buffer.from("4\n")),
];
const copyEnd = (done: boolean): Message => (done ? serialize.copyDone() : serialize.copyFail("no more"));

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
    text: fc.constantFrom("COPY items FROM STDIN", "COPY missing FROM STDIN"),
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

const part = fc.oneof(
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

/** A connection whose every message goes through a ledger. */
class Ledger implements FrameSink {
  readonly exchange = new Exchange();
  /** What happened, for the message of a failure. */
  readonly log: string[] = [];
  problem: string | null = null;
  fenceSeen = false;
  ready = 0;
  closed = false;
  readonly #socket: Socket;
  readonly #framer = new Framer(this);
  /** The server's process, and the transaction status that it last told. */
  pid = 0;
  status = "I";
  #loggedIn = false;

  constructor(port: number) {
    this.#socket = connect({ port, host: "127.0.0.1", noDelay: true });
    this.#socket.on("data", (chunk: Buffer) => this.#framer.push(chunk, 0, chunk.length));
    this.#socket.on("error", () => {});
    this.#socket.on("close", () => {
      this.closed = true;
    });
    this.#socket.write(serialize.startup({ user: "postgres", database: "postgres" }));
  }

  get loggedIn(): boolean {
    return this.#loggedIn;
  }

  send(messages: readonly Message[]): void {
    for (const message of messages) {
      this.log.push(`> ${message.toString("latin1", 0, 1)}`);
      this.exchange.request(message[0] ?? 0);
    }
    this.#socket.write(Buffer.concat(messages));
  }

  header(): typeof WHOLE {
    return WHOLE;
  }
  pass(): void {}
  malformed(): void {
    this.problem ??= "malformed";
  }

  whole(type: number, buffer: Buffer, start: number, end: number): void {
    const letter = String.fromCharCode(type);
    if (!this.#loggedIn) {
      this.#loggedIn = type === Backend.ReadyForQuery;
      if (type === Backend.BackendKeyData) this.pid = buffer.readInt32BE(start + 5);
      return;
    }
    const body = buffer.toString("latin1", start + 5, end);
    this.log.push(`< ${letter}${letter === "E" || letter === "Z" ? ` ${body.replaceAll("\0", " ")}` : ""}`);
    const empty = this.exchange.empty;
    const asynchronous = "NSA".includes(letter);
    // Empty means that all was answered: nothing may follow.
    if (empty && !asynchronous) this.problem ??= `${letter} although the ledger was empty`;
    if (this.exchange.reply(type) !== FORWARD) this.problem ??= `${letter} was not forwarded`;
    if (type === Backend.DataRow && body.includes("the fence")) this.fenceSeen = true;
    if (type === Backend.ReadyForQuery) {
      this.ready += 1;
      this.status = body;
    }
    if (type === Backend.CopyInResponse) this.#checkCopy();
  }

  /** Copying in, unless its end was sent ahead. */
  #checkCopy(): void {
    const sentAhead = this.log.some((line) => line === "> c" || line === "> f");
    if (!sentAhead && !this.exchange.copyIn) this.problem ??= "CopyInResponse, but the ledger does not copy in";
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

let postgres: Postgres;

beforeAll(async () => {
  postgres = await startPostgres("exchange");
  await queryOnce(
    postgres.login,
    `CREATE TABLE items (id int);
     CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
     INSERT INTO deferred VALUES (1);
     CREATE TABLE refusing (id int);
     CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no rows here'; END $$;
     CREATE TRIGGER refuse BEFORE INSERT ON refusing FOR EACH STATEMENT EXECUTE FUNCTION refuse()`,
  );
});

afterAll(async () => {
  await postgres.remove();
});

const settled = async (ledger: Ledger, what: string, look: () => boolean): Promise<void> => {
  await waitFor(() => ledger.problem !== null || ledger.closed || look(), {
    timeoutMs: 10_000,
    intervalMs: 1,
    what: `${what}: ${ledger.log.join(" ")}`,
  });
  if (ledger.problem !== null || ledger.closed) {
    throw new Error(`${ledger.problem ?? "closed"} while ${what}: ${ledger.log.join(" ")}`);
  }
};

/** Sends a pipeline in pieces, letting answers in where `pauses` says so; then a Sync; then, all being answered, a fence. */
async function play(messages: readonly Message[], pauses: readonly boolean[]): Promise<void> {
  const ledger = new Ledger(postgres.port);
  try {
    await settled(ledger, "logging in", () => ledger.loggedIn);
    let piece: Message[] = [];
    for (const [index, message] of [...messages, serialize.sync()].entries()) {
      piece.push(message);
      if (pauses[index % Math.max(1, pauses.length)] !== true) continue;
      ledger.send(piece);
      piece = [];
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (piece.length > 0) ledger.send(piece);
    await settled(ledger, "waiting for the ledger to be empty", () => ledger.exchange.empty);
    const answered = ledger.ready;
    ledger.send([serialize.query("ROLLBACK; SELECT 'the fence'")]);
    await settled(ledger, "waiting for the fence", () => ledger.exchange.empty);
    // Had something been owed still, its ReadyForQuery had come before the fence's.
    expect(ledger.fenceSeen, ledger.log.join(" ")).toBe(true);
    expect(ledger.ready, ledger.log.join(" ")).toBe(answered + 1);
    expect(ledger.exchange.copyIn).toBe(false);
  } finally {
    ledger.destroy();
  }
}

/** Sends a pipeline without its end. Where the ledger then says that all is done, PostgreSQL must have nothing open. */
async function breakOff(admin: Connection, messages: readonly Message[]): Promise<void> {
  const ledger = new Ledger(postgres.port);
  try {
    await settled(ledger, "logging in", () => ledger.loggedIn);
    // The Flush brings out what PostgreSQL has answered so far.
    ledger.send([...messages, serialize.flush()]);
    await settled(ledger, "waiting for all answers", () => ledger.exchange.stalled);
    const activity = "SELECT state, xact_start IS NOT NULL AS open FROM pg_stat_activity WHERE pid = $1";
    const { rows: found } = await sqlQuery(admin, activity, [ledger.pid]);
    const shown = `${ledger.log.join(" ")}: ${JSON.stringify(found)}`;
    if (ledger.exchange.empty) {
      expect(found[0]?.["state"], shown).toMatch(ledger.status === "I" ? /^idle$/ : /^idle in transaction/);
      if (ledger.status === "I") expect(found[0]?.["open"], shown).toBe(false);
    }
    // A copy that waits for rows is one, and nothing else is.
    const last = ledger.log.findLast((line) => line.startsWith("< ") && line !== "< N");
    if (ledger.exchange.copyIn) expect(last, shown).toBe("< G");
  } finally {
    ledger.destroy();
  }
}

describe("the reply ledger, against PostgreSQL", () => {
  test("owes what PostgreSQL owes, for random pipelines in random pieces", { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(part, { minLength: 1, maxLength: 8 }),
        fc.array(fc.boolean(), { maxLength: 9 }),
        async (parts, pauses) => {
          await play(parts.flat(), pauses);
        },
      ),
      { numRuns: 300, seed: 20_261_120, interruptAfterTimeLimit: 90_000 },
    );
  });

  test.each<[string, Part]>([
    ["a copy that is refused with its end sent ahead", [serialize.query("COPY missing FROM STDIN"), copyEnd(true)]],
    ["a bare Sync between two queries", [serialize.query("SELECT 1"), serialize.sync(), serialize.query("SELECT 2")]],
    [
      "a Sync in the middle of a copy",
      [serialize.query("COPY items FROM STDIN"), ...rows(true), serialize.sync(), ...rows(true), copyEnd(true)],
    ],
    [
      "a copy that fails before it reads",
      [serialize.parse({ text: "COPY refusing FROM STDIN" }), serialize.bind(), serialize.execute()],
    ],
    ["a function call", [functionCall()]],
  ])("owes what PostgreSQL owes: %s", async (_name, messages) => {
    await play(messages, []);
    await play(messages, [true]);
  });

  test("takes a copy that fails before it reads its early Sync", async () => {
    const ledger = new Ledger(postgres.port);
    try {
      await settled(ledger, "logging in", () => ledger.loggedIn);
      const text = "COPY refusing FROM STDIN";
      ledger.send([serialize.parse({ text }), serialize.bind(), serialize.execute(), serialize.sync()]);
      await settled(ledger, "waiting for the refusal", () => ledger.ready === 1);
      expect(ledger.exchange.empty).toBe(true);
    } finally {
      ledger.destroy();
    }
  });

  test("calls nothing done that PostgreSQL still has open, wherever a pipeline breaks off", {
    timeout: 60_000,
  }, async () => {
    const admin = await connectSql(postgres.login);
    try {
      await fc.assert(
        fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 6 }), fc.nat(), async (parts, cut) => {
          const messages = parts.flat();
          await breakOff(admin, messages.slice(0, cut % (messages.length + 1)));
        }),
        { numRuns: 200, seed: 14, interruptAfterTimeLimit: 40_000 },
      );
    } finally {
      admin.destroy();
    }
  });

  test("knows of a copy exactly while PostgreSQL copies in", async () => {
    const ledger = new Ledger(postgres.port);
    try {
      await settled(ledger, "logging in", () => ledger.loggedIn);
      ledger.send([serialize.query("COPY items FROM STDIN")]);
      await settled(ledger, "waiting for CopyInResponse", () => ledger.exchange.copyIn);
      ledger.send([...rows(true)]);
      expect(ledger.exchange.copyIn).toBe(true);
      ledger.send([serialize.copyDone()]);
      expect(ledger.exchange.copyIn).toBe(false);
      await settled(ledger, "waiting for the end", () => ledger.exchange.empty);
      ledger.send([serialize.query("COPY items FROM STDIN")]);
      await settled(ledger, "waiting for CopyInResponse", () => ledger.exchange.copyIn);
      ledger.send([...rows(false)]);
      await settled(ledger, "waiting for the refusal", () => ledger.exchange.empty);
      expect(ledger.exchange.copyIn).toBe(false);
      expect(ledger.log.filter((line) => line.startsWith("< E"))).toHaveLength(1);
    } finally {
      ledger.destroy();
    }
  });
});
