// Clients whose transactions take seconds: BEGIN, a row, pg_sleep, COMMIT, over and over. Says afterwards what went wrong, and whether
// every row that was acknowledged is there, once.

import { type Connection, codeOf, connect, type Login, query, queryOnce } from "./sql.ts";
import { sleep } from "./time.ts";

const QUERY_TIMEOUT_MS = 60_000;

/** The table that they write to; made on the leader, as the application. */
export async function createLongTable(leader: Login): Promise<void> {
  // No primary key: a transaction that was run twice shall show as two rows.
  await queryOnce(leader, "CREATE TABLE IF NOT EXISTS long_writes (client int NOT NULL, number int NOT NULL)");
}

export class LongTransactions {
  /** Codes of everything that went wrong. */
  readonly errors: string[] = [];
  /** Transactions that were acknowledged, by client. */
  readonly acknowledged: number[] = [];
  /** Clients that have a transaction open now. */
  open = 0;
  readonly #seconds: number;
  readonly #base: number;
  readonly #loops: Promise<void>[] = [];
  #stopping = false;

  /** `base`: the number of the first client, so that several runs share a table. */
  constructor(seconds: number, base = 0) {
    this.#seconds = seconds;
    this.#base = base;
  }

  /** Starts `count` clients, spread over the logins and over the length of a transaction. */
  start(count: number, logins: readonly Login[]): void {
    for (let index = 0; index < count; index += 1) {
      const login = logins[index % logins.length];
      if (login === undefined) throw new Error("no login");
      this.acknowledged[index] = 0;
      this.#loops.push(this.#run(index, login, (index * this.#seconds * 1000) / count));
    }
  }

  /** All transactions that were acknowledged. */
  get total(): number {
    return this.acknowledged.reduce((sum, count) => sum + count, 0);
  }

  /** Lets each finish its transaction. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#loops);
  }

  /** Rows that were acknowledged and are not there, and rows that are there more than once. */
  async compare(leader: Login): Promise<{ readonly missing: number; readonly doubled: number }> {
    const { rows } = await queryOnce(
      leader,
      "SELECT client, number, count(*)::int AS times FROM long_writes WHERE client >= $1 AND client < $2 GROUP BY 1, 2",
      [this.#base, this.#base + this.acknowledged.length],
    );
    const times = new Map(rows.map((row) => [`${row["client"]} ${row["number"]}`, Number(row["times"])]));
    let missing = 0;
    for (const [index, count] of this.acknowledged.entries()) {
      for (let number = 0; number < count; number += 1) {
        if (!times.has(`${this.#base + index} ${number}`)) missing += 1;
      }
    }
    return { missing, doubled: [...times.values()].filter((count) => count > 1).length };
  }

  async #run(index: number, login: Login, delayMs: number): Promise<void> {
    await sleep(delayMs);
    let connection: Connection | null = null;
    while (!this.#stopping) {
      try {
        connection ??= await connect(login, QUERY_TIMEOUT_MS);
        await this.#transaction(connection, index);
      } catch (error) {
        this.errors.push(codeOf(error));
        connection?.destroy();
        connection = null;
        if (this.errors.length > 1000) break;
        await sleep(100);
      }
    }
    connection?.destroy();
  }

  async #transaction(connection: Connection, index: number): Promise<void> {
    const number = this.acknowledged[index] ?? 0;
    await query(connection, "BEGIN", [], QUERY_TIMEOUT_MS);
    this.open += 1;
    try {
      const values = [this.#base + index, number];
      await query(connection, "INSERT INTO long_writes VALUES ($1, $2)", values, QUERY_TIMEOUT_MS);
      await query(connection, "SELECT pg_sleep($1)", [this.#seconds], QUERY_TIMEOUT_MS);
      await query(connection, "COMMIT", [], QUERY_TIMEOUT_MS);
    } finally {
      this.open -= 1;
    }
    this.acknowledged[index] = number + 1;
  }
}
