// Prepared statements that are not bound to one server: what is needed to prepare them anywhere, and which server has which.
// Statements with the same text and parameter types are one statement, whoever named it and how
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY).

import { Frontend } from "../protocol/constants.ts";
import { NameTable } from "../protocol/name-table.ts";
import { MessageWriter } from "../protocol/writer.ts";
import type { Describable, Shape } from "./shape.ts";

/** Names that we give on servers begin like this. */
export const SERVER_NAME_PREFIX = "pgsteer_";

/** A Parse that can be sent again. */
export class Statement {
  /** Its name on every server; empty for an unnamed one. */
  readonly serverName: string;
  /** The Parse message's body behind the name: the text, a zero byte, the parameter types. */
  readonly definition: Buffer;
  /** What decides, besides the text, what the text means: the same text names other tables elsewhere. Null where nobody shares it. */
  readonly place: string | null;

  constructor(serverName: string, definition: Buffer, place: string | null = null) {
    this.serverName = serverName;
    this.definition = definition;
    this.place = place;
  }

  /** The SQL, byte for byte (latin1). */
  get text(): string {
    return this.definition.toString("latin1", 0, this.#textEnd);
  }

  /** Whether these are the parameter types that it says itself. */
  declares(types: Buffer): boolean {
    return this.definition.subarray(this.#textEnd + 1).equals(types);
  }

  /** The Parse message; `types`: with these parameter types in place of its own. */
  parseMessage(types: Buffer | null = null): Buffer {
    const writer = new MessageWriter().message(Frontend.Parse).string(this.serverName, "latin1");
    if (types === null) writer.bytes(this.definition);
    else writer.bytes(this.definition.subarray(0, this.#textEnd + 1)).bytes(types);
    return writer.finish();
  }

  get #textEnd(): number {
    return Math.max(0, this.definition.indexOf(0));
  }
}

/** A statement as it was prepared on one server at one time: prepared again it may look different. */
export class Preparation implements Describable {
  readonly statement: Statement;
  /** As the statement says, at its place: good for everybody who says the same now. */
  readonly plain: boolean;
  shape: Shape | null = null;
  asked = false;
  /** When it was used last: counts the server's uses. */
  used = 0;

  constructor(statement: Statement, plain: boolean) {
    this.statement = statement;
    this.plain = plain;
  }
}

/** One object for each named statement in use, shared by all clients of a process. */
export class StatementRegistry {
  /** The names that clients give. */
  readonly names = new NameTable();
  readonly #held = new Map<string, { readonly statement: Statement; holders: number }>();
  #next = 1;

  /** The statement with this definition, of this place; `release` it once for each time. */
  hold(definition: Buffer, place = ""): Statement {
    const key = keyOf(definition, place);
    let entry = this.#held.get(key);
    if (entry === undefined) {
      entry = { statement: new Statement(`${SERVER_NAME_PREFIX}${this.#next++}`, definition, place), holders: 0 };
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
    // Of these nobody but their own client knows.
    if (statement.place === null) return;
    const key = keyOf(statement.definition, statement.place);
    const entry = this.#held.get(key);
    if (entry === undefined || entry.statement !== statement) return;
    entry.holders -= 1;
    if (entry.holders === 0) this.#held.delete(key);
  }

  /** Whoever asks for its text from now on gets a new statement; those who hold it keep it. */
  retire(statement: Statement): void {
    if (statement.place === null) return;
    const key = keyOf(statement.definition, statement.place);
    if (this.#held.get(key)?.statement === statement) this.#held.delete(key);
  }

  get size(): number {
    return this.#held.size;
  }
}

const keyOf = (definition: Buffer, place: string | null): string => `${definition.toString("latin1")}\0${place ?? ""}`;

/** A Parse (with what it prepares) or Close (with null) of a named statement whose outcome is not known yet. */
export interface StatementChange {
  readonly statement: Statement;
  readonly preparation: Preparation | null;
}

/**
 * What one server has prepared: what is certain, and what is on its way. Requests are sent as if all before them will succeed;
 * what an error refuses or skips is taken back, whatever was sent behind it.
 */
export class ServerStatements {
  /** What is there once everything on its way has succeeded. */
  readonly #expected = new Map<Statement, Preparation>();
  readonly #certain = new Map<Statement, Preparation>();
  /** In the order of the stream. */
  readonly #pending: StatementChange[] = [];
  #uses = 0;
  /** What its unnamed statement is; null where there is none, or nobody knows. */
  unnamed: Preparation | null = null;

  get size(): number {
    return this.#expected.size;
  }

  /** What a request that is sent now will find; it counts as used. */
  get(statement: Statement): Preparation | null {
    const found = this.#expected.get(statement);
    if (found === undefined) return null;
    found.used = ++this.#uses;
    return found;
  }

  /** Notes a Parse that is being sent; `end` it once. */
  preparing(preparation: Preparation): StatementChange {
    return this.#begin({ statement: preparation.statement, preparation });
  }

  /** Notes a Close that is being sent; `end` it once. */
  closing(statement: Statement): StatementChange {
    return this.#begin({ statement, preparation: null });
  }

  #begin(change: StatementChange): StatementChange {
    this.#pending.push(change);
    if (change.preparation !== null) change.preparation.used = ++this.#uses;
    this.#expect(change.statement, change.preparation);
    return change;
  }

  /** What became of it: the server has done it, or has not. */
  end(change: StatementChange, done: boolean): void {
    const at = this.#pending.indexOf(change);
    if (at >= 0) this.#pending.splice(at, 1);
    const { statement, preparation } = change;
    if (done && preparation !== null) this.#certain.set(statement, preparation);
    else if (done) this.#certain.delete(statement);
    const next = this.#pending.findLast((each) => each.statement === statement);
    this.#expect(statement, next === undefined ? (this.#certain.get(statement) ?? null) : next.preparation);
  }

  #expect(statement: Statement, preparation: Preparation | null): void {
    if (preparation !== null) this.#expected.set(statement, preparation);
    else this.#expected.delete(statement);
  }

  /** The one that was not used for longest, where there are more than `max`. */
  surplus(max: number): Statement | null {
    if (this.#expected.size <= max) return null;
    let oldest: Preparation | null = null;
    for (const each of this.#expected.values()) if (oldest === null || each.used < oldest.used) oldest = each;
    return oldest?.statement ?? null;
  }

  /** All named ones were deallocated; what is on its way comes behind. */
  clear(): void {
    this.#certain.clear();
    this.#expected.clear();
    for (const { statement, preparation } of this.#pending) this.#expect(statement, preparation);
  }
}
