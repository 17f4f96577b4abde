// A client of a run over npm's pg: one connection, one operation after the other, connected anew whenever the connection is lost.
// What it does each time is its behaviour's business.

import type { QueryResult } from "pg";
import type { Random } from "../fuzz/random.ts";
import { type Connection, connect, type Login } from "../support/sql.ts";
import { sleep } from "../support/time.ts";
import { type Actor, Attempt, severityOf } from "./attempt.ts";
import type { Journal, Kind } from "./history.ts";

/** No operation takes longer: after this time its client gives up, and the outcome is unknown. */
const OPERATION_MS = 60_000;
const PAUSE_MS = { min: 40, max: 240 } as const;
const RECONNECT_PAUSE_MS = 100;

/** What a behaviour does its work with. */
export interface Session {
  readonly random: Random;
  readonly actor: Actor;
  /** Throws when the connection is lost: nothing can be sent any more. */
  alive(): void;
  query(text: string, values?: readonly unknown[], name?: string): Promise<QueryResult<Record<string, unknown>>>;
}

/** One operation: fills the attempt, and throws what went wrong. */
export type Behaviour = (session: Session, attempt: Attempt) => Promise<void>;

export interface Part {
  readonly kind: Kind;
  readonly act: Behaviour;
}

export class Client {
  readonly actor: Actor;
  readonly #login: Login;
  readonly #part: Part;
  readonly #journal: Journal;
  readonly #random: Random;
  #connection: Connection | null = null;
  #stopped = false;
  #number = 1;

  constructor(actor: Actor, login: Login, part: Part, journal: Journal, random: Random) {
    this.actor = actor;
    this.#login = login;
    this.#part = part;
    this.#journal = journal;
    this.#random = random;
  }

  /** Goes on until `stop`, and resolves after the operation that is under way then. */
  async run(): Promise<void> {
    while (!this.#stopped) {
      await this.#once();
      await sleep(this.#random.between(PAUSE_MS.min, PAUSE_MS.max));
    }
    this.#drop();
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Gives up what is under way, too. */
  abandon(): void {
    this.#stopped = true;
    this.#drop();
  }

  async #once(): Promise<void> {
    const attempt = new Attempt(
      this.#journal,
      this.actor,
      this.#part.kind,
      this.#part.kind === "read" ? null : this.#number,
    );
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#drop();
    }, OPERATION_MS);
    try {
      const connection = await this.#connected();
      await this.#part.act(this.#session(connection), attempt);
      attempt.succeeded();
      this.#number += 1;
    } catch (cause) {
      const error = late ? new Error("no answer in time", { cause }) : cause;
      // A number that is certainly not there is tried again; where nobody knows, the next one is.
      if (attempt.failed(error) === "unknown") this.#number += 1;
      await this.#recover(error);
    } finally {
      clearTimeout(timer);
    }
  }

  async #connected(): Promise<Connection> {
    if (this.#connection?.open() === false) this.#drop();
    if (this.#connection === null) {
      const connection = await connect(this.#login, OPERATION_MS);
      // After a FATAL the driver sends nothing more, though the socket may still be open.
      connection.client.on("error", () => connection.destroy());
      this.#connection = connection;
    }
    return this.#connection;
  }

  #session(connection: Connection): Session {
    const alive = () => {
      if (!connection.open()) throw new Error("the connection is lost");
    };
    return {
      random: this.#random,
      actor: this.actor,
      alive,
      query: (text, values = [], name) => {
        alive();
        if (values.length === 0 && name === undefined) return connection.client.query(text);
        return connection.client.query({ text, values: [...values], ...(name === undefined ? {} : { name }) });
      },
    };
  }

  /** After an ERROR the session goes on, as applications do it: ROLLBACK, and again. */
  async #recover(error: unknown): Promise<void> {
    const connection = this.#connection;
    if (severityOf(error) === "ERROR" && connection?.open() === true) {
      const timer = setTimeout(() => connection.destroy(), OPERATION_MS);
      const done = await connection.client.query("ROLLBACK").then(
        () => true,
        () => false,
      );
      clearTimeout(timer);
      if (done) return;
    }
    this.#drop();
    await sleep(RECONNECT_PAUSE_MS);
  }

  #drop(): void {
    this.#connection?.destroy();
    this.#connection = null;
  }
}
