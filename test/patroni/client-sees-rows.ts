// The table of what each client sees when the leader changes, row by row: what the client does before, what it is told, whether its
// session lives on, and which rows are there afterwards. Written once for all drivers.

import { check, equal } from "./expect.ts";
import type { Answer, Copying, Talker } from "./talkers.ts";

/** What a client holds while the leader changes. */
export interface Held {
  /** The statement that is in flight. */
  readonly answer?: Promise<Answer>;
  readonly copying?: Copying;
}

export interface Row {
  readonly name: string;
  /** The port that it comes by. */
  readonly door: "write" | "session" | "read";
  /** Whether it occupies its server with a statement when the leader goes. */
  readonly busy: boolean;
  /** Rows with its mark that are there at the end. */
  readonly rows: number;
  /** Brings the client into its situation; null where the driver cannot. */
  begin(talker: Talker, mark: string): Promise<Held | null>;
  /** Called while the leader is away. */
  meanwhile?(talker: Talker, mark: string): Promise<Answer>;
  /** What it sees once there is a leader again. */
  after(talker: Talker, held: Held, mark: string, told: Told): Promise<void>;
}

/** What the driver makes of a FATAL with this SQLSTATE. */
export type Told = (code: string) => string;

const insert = (mark: string, table = "seen"): string => `INSERT INTO ${table} VALUES ('${mark}')`;

async function does(talker: Talker, ...statements: readonly string[]): Promise<void> {
  for (const sql of statements) {
    const answer = await talker.query(sql);
    check(answer.ok, () => `${sql}: ${answer.ok ? "" : answer.code}`);
  }
}

const fails = (what: string, answer: Answer | undefined, code: string): void =>
  equal(what, answer, { ok: false, code });

/** The session is of use again, for a whole transaction. */
async function livesOn(talker: Talker): Promise<void> {
  equal("a statement afterwards", await talker.query("SELECT 2"), { ok: true, rows: ["2"] });
  await does(talker, "BEGIN", "SELECT 3", "COMMIT");
  equal("the connection lives on", await talker.alive(), true);
}

async function closed(talker: Talker): Promise<void> {
  equal("the connection lives on", await talker.alive(), false);
}

/** 25P02 to everything until ROLLBACK, then as before. */
async function failedUntilRollback(talker: Talker): Promise<void> {
  fails("the next statement", await talker.query("SELECT 1"), "25P02");
  fails("another", await talker.query(insert("never")), "25P02");
  await does(talker, "ROLLBACK");
  await livesOn(talker);
}

async function inTransaction(talker: Talker, mark: string): Promise<Held> {
  await does(talker, "BEGIN", insert(mark));
  return {};
}

export const rows: readonly Row[] = [
  {
    name: "idle",
    door: "write",
    busy: false,
    rows: 0,
    begin: async (talker) => {
      await does(talker, "SET application_name = 'remembered'");
      return {};
    },
    after: async (talker) => {
      // The very session: what was SET in it is still in force.
      equal("its setting", await talker.query("SHOW application_name"), { ok: true, rows: ["remembered"] });
      await livesOn(talker);
    },
  },
  {
    name: "waiting for a server",
    door: "write",
    busy: false,
    rows: 1,
    begin: async () => ({}),
    meanwhile: (talker, mark) => talker.query(insert(mark)),
    after: (talker) => livesOn(talker),
  },
  {
    name: "in a transaction",
    door: "write",
    busy: false,
    rows: 1,
    begin: (talker, mark) => inTransaction(talker, mark),
    after: async (talker, _held, mark) => {
      fails("the first statement", await talker.query("SELECT 1"), "40001");
      await failedUntilRollback(talker);
      // A retry, as the SQLSTATE asks for.
      await does(talker, "BEGIN", insert(mark), "COMMIT");
    },
  },
  {
    name: "in a transaction, COMMIT next",
    door: "write",
    busy: false,
    rows: 0,
    begin: (talker, mark) => inTransaction(talker, mark),
    after: async (talker) => {
      fails("COMMIT", await talker.query("COMMIT"), "40001");
      await livesOn(talker);
    },
  },
  {
    name: "at work in a transaction",
    door: "write",
    busy: true,
    rows: 0,
    begin: async (talker, mark) => {
      await inTransaction(talker, mark);
      return { answer: talker.query("SELECT pg_sleep(120)") };
    },
    after: async (talker, { answer }) => {
      fails("what was in flight", await answer, "40001");
      await failedUntilRollback(talker);
    },
  },
  {
    name: "COMMIT in flight",
    door: "write",
    busy: true,
    rows: 0,
    begin: async (talker, mark) => {
      await does(talker, "BEGIN", insert(mark, "slow"));
      return { answer: talker.query("COMMIT") };
    },
    after: async (talker, { answer }, _mark, told) => {
      fails("COMMIT", await answer, told("08007"));
      await closed(talker);
    },
  },
  {
    name: "autocommit write in flight",
    door: "write",
    busy: true,
    rows: 0,
    begin: async (talker, mark) => ({
      answer: talker.query(`INSERT INTO seen SELECT '${mark}' FROM pg_sleep(120)`),
    }),
    after: async (talker, { answer }, _mark, told) => {
      fails("the write", await answer, told("08007"));
      await closed(talker);
    },
  },
  {
    name: "read in flight",
    door: "read",
    busy: true,
    rows: 0,
    // Long enough to be under way when its server goes, short enough to be run again.
    begin: async (talker, mark) => ({ answer: talker.query(`SELECT 42 /* ${mark} */ FROM pg_sleep(15)`) }),
    after: async (talker, { answer }) => {
      equal("the read", await answer, { ok: true, rows: ["42"] });
      await livesOn(talker);
    },
  },
  {
    name: "pinned (LISTEN)",
    door: "write",
    busy: false,
    rows: 0,
    begin: async (talker) => {
      await does(talker, "LISTEN news");
      return {};
    },
    after: async (talker, _held, _mark, told) => {
      fails("the next statement", await talker.query("SELECT 1"), told("57P01"));
      await closed(talker);
    },
  },
  {
    name: "session mode, idle",
    door: "session",
    busy: false,
    rows: 0,
    begin: async (talker) => {
      await does(talker, "SELECT 1");
      return {};
    },
    after: async (talker, _held, _mark, told) => {
      fails("the next statement", await talker.query("SELECT 1"), told("57P01"));
      await closed(talker);
    },
  },
  {
    name: "session mode, in a transaction",
    door: "session",
    busy: false,
    rows: 0,
    begin: (talker, mark) => inTransaction(talker, mark),
    after: async (talker, _held, _mark, told) => {
      fails("the next statement", await talker.query("SELECT 1"), told("57P01"));
      await closed(talker);
    },
  },
  {
    name: "COPY in progress in a transaction",
    door: "write",
    busy: true,
    rows: 0,
    begin: async (talker, mark) => {
      await inTransaction(talker, mark);
      const copying = talker.copy("COPY seen FROM STDIN", mark);
      return copying === null ? null : { copying };
    },
    after: async (talker, { copying }) => {
      fails("COPY", await copying?.finish(), "40001");
      await failedUntilRollback(talker);
    },
  },
  {
    name: "COPY in progress, by itself",
    door: "write",
    busy: true,
    rows: 0,
    begin: async (talker, mark) => {
      const copying = talker.copy("COPY seen FROM STDIN", mark);
      return copying === null ? null : { copying };
    },
    after: async (talker, { copying }, _mark, told) => {
      fails("COPY", await copying?.finish(), told("08007"));
      await closed(talker);
    },
  },
  {
    name: "pipeline half sent in a transaction",
    door: "write",
    busy: false,
    rows: 0,
    begin: async (talker, mark) => {
      await inTransaction(talker, mark);
      return halfSent(talker, mark);
    },
    after: async (talker) => {
      fails("the pipeline", await talker.pipeline?.finish(), "40001");
      await failedUntilRollback(talker);
    },
  },
  {
    name: "pipeline half sent, by itself",
    door: "write",
    busy: false,
    rows: 0,
    begin: (talker, mark) => halfSent(talker, mark),
    after: async (talker, _held, _mark, told) => {
      fails("the pipeline", await talker.pipeline?.finish(), told("08007"));
      await closed(talker);
    },
  },
];

async function halfSent(talker: Talker, mark: string): Promise<Held | null> {
  if (talker.pipeline === undefined) return null;
  const answer = await talker.pipeline.begin(insert(mark));
  check(answer.ok, () => `the first half: ${answer.ok ? "" : answer.code}`);
  return {};
}
