// The reply ledger against a real PostgreSQL: random pipelines, sent in random pieces while answers come in. The ledger must take
// every answer as owed, agree about COPY, and be empty exactly when PostgreSQL has answered everything.

import { connect, type Socket } from "node:net";
import fc from "fast-check";
import { serialize } from "pg-protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Backend } from "../../src/protocol/constants.ts";
import { Exchange, FORWARD } from "../../src/protocol/exchange.ts";
import { Framer, type FrameSink, WHOLE } from "../../src/protocol/framer.ts";
import { copyEnd, functionCall, type Message, type Part, part, rows, tables } from "../support/pipelines.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { type Connection, connect as connectSql, queryOnce, query as sqlQuery } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

/** A connection whose every message goes through a ledger. */
class Ledger implements FrameSink {
  readonly exchange = new Exchange();
  /** What happened, for the message of a failure. */
  readonly log: string[] = [];
  problem: string | null = null;
  fenceSeen = false;
  ready = 0;
  closed = false;
  /** PostgreSQL has ended the session. */
  ended = false;
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
    // A request that is none in the middle of a copy ends the connection: what follows is not the ledger's matter.
    if (letter === "E" && body.includes("VFATAL")) this.ended = true;
    if (this.ended) return;
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
  await queryOnce(postgres.login, tables);
});

afterAll(async () => {
  await postgres.remove();
});

/** The connection was ended by PostgreSQL, for what a client may not do: no matter of the ledger's. */
class Ended extends Error {}

const settled = async (ledger: Ledger, what: string, look: () => boolean): Promise<void> => {
  const over = () => ledger.problem !== null || ledger.closed || ledger.ended;
  try {
    await waitFor(() => over() || look(), { timeoutMs: 30_000, intervalMs: 1, what });
  } catch (cause) {
    throw new Error(`${what}: ${ledger.log.join(" ")}`, { cause });
  }
  if (ledger.problem === null && ledger.ended) throw new Ended();
  if (over()) throw new Error(`${ledger.problem ?? "closed"} while ${what}: ${ledger.log.join(" ")}`);
};

/** Lets a random pipeline pass that PostgreSQL has ended. */
function unlessEnded(error: unknown): void {
  if (!(error instanceof Ended)) throw error;
}

/** Whether PostgreSQL's last word was ReadyForQuery. */
const isReady = (ledger: Ledger): boolean =>
  ledger.log.findLast((line) => line.startsWith("< "))?.startsWith("< Z") === true;

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
    // After a failed copy nobody can tell which Sync was answered: the ledger may say so, until the next answer tells.
    const { exchange } = ledger;
    await settled(
      ledger,
      "waiting for the ledger to be empty",
      () => exchange.empty || (exchange.uncertain && exchange.stalled && isReady(ledger)),
    );
    const [certain, answered] = [exchange.empty, ledger.ready];
    ledger.send([serialize.query("ROLLBACK; SELECT 'the fence'")]);
    await settled(ledger, "waiting for the fence", () => ledger.fenceSeen && exchange.empty);
    // Had something been owed still, its ReadyForQuery had come before the fence's.
    if (certain) expect(ledger.ready, ledger.log.join(" ")).toBe(answered + 1);
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
  test("owes what PostgreSQL owes, for random pipelines in random pieces", { timeout: 240_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(part, { minLength: 1, maxLength: 8 }),
        fc.array(fc.boolean(), { maxLength: 9 }),
        async (parts, pauses) => {
          await play(parts.flat(), pauses).catch(unlessEnded);
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
    timeout: 120_000,
  }, async () => {
    const admin = await connectSql(postgres.login);
    try {
      await fc.assert(
        fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 6 }), fc.nat(), async (parts, cut) => {
          const messages = parts.flat();
          await breakOff(admin, messages.slice(0, cut % (messages.length + 1))).catch(unlessEnded);
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
