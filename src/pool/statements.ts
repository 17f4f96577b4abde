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

/** What one server has prepared, least recently used first. */
export class ServerStatements {
  readonly #named = new Set<Statement>();
  /** What its unnamed statement is; null where there is none, or nobody knows. */
  unnamed: Statement | null = null;

  get size(): number {
    return this.#named.size;
  }

  /** Whether it is there; it counts as used now. */
  has(statement: Statement): boolean {
    if (!this.#named.delete(statement)) return false;
    this.#named.add(statement);
    return true;
  }

  add(statement: Statement): void {
    this.#named.add(statement);
  }

  remove(statement: Statement): void {
    this.#named.delete(statement);
  }

  /** The one that was not used for longest, where there are more than `max`. */
  surplus(max: number): Statement | null {
    if (this.#named.size <= max) return null;
    for (const oldest of this.#named) return oldest;
    return null;
  }

  /** All named ones were deallocated. */
  clear(): void {
    this.#named.clear();
  }
}
