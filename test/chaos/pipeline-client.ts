// A client that sends several INSERTs at once by the extended protocol, byte for byte: with one Sync behind all (one implicit
// transaction) or one behind each, by a named statement or anonymous ones, and concludes from the answers what became of each.

import type { Random } from "../fuzz/random.ts";
import { errorFields, firstColumn, frontend, RawClient, type RawMessage } from "../support/raw-client.ts";
import { codeOf, type Login } from "../support/sql.ts";
import { sleep } from "../support/time.ts";
import { type Actor, Attempt } from "./attempt.ts";
import type { Journal } from "./history.ts";
import { RETURNED } from "./tables.ts";

const ANSWER_MS = 60_000;
const PAUSE_MS = { min: 80, max: 400 } as const;
const BATCH_MAX = 5;

/** A server's words as the driver would throw them. */
class ServerError extends Error {
  readonly severity: string;
  readonly code: string;

  constructor(body: Buffer) {
    const { V = "", C = "", M = "" } = errorFields(body);
    super(M);
    this.severity = V;
    this.code = C;
  }
}

/** Of what was sent behind a statement with which the connection ended, nobody says anything. */
class Behind extends Error {
  readonly code: string;

  constructor(cause: Error) {
    super(`behind: ${cause.message}`, { cause });
    this.code = codeOf(cause);
  }
}

/** What came in answer to one Sync. */
interface Answer {
  readonly rows: readonly (string | null)[];
  /** Null after ReadyForQuery without an error. */
  readonly error: Error | null;
}

export class PipelineClient {
  readonly actor: Actor;
  readonly #login: Login;
  readonly #journal: Journal;
  readonly #random: Random;
  #connection: RawClient | null = null;
  #stopped = false;
  #number = 1;

  constructor(actor: Actor, login: Login, journal: Journal, random: Random) {
    this.actor = actor;
    this.#login = login;
    this.#journal = journal;
    this.#random = random;
  }

  async run(): Promise<void> {
    while (!this.#stopped) {
      if (!(await this.#batch())) {
        this.#drop();
        await sleep(PAUSE_MS.min);
      }
      await sleep(this.#random.between(PAUSE_MS.min, PAUSE_MS.max));
    }
    this.#drop();
  }

  stop(): void {
    this.#stopped = true;
  }

  abandon(): void {
    this.#stopped = true;
    this.#drop();
  }

  /** False when the connection is of no use any more. */
  async #batch(): Promise<boolean> {
    const count = this.#random.between(2, BATCH_MAX);
    const each = this.#random.chance(0.5);
    const attempts = Array.from({ length: count }, () => this.#attempt());
    try {
      this.#connection ??= await RawClient.login(this.#login);
    } catch (error) {
      for (const attempt of attempts) attempt.failed(error);
      return false;
    }
    for (const attempt of attempts) attempt.decides();
    this.#connection.send(
      ...attempts.flatMap((attempt) => this.#insert(attempt, each)),
      ...(each ? [] : [frontend.sync()]),
    );
    const groups = each ? attempts.map((attempt) => [attempt]) : [attempts];
    let lost: Error | null = null;
    for (const group of groups) {
      const answer: Answer = lost === null ? await this.#answer(this.#connection) : { rows: [], error: lost };
      this.#conclude(group, answer);
      if (answer.error !== null && !isError(answer.error)) lost ??= new Behind(answer.error);
    }
    return lost === null;
  }

  #attempt(): Attempt {
    const attempt = new Attempt(this.#journal, this.actor, "pipeline", this.#number);
    this.#number += 1;
    return attempt;
  }

  #insert(attempt: Attempt, sync: boolean): Buffer[] {
    const text = `INSERT INTO register (op, client, value) VALUES (${attempt.id}, ${this.actor.client}, ${attempt.value}) RETURNING ${RETURNED}`;
    const name = this.#random.chance(0.3) ? `batch-${attempt.id}` : "";
    const messages = [frontend.parse(text, name), frontend.bind(name), frontend.execute()];
    return sync ? [...messages, frontend.sync()] : messages;
  }

  #conclude(group: readonly Attempt[], { rows, error }: Answer): void {
    for (const [index, attempt] of group.entries()) {
      const row = rows[index];
      if (row !== undefined && row !== null) attempt.wrote(row);
      if (error !== null) attempt.failed(error);
      else if (row === undefined) attempt.failed(new Error("ready, without an answer"));
      else attempt.succeeded();
    }
  }

  async #answer(connection: RawClient): Promise<Answer> {
    const rows: (string | null)[] = [];
    let error: Error | null = null;
    for (;;) {
      let next: RawMessage | null;
      try {
        next = await connection.next(ANSWER_MS);
      } catch (cause) {
        return { rows, error: new Error("no answer in time", { cause }) };
      }
      if (next === null) return { rows, error: error ?? new Error("the connection ended") };
      if (next.type === "D") rows.push(firstColumn(next.body));
      if (next.type === "E") error = new ServerError(next.body);
      if (next.type === "E" && !isError(error)) return { rows, error };
      if (next.type === "Z") return { rows, error };
    }
  }

  #drop(): void {
    this.#connection?.destroy();
    this.#connection = null;
  }
}

/** Whether the session goes on behind it. */
function isError(error: Error | null): boolean {
  return error instanceof ServerError && error.severity === "ERROR";
}
