// An application that writes a row every few milliseconds and keeps book of what it was told about each: the measure of
// what a failover costs, and the claim against which the rows that are really there can be checked.

import { type Connection, codeOf, connect, type Login, query, queryOnce } from "./sql.ts";
import { now, sleep } from "./time.ts";

/**
 * What the application knows of one attempt. `refused`: PostgreSQL or pgsteer said no, or there was no connection, so the
 * row is certainly not there. `unknown`: the connection broke, or time was up, with the INSERT under way.
 */
export interface Attempt {
  readonly id: number;
  readonly start: number;
  readonly end: number;
  readonly outcome: "ok" | "refused" | "unknown";
  /** SQLSTATE or system error code, or the message of an error that has neither; null when ok. */
  readonly code: string | null;
}

/** The longest time between two acknowledged writes that follow each other. */
export interface Gap {
  readonly ms: number;
  /** End of the last acknowledged write before it, and of the first after it. */
  readonly from: number;
  readonly to: number;
  /** Attempts in between that were not acknowledged. */
  readonly failures: readonly Attempt[];
}

export interface WriterOptions {
  /** 10 by default. */
  readonly periodMs?: number;
  /** How long an attempt may take, connecting included, before the application gives up; 60,000 by default. */
  readonly attemptTimeoutMs?: number;
  /** `writes` by default; made by `createTable`. */
  readonly table?: string;
}

// SQLSTATEs with which the outcome of a statement stays open although an error arrived.
const UNKNOWN_OUTCOME = new Set(["08007", "08006", "40003", "57P01", "57P02"]);

/** One connection, one row at a time; reconnects whenever the connection is lost. */
export class Writer {
  readonly attempts: Attempt[] = [];
  readonly #login: Login;
  readonly #options: Required<WriterOptions>;
  #connection: Connection | null = null;
  #stopped = false;
  #loop: Promise<void> | null = null;

  constructor(login: Login, options: WriterOptions = {}) {
    this.#login = login;
    this.#options = { periodMs: 10, attemptTimeoutMs: 60_000, table: "writes", ...options };
  }

  /** Makes the table, directly or through pgsteer. */
  static async createTable(login: Login, table = "writes"): Promise<void> {
    const columns = "id bigint PRIMARY KEY, client_time double precision NOT NULL";
    await queryOnce(login, `DROP TABLE IF EXISTS ${table}; CREATE TABLE ${table} (${columns})`);
  }

  start(): void {
    this.#loop ??= this.#run();
  }

  /** Ends after the attempt that is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
    this.#connection?.destroy();
  }

  /** Ids of which the application was told that they are in the table. */
  acknowledged(): number[] {
    return this.attempts.filter(({ outcome }) => outcome === "ok").map(({ id }) => id);
  }

  failures(): Attempt[] {
    return this.attempts.filter(({ outcome }) => outcome !== "ok");
  }

  /** The longest gap that ended after `since`, also when it began earlier; null when no write was acknowledged since. */
  gap(since = 0): Gap | null {
    let longest: Gap | null = null;
    let last: Attempt | null = null;
    let failures: Attempt[] = [];
    for (const attempt of this.attempts) {
      if (attempt.outcome !== "ok") {
        failures.push(attempt);
        continue;
      }
      const ms = last === null ? -1 : attempt.end - last.end;
      if (last !== null && attempt.end > since && ms > (longest?.ms ?? 0)) {
        longest = { ms, from: last.end, to: attempt.end, failures };
      }
      last = attempt;
      failures = [];
    }
    return longest;
  }

  /** Drops the record of all but the last `keep` attempts, for a writer that runs for hours. */
  forget(keep: number): void {
    this.attempts.splice(0, Math.max(0, this.attempts.length - keep));
  }

  /** Resolves at the first write that is acknowledged from now on. */
  async nextAcknowledged(timeoutMs = 60_000): Promise<Attempt> {
    const asked = now();
    while (now() - asked < timeoutMs) {
      const found = this.attempts.findLast(({ outcome, start }) => outcome === "ok" && start >= asked);
      if (found !== undefined) return found;
      await sleep(5);
    }
    throw new Error(`no write was acknowledged within ${timeoutMs} ms`);
  }

  async #run(): Promise<void> {
    let due = now();
    for (let id = 1; !this.#stopped; id += 1) {
      this.attempts.push(await this.#attempt(id));
      // A late attempt is followed at once by the next; those that were missed meanwhile are not made up for.
      due = Math.max(due + this.#options.periodMs, now());
      await sleep(due - now());
    }
  }

  async #attempt(id: number): Promise<Attempt> {
    const start = now();
    const { table, attemptTimeoutMs } = this.#options;
    let sent = false;
    try {
      if (this.#connection?.open() === false) this.#drop();
      this.#connection ??= await connect(this.#login, attemptTimeoutMs);
      sent = true;
      const left = Math.max(1, attemptTimeoutMs - (now() - start));
      await query(this.#connection, `INSERT INTO ${table} (id, client_time) VALUES ($1, $2)`, [id, start], left);
      return { id, start, end: now(), outcome: "ok", code: null };
    } catch (error) {
      const code = codeOf(error);
      // Only PostgreSQL's or pgsteer's own word settles the matter once the statement was sent.
      const told = severityOf(error) !== null && !UNKNOWN_OUTCOME.has(code);
      // After an ERROR the connection goes on.
      if (severityOf(error) !== "ERROR" || this.#connection?.open() === false) this.#drop();
      return { id, start, end: now(), outcome: sent && !told ? "unknown" : "refused", code };
    }
  }

  #drop(): void {
    this.#connection?.destroy();
    this.#connection = null;
  }
}

/** `ERROR`, `FATAL` or `PANIC` of a server's own error; null for all that the network or the driver says. */
function severityOf(error: unknown): string | null {
  if (typeof error !== "object" || error === null || !("severity" in error)) return null;
  return typeof error.severity === "string" ? error.severity : null;
}
