// Prepared statements that are not bound to one server: what is needed to prepare them anywhere, and which server has which.
// Statements with the same text and parameter types are one statement, whoever named it and how
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY).

import { Frontend } from "../protocol/constants.ts";
import { MessageWriter } from "../protocol/writer.ts";

/** Names that we give on servers begin like this. */
export const SERVER_NAME_PREFIX = "pgsteer_";

/** A Parse that can be sent again. */
export class Statement {
  /** Its name on every server; empty for an unnamed one. */
  readonly serverName: string;
  /** The Parse message's body behind the name: the text, a zero byte, the parameter types. */
  readonly definition: Buffer;

  constructor(serverName: string, definition: Buffer) {
    this.serverName = serverName;
    this.definition = definition;
  }

  /** The SQL, byte for byte (latin1). */
  get text(): string {
    return this.definition.toString("latin1", 0, Math.max(0, this.definition.indexOf(0)));
  }

  /** The Parse message. */
  parseMessage(): Buffer {
    return new MessageWriter()
      .message(Frontend.Parse)
      .string(this.serverName, "latin1")
      .bytes(this.definition)
      .finish();
  }
}

/** One object for each named statement in use, shared by all clients of a process. */
export class StatementRegistry {
  readonly #held = new Map<string, { readonly statement: Statement; holders: number }>();
  #next = 1;

  /** The statement with this definition; `release` it once for each time. */
  hold(definition: Buffer): Statement {
    const key = definition.toString("latin1");
    let entry = this.#held.get(key);
    if (entry === undefined) {
      entry = { statement: new Statement(`${SERVER_NAME_PREFIX}${this.#next++}`, definition), holders: 0 };
      this.#held.set(key, entry);
    }
    entry.holders += 1;
    return entry.statement;
  }

  /** A statement that nobody shares. */
  once(definition: Buffer): Statement {
    return new Statement(`${SERVER_NAME_PREFIX}${this.#next++}`, definition);
  }

  release(statement: Statement): void {
    const key = statement.definition.toString("latin1");
    const entry = this.#held.get(key);
    if (entry === undefined || entry.statement !== statement) return;
    entry.holders -= 1;
    if (entry.holders === 0) this.#held.delete(key);
  }

  /** Whoever asks for its text from now on gets a new statement; those who hold it keep it. */
  retire(statement: Statement): void {
    const key = statement.definition.toString("latin1");
    if (this.#held.get(key)?.statement === statement) this.#held.delete(key);
  }

  get size(): number {
    return this.#held.size;
  }
}

/** A Parse (then it will be present) or Close of a named statement whose outcome is not known yet. */
export interface StatementChange {
  readonly statement: Statement;
  readonly present: boolean;
}

/**
 * What one server has prepared: what is certain, and what is on its way. Requests are sent as if all before them will succeed;
 * what an error refuses or skips is taken back, whatever was sent behind it.
 */
export class ServerStatements {
  /** What is there once everything on its way has succeeded, least recently used first. */
  readonly #expected = new Set<Statement>();
  readonly #certain = new Set<Statement>();
  /** In the order of the stream. */
  readonly #pending: StatementChange[] = [];
  /** What its unnamed statement is; null where there is none, or nobody knows. */
  unnamed: Statement | null = null;

  get size(): number {
    return this.#expected.size;
  }

  /** Whether a request that is sent now will find it; it counts as used. */
  has(statement: Statement): boolean {
    if (!this.#expected.delete(statement)) return false;
    this.#expected.add(statement);
    return true;
  }

  /** Notes a Parse or Close that is being sent; `end` it once. */
  begin(statement: Statement, present: boolean): StatementChange {
    const change = { statement, present };
    this.#pending.push(change);
    this.#expect(statement, present);
    return change;
  }

  /** What became of it: the server has done it, or has not. */
  end(change: StatementChange, done: boolean): void {
    const at = this.#pending.indexOf(change);
    if (at >= 0) this.#pending.splice(at, 1);
    const { statement, present } = change;
    if (done && present) this.#certain.add(statement);
    else if (done) this.#certain.delete(statement);
    const next = this.#pending.findLast((each) => each.statement === statement);
    this.#expect(statement, next?.present ?? this.#certain.has(statement));
  }

  #expect(statement: Statement, present: boolean): void {
    if (present) this.#expected.add(statement);
    else this.#expected.delete(statement);
  }

  /** The one that was not used for longest, where there are more than `max`. */
  surplus(max: number): Statement | null {
    if (this.#expected.size <= max) return null;
    for (const oldest of this.#expected) return oldest;
    return null;
  }

  /** All named ones were deallocated; what is on its way comes behind. */
  clear(): void {
    this.#certain.clear();
    this.#expected.clear();
    for (const { statement, present } of this.#pending) this.#expect(statement, present);
  }
}
