// The record of a chaos run, one JSON line for each thing that happened: what clients did and were told, faults, what both pgsteers
// said about the leader, when members took writes, and what the database held in the end. The checker needs nothing else.
// Moments are milliseconds since 1970.

import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { z } from "zod";

/**
 * Where and when a row was made, as the server that made it says: its port, its timeline, where in the WAL that began, and the
 * position before the commit. A timeline that was abandoned gives its number to another one, which begins elsewhere.
 */
const place = z.object({ port: z.number(), timeline: z.number(), origin: z.number(), lsn: z.number() });
export type Place = z.output<typeof place>;

const kinds = ["register", "prepared", "pipeline", "long", "session", "transfer", "read"] as const;
export type Kind = (typeof kinds)[number];

const operation = z.object({
  type: z.literal("op"),
  id: z.number(),
  client: z.number(),
  router: z.string(),
  kind: z.enum(kinds),
  invokedAt: z.number(),
  /** When the message was sent that decides: COMMIT, or the statement itself. Null: it never came to that. */
  decidedAt: z.number().nullable(),
  completedAt: z.number(),
  /** `fail`: certainly not there. `unknown`: either. */
  outcome: z.enum(["ok", "fail", "unknown"]),
  code: z.string().nullable(),
  message: z.string().nullable(),
  /** The number in the client's register, or what a read found all accounts to hold. */
  value: z.number().nullable(),
  place: place.nullable(),
  /** The operation that the answer named, where it was another one's. */
  crossed: z.number().nullable(),
});
export type Operation = z.output<typeof operation>;

const fault = z.object({
  type: z.literal("fault"),
  name: z.string(),
  target: z.string(),
  /** Pgsteers that cannot serve while it lasts. */
  blind: z.array(z.string()),
  beganAt: z.number(),
  endedAt: z.number(),
  /** When the cluster was whole again; null if it never was. */
  healedAt: z.number().nullable(),
  note: z.string(),
});
export type FaultRecord = z.output<typeof fault>;

const sight = z.object({
  type: z.literal("topology"),
  router: z.string(),
  at: z.number(),
  /**
   * `served`: its leader takes writes; `deposed`: it cuts that member; `start`: it knows nothing yet; `ended`: it has died, and nobody
   * has killed it; `other`: for the reader.
   */
  what: z.enum(["start", "served", "deposed", "ended", "other"]),
  member: z.string().nullable(),
  timeline: z.number().nullable(),
  text: z.string(),
});
export type Sight = z.output<typeof sight>;

/** A period in which a member took every write that was tried on it directly. */
const window = z.object({
  type: z.literal("writable"),
  member: z.string(),
  timeline: z.number(),
  from: z.number(),
  to: z.number(),
});
export type Window = z.output<typeof window>;

const start = z.object({
  type: z.literal("run"),
  seed: z.number(),
  sync: z.boolean(),
  startedAt: z.number(),
  endedAt: z.number(),
  /** Members' names by their ports. */
  members: z.record(z.string(), z.string()),
  accounts: z.number(),
  total: z.number(),
  /** How long a client may be without a completed operation while it could be served. */
  stuckMs: z.number(),
});

const row = z.object({ op: z.number(), client: z.number(), value: z.number(), place });
const contents = z.object({
  type: z.literal("contents"),
  timeline: z.number(),
  /** Where each timeline before the last one ended. */
  forks: z.array(z.object({ timeline: z.number(), lsn: z.number() })),
  register: z.array(row),
  transfers: z.array(row.extend({ from: z.number(), to: z.number() })),
  balances: z.array(z.object({ account: z.number(), balance: z.number() })),
});
export type Contents = z.output<typeof contents>;

const record = z.discriminatedUnion("type", [operation, fault, sight, window, start, contents]);
export type HistoryRecord = z.output<typeof record>;

/** All of a run, sorted by what it is. */
export interface History {
  readonly run: z.output<typeof start>;
  readonly operations: readonly Operation[];
  readonly faults: readonly FaultRecord[];
  readonly sights: readonly Sight[];
  readonly windows: readonly Window[];
  /** Null when the database could not be read in the end. */
  readonly contents: Contents | null;
}

/** Sorts records; there has to be one of type `run`. */
export function historyOf(records: readonly HistoryRecord[]): History {
  const run = records.find((each) => each.type === "run");
  if (run === undefined) throw new Error("the history does not say which run it is of");
  return {
    run,
    operations: records.filter((each) => each.type === "op"),
    faults: records.filter((each) => each.type === "fault"),
    sights: records.filter((each) => each.type === "topology").toSorted((a, b) => a.at - b.at),
    windows: records.filter((each) => each.type === "writable"),
    contents: records.find((each) => each.type === "contents") ?? null,
  };
}

/** Reads what a Journal wrote; a line that is cut off, as by a killed run, ends it. */
export function readHistory(file: string): History {
  const lines = readFileSync(file, "utf8").split("\n").slice(0, -1);
  return historyOf(lines.map((line) => record.parse(JSON.parse(line))));
}

/** The file of a run, and the numbers of its operations. */
export class Journal {
  readonly records: HistoryRecord[] = [];
  readonly file: string;
  readonly #descriptor: number;
  #last = 0;

  constructor(file: string) {
    this.file = file;
    this.#descriptor = openSync(file, "a");
  }

  nextId(): number {
    this.#last += 1;
    return this.#last;
  }

  write(what: HistoryRecord): void {
    this.records.push(what);
    writeSync(this.#descriptor, `${JSON.stringify(what)}\n`);
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}
