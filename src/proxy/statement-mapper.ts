// Lets prepared statements follow a client from server to server: its names are mapped to statements that every server can have,
// a Parse is put in front where the lent server lacks one, and answered by us where it has it already. The unnamed statement
// follows too, because drivers parse it in one transaction and bind it in the next.

import { ProxyError } from "../core/errors.ts";
import type { Server } from "../pool/server.ts";
import { SERVER_NAME_PREFIX, Statement, type StatementRegistry } from "../pool/statements.ts";
import { Frontend, HEADER_BYTES, TransactionStatus } from "../protocol/constants.ts";
import { FAKE_CLOSE_COMPLETE, FAKE_PARSE_COMPLETE, type Outcome, WATCHED_QUERY } from "../protocol/exchange.ts";
import { HEAD, PASS, type Verdict } from "../protocol/framer.ts";
import { errorResponse } from "../protocol/messages.ts";
import { MalformedBody } from "../protocol/reader.ts";
import { MessageWriter } from "../protocol/writer.ts";
import { deallocates, dropsAll } from "../routing/intent.ts";
import type { Effects } from "../routing/session-effects.ts";
import type { Binding } from "./binding.ts";
import { outcomeOf, Pending } from "./pending.ts";
import { type Operation, StatementNames } from "./statement-names.ts";
import { stringEnd, textVerdict } from "./statement-text.ts";

const STATEMENT = "S".charCodeAt(0);
/** Stands for the definition of an unnamed statement that is too long to keep: it is good on its own server only. */
const tooLong = Buffer.from("\0\0\0", "latin1");

export class StatementMapper {
  readonly #registry: StatementRegistry;
  readonly #serverMax: number;
  readonly #binding: Binding;
  readonly #names: StatementNames;
  readonly #run: (server: Server, effects: Effects | null) => void;
  /** What the statement does to its session whose Parse is sent next. */
  parsing: Effects | null = null;
  /** The same of those that were parsed, and whether there are any. */
  readonly #effects = new WeakMap<Statement, Effects>();
  #effectful = false;
  /** Something is on its way that takes all statements away: what is behind it must not be sent before it is answered. */
  #barrier: "up" | "behind the Sync" | null = null;
  /** The unnamed statement, where it deallocates, and what. */
  #deallocation: { readonly statement: Statement; readonly name: string } | null = null;
  /** Counts Syncs and simple queries. */
  #batch = 0;
  /** Parse messages whose outcome is not known: an error before them in their batch would skip them. */
  readonly #pendingNamed = new Pending();
  readonly #pendingUnnamed = new Pending();

  /**
   * `serverMax`: statements that a server keeps (setting `max_prepared_statements`). `binding` keeps the client with its server.
   * `run` hears of each Bind what its statement does to the session.
   */
  constructor(
    registry: StatementRegistry,
    serverMax: number,
    binding: Binding,
    run: (server: Server, effects: Effects | null) => void,
  ) {
    this.#run = run;
    this.#registry = registry;
    this.#serverMax = serverMax;
    this.#binding = binding;
    this.#names = new StatementNames((statement) => registry.release(statement));
  }

  /** Whether a message of this type has to wait for the answers to what was sent: it may depend on what becomes of that. */
  bars(server: Server, type: number): boolean {
    if (this.#barrier === "up" && server.exchange.empty) this.#barrier = null;
    // Neither waits for anything, and a batch that failed waits for its Sync.
    if (type === Frontend.Sync || type === Frontend.Flush || server.exchange.skipping) return false;
    if (this.#barrier === "up") return true;
    const uses = type === Frontend.Bind || type === Frontend.Describe;
    if (uses && this.#pendingUnnamed.allBefore(this.#batch)) return true;
    // A Query may deallocate what such a Parse defines, or would have defined.
    const names = uses || type === Frontend.Parse || type === Frontend.Close || type === Frontend.Query;
    return names && this.#pendingNamed.anyBefore(this.#batch);
  }

  /** Everything that the client has sent is answered. */
  settled(): void {
    this.#barrier = null;
  }

  /** A Sync is being sent. */
  synced(): void {
    this.#batch += 1;
    if (this.#barrier === "behind the Sync") this.#barrier = "up";
  }

  /** How a message of this type has to be read. */
  verdict(type: number, length: number): Verdict {
    switch (type) {
      case Frontend.Parse:
      case Frontend.Query:
        return textVerdict(length);
      case Frontend.Bind:
      case Frontend.Describe:
      case Frontend.Close:
        return HEAD;
      default:
        return PASS;
    }
  }

  /** The text of the statement that the client calls `name`; null where there is none. */
  textOf(name: string): string | null {
    return this.#names.get(name)?.text ?? null;
  }

  /** Takes a definition that no server has seen. */
  define(name: string, definition: Buffer): void {
    if (name === "") this.#names.set("", new Statement("", definition));
    else if (this.#names.get(name) === null) this.#names.set(name, this.#registry.hold(definition));
  }

  /** A plan was refused, because tables have changed: to prepare the same text again must help. */
  retire(): void {
    for (const statement of this.#names) this.#registry.retire(statement);
  }

  /** All names were deallocated. The unnamed statement is not. */
  clear(): void {
    this.#names.clearNamed();
  }

  /** The client is gone. */
  close(): void {
    this.#names.close();
  }

  /**
   * Sends one message to `server`, as the server must see it: `buffer[start, end)` is the message or its beginning. Returns where
   * the bytes begin that still have to be sent as they are; `end` when there are none. Throws MalformedBody.
   */
  send(server: Server, type: number, length: number, buffer: Buffer, start: number, end: number): number {
    switch (type) {
      case Frontend.Parse:
        return this.#parse(server, length, buffer, start, end);
      case Frontend.Bind:
        return this.#bind(server, length, buffer, start, end);
      case Frontend.Describe:
        return this.#describe(server, length, buffer, start, end);
      case Frontend.Close:
        return this.#close(server, length, buffer, start, end);
      default:
        return this.#query(server, length, buffer, start, end);
    }
  }

  #query(server: Server, length: number, buffer: Buffer, start: number, end: number): number {
    const text = end - start === length + 1 ? buffer.toString("latin1", start + HEADER_BYTES, end - 1) : "";
    const name = deallocates(text);
    if (dropsAll(text)) this.#barrier = "up";
    if (name !== null && this.#names.get(name) !== null && !server.exchange.openBatch) {
      const gone = this.#outcome([this.#names.begin(name, null)]);
      server.answerDeallocate(this.#pendingNamed.watch(this.#batch, gone));
      this.#names.dropUnnamed();
      this.#batch += 1;
      return end;
    }
    // A simple Query takes the unnamed statement away; behind an open batch it may be skipped.
    server.statements.unnamed = null;
    if (server.exchange.openBatch) {
      const dropped = this.#outcome([this.#names.begin("", null)]);
      server.exchange.account(WATCHED_QUERY, this.#pendingUnnamed.watch(this.#batch, dropped));
    } else {
      this.#names.dropUnnamed();
      this.#batch += 1;
      server.exchange.request(Frontend.Query);
    }
    return start;
  }

  #parse(server: Server, length: number, buffer: Buffer, start: number, end: number): number {
    const nameEnd = stringEnd(buffer, start + HEADER_BYTES, end);
    const name = buffer.toString("latin1", start + HEADER_BYTES, nameEnd);
    if (end - start !== length + 1) {
      if (name === "") this.#parseUnnamed(server, tooLong);
      else {
        this.#binding.bind("large_prepared_statement");
        server.exchange.request(Frontend.Parse);
      }
      return start;
    }
    const definition = Buffer.from(buffer.subarray(nameEnd + 1, end));
    if (dropsAll(definition.toString("latin1"))) this.#barrier = "behind the Sync";
    if (name === "") {
      this.#parseUnnamed(server, definition);
      return start;
    }
    this.#parseNamed(server, name, definition);
    return end;
  }

  #parseUnnamed(server: Server, definition: Buffer): void {
    const statement = this.#noted(new Statement("", definition));
    const deallocated = deallocates(statement.text);
    this.#deallocation = deallocated === null ? null : { statement, name: deallocated };
    this.#becomesUnnamed(server, statement, [this.#names.begin("", statement)]);
  }

  /** Notes a Parse of the unnamed statement; with `own` it is not the client's. */
  #becomesUnnamed(server: Server, statement: Statement, operations: readonly Operation[], own = false): void {
    const { statements, exchange } = server;
    statements.unnamed = statement;
    const outcome = this.#outcome(operations, (done) => {
      if (!done && statements.unnamed === statement) statements.unnamed = null;
    });
    exchange.account(Frontend.Parse, this.#pendingUnnamed.watch(this.#batch, outcome), own);
  }

  /**
   * Where the unnamed statement, which is being bound, deallocates one of the client's own: makes it one that deallocates
   * something made for this moment, since the client's own may serve others. It is taken to be executed. False elsewhere.
   */
  #deallocate(server: Server): boolean {
    if (this.#deallocation === null) return false;
    const { statement, name } = this.#deallocation;
    if (this.#names.get("") !== statement || this.#names.get(name) === null) return false;
    const victim = this.#registry.once(Buffer.from("SELECT 1\0\0\0", "latin1"));
    const gone = this.#outcome([this.#names.begin(name, null)]);
    server.exchange.account(Frontend.Parse, this.#pendingNamed.watch(this.#batch, gone), true);
    server.send(victim.parseMessage());
    server.statements.unnamed = null;
    server.exchange.account(Frontend.Parse, null, true);
    server.send(new Statement("", Buffer.from(`DEALLOCATE ${victim.serverName}\0\0\0`, "latin1")).parseMessage());
    return true;
  }

  /** Notes what was said of the statement that is being parsed. */
  #noted(statement: Statement): Statement {
    const effects = this.parsing;
    this.parsing = null;
    if (effects === null) return statement;
    this.#effectful = true;
    this.#effects.set(statement, effects);
    return statement;
  }

  /** An outcome that settles these operations, and then tells whether they were carried out. */
  #outcome(operations: readonly Operation[], then: (done: boolean) => void = () => {}): Outcome {
    const end = (outcome: "completed" | "failed" | "skipped") => (): void => {
      for (const operation of operations) this.#names.end(operation, outcome);
      then(outcome === "completed");
    };
    return { completed: end("completed"), failed: end("failed"), skipped: end("skipped"), error: null };
  }

  #parseNamed(server: Server, name: string, definition: Buffer): void {
    const { statements, exchange } = server;
    const taken = this.#names.get(name);
    if (taken !== null) {
      this.#ensure(server, taken);
      exchange.account(Frontend.Parse, this.#pendingNamed.watch(this.#batch, outcomeOf({ error: duplicate(name) })));
      // Its own text: what is wrong with that comes first.
      server.send(new Statement(taken.serverName, definition).parseMessage());
      return;
    }
    const statement = this.#noted(this.#registry.hold(definition));
    const operations = [this.#names.begin(name, statement)];
    const known = statements.has(statement);
    // Behind a batch that is not answered yet nobody knows whether the transaction will have failed by then.
    if (known && server.status !== TransactionStatus.Failed && exchange.stalled) {
      exchange.account(FAKE_PARSE_COMPLETE, this.#pendingNamed.watch(this.#batch, this.#outcome(operations)));
      return;
    }
    // In a failed transaction PostgreSQL decides, and must not find the name taken.
    if (known) this.#closeNamed(server, statement);
    this.#prepare(server, statement, operations);
  }

  /** Sends the Parse of a statement that the server lacks. With operations it is the client's own, and its answer the client's. */
  #prepare(server: Server, statement: Statement, operations?: readonly Operation[]): void {
    this.#makeRoom(server);
    const change = server.statements.begin(statement, true);
    const outcome = this.#outcome(operations ?? [], (done) => server.statements.end(change, done));
    const watched = this.#pendingNamed.watch(this.#batch, outcome);
    server.exchange.account(Frontend.Parse, watched, operations === undefined);
    server.send(statement.parseMessage());
  }

  /** Closes the statement that was not used for longest, where the server has as many as it may. */
  #makeRoom(server: Server): void {
    const oldest = server.statements.surplus(this.#serverMax - 1);
    if (oldest !== null) this.#closeNamed(server, oldest);
  }

  #closeNamed(server: Server, statement: Statement): void {
    const change = server.statements.begin(statement, false);
    const outcome = this.#outcome([], (done) => server.statements.end(change, done));
    server.exchange.account(Frontend.Close, outcome, true);
    server.send(closeMessage(statement.serverName));
  }

  /** Puts a Parse in front where the server lacks the statement. */
  #ensure(server: Server, statement: Statement): void {
    const { statements } = server;
    if (statement.serverName !== "") {
      if (!statements.has(statement)) this.#prepare(server, statement);
      return;
    }
    if (statements.unnamed === statement) return;
    // Too long to be kept, and this is another server.
    if (statement.definition === tooLong) return this.#closeUnnamed(server);
    this.#becomesUnnamed(server, statement, [], true);
    server.send(statement.parseMessage());
  }

  /** Makes sure that `name` means on the server what the client means by it. Returns its name there, or null for the same. */
  #resolve(server: Server, name: string): string | null {
    if (name === "") {
      const unnamed = this.#names.get("");
      if (unnamed !== null) this.#ensure(server, unnamed);
      else this.#closeUnnamed(server);
      return null;
    }
    const statement = this.#names.get(name);
    if (statement === null) return name.startsWith(SERVER_NAME_PREFIX) ? `${SERVER_NAME_PREFIX}0` : null;
    this.#ensure(server, statement);
    return statement.serverName;
  }

  /** The server's unnamed statement, if it has one, is another client's. */
  #closeUnnamed(server: Server): void {
    server.statements.unnamed = null;
    server.exchange.account(Frontend.Close, null, true);
    server.send(closeMessage(""));
  }

  #bind(server: Server, length: number, buffer: Buffer, start: number, end: number): number {
    const portalEnd = stringEnd(buffer, start + HEADER_BYTES, end);
    const nameEnd = stringEnd(buffer, portalEnd + 1, end);
    const name = buffer.toString("latin1", portalEnd + 1, nameEnd);
    const renamed = name === "" && this.#deallocate(server) ? null : this.#resolve(server, name);
    const statement = this.#effectful ? this.#names.get(name) : null;
    this.#run(server, statement === null ? null : (this.#effects.get(statement) ?? null));
    server.exchange.request(Frontend.Bind);
    if (renamed === null) return start;
    server.send(renamedFront(buffer, start, portalEnd + 1, nameEnd, length, renamed));
    return nameEnd + 1;
  }

  #describe(server: Server, length: number, buffer: Buffer, start: number, end: number): number {
    const name = statementName(length, buffer, start, end);
    const renamed = name === null ? null : this.#resolve(server, name);
    server.exchange.request(Frontend.Describe);
    if (name === null || renamed === null) return start;
    server.send(renamedFront(buffer, start, start + HEADER_BYTES + 1, end - 1, length, renamed));
    return end;
  }

  #close(server: Server, length: number, buffer: Buffer, start: number, end: number): number {
    const name = statementName(length, buffer, start, end);
    const statement = name === null ? null : this.#names.get(name);
    if (name === null || (name !== "" && statement === null)) {
      // A cursor, or a statement that was too long to be ours.
      this.#binding.doubt(name === null ? "with_hold_cursor" : "large_prepared_statement");
      server.exchange.request(Frontend.Close);
      return start;
    }
    const closed = this.#outcome([this.#names.begin(name, null)]);
    if (name === "") {
      server.statements.unnamed = null;
      server.exchange.account(Frontend.Close, this.#pendingUnnamed.watch(this.#batch, closed));
      return start;
    }
    server.exchange.account(FAKE_CLOSE_COMPLETE, this.#pendingNamed.watch(this.#batch, closed));
    return end;
  }
}

/** The statement that a Describe or Close names; null where it names a portal. */
function statementName(length: number, buffer: Buffer, start: number, end: number): string | null {
  if (end - start !== length + 1) throw new MalformedBody("a name that is too long");
  const from = start + HEADER_BYTES + 1;
  if (stringEnd(buffer, from, end) !== end - 1) throw new MalformedBody("bytes behind the name");
  return buffer[from - 1] === STATEMENT ? buffer.toString("latin1", from, end - 1) : null;
}

/** A message up to the end of its statement name, which stands in `buffer[nameStart, nameEnd)`, with another name. */
function renamedFront(
  buffer: Buffer,
  start: number,
  nameStart: number,
  nameEnd: number,
  length: number,
  name: string,
): Buffer {
  const front = Buffer.allocUnsafe(nameStart - start + name.length + 1);
  buffer.copy(front, 0, start, nameStart);
  front.writeInt32BE(length + name.length - (nameEnd - nameStart), 1);
  front.write(name, nameStart - start, "latin1");
  front[front.length - 1] = 0;
  return front;
}

const closeMessage = (name: string): Buffer =>
  new MessageWriter().message(Frontend.Close).byte(STATEMENT).string(name, "latin1").finish();

function duplicate(name: string): Buffer {
  const error = new ProxyError("statement_exists", `prepared statement "${name}" already exists`);
  return errorResponse(error).finish();
}
