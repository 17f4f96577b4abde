// Lets prepared statements follow a client from server to server: its names are mapped to statements that every server can have,
// a Parse is put in front where the lent server lacks one, and answered by us where it has it already. The unnamed statement
// follows too, because drivers parse it in one transaction and bind it in the next.

import { Buffer } from "node:buffer";
import type { Server } from "../pool/server.ts";
import { SERVER_NAME_PREFIX, Statement, type StatementRegistry } from "../pool/statements.ts";
import { Frontend, HEADER_BYTES, TransactionStatus } from "../protocol/constants.ts";
import { FAKE_CLOSE_COMPLETE, FAKE_PARSE_COMPLETE, type Outcome, WATCHED_QUERY } from "../protocol/exchange.ts";
import { HEAD, PASS, type Verdict } from "../protocol/framer.ts";
import { deallocates, dropsAll } from "../routing/intent.ts";
import type { Effects } from "../routing/session-effects.ts";
import type { Binding } from "./binding.ts";
import { Batches, Told } from "./pending.ts";
import { GO, Preparer, REFUSE, type Standing, TOO_LONG, WAIT } from "./preparer.ts";
import { duplicate, NOBODY, nameIn, renamedFront, statementName } from "./statement-messages.ts";
import { Named, type Operation, StatementNames } from "./statement-names.ts";
import { stringEnd, textVerdict } from "./statement-text.ts";

/** Where a message was not sent: it waits for an answer. */
export const HELD = -1;

export class StatementMapper {
  readonly #registry: StatementRegistry;
  readonly #binding: Binding;
  readonly #names: StatementNames;
  /** Parse messages whose outcome is not known: an error before them in their batch would skip them. */
  readonly #batches = new Batches();
  readonly #preparer: Preparer;
  readonly #place: () => string | null;
  readonly #run: (server: Server, effects: Effects | null) => void;
  #quiet = false;
  /** What the statement does to its session whose Parse is sent next. */
  parsing: Effects | null = null;
  /** The same of those that were parsed, and whether there are any. */
  readonly #effects = new WeakMap<Statement, Effects>();
  #effectful = false;
  /** Something is on its way that takes all statements away: what is behind it must not be sent before it is answered. */
  #barrier: "up" | "behind the Sync" | null = null;
  /** The unnamed statement, where it deallocates, and what. */
  #deallocation: { readonly statement: Statement; readonly name: string } | null = null;
  /** The portal that was bound last, and the named statement it was bound to. */
  #portal = "";
  #bound: Named | null = null;

  /**
   * `serverMax`: statements that a server keeps (setting `max_prepared_statements`). `binding` keeps the client with its server.
   * `place` tells what decides, besides its text, what a statement means; null where nobody else means the same. `run` hears of each
   * Bind what its statement does to the session.
   */
  constructor(
    registry: StatementRegistry,
    serverMax: number,
    binding: Binding,
    place: () => string | null,
    run: (server: Server, effects: Effects | null) => void,
  ) {
    this.#run = run;
    this.#registry = registry;
    this.#binding = binding;
    this.#place = place;
    this.#preparer = new Preparer(registry, serverMax, this.#batches, place);
    this.#names = new StatementNames((statement) => registry.release(statement));
  }

  /** Whether a message of this type has to wait for the answers to what was sent: it may depend on what becomes of that. */
  bars(server: Server, type: number): boolean {
    if (this.#barrier === "up" && server.exchange.empty) this.#barrier = null;
    // Neither waits for anything, and a batch that failed waits for its Sync.
    if (type === Frontend.Sync || type === Frontend.Flush || server.exchange.skipping) return false;
    if (this.#barrier === "up" || this.#preparer.waiting) return true;
    const uses = type === Frontend.Bind || type === Frontend.Describe;
    if (uses && this.#batches.unnamedOpen) return true;
    // A Query may deallocate what such a Parse defines, or would have defined.
    const names = uses || type === Frontend.Parse || type === Frontend.Close || type === Frontend.Query;
    return names && this.#batches.namesOpen;
  }

  /** Everything that the client has sent is answered. */
  settled(): void {
    this.#barrier = null;
  }

  /** A Sync is being sent. */
  synced(): void {
    this.#batches.end();
    if (this.#barrier === "behind the Sync") this.#barrier = "up";
  }

  /** A text is sent next; `quiet`: it does nothing to its session, nor to prepared statements. */
  reading(quiet: boolean): void {
    this.#quiet = quiet;
    this.parsing = null;
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
    return this.#names.get(name)?.statement.text ?? null;
  }

  /** Takes a definition that no server has seen. */
  define(name: string, definition: Buffer): void {
    if (name !== "" && this.#names.get(name) !== null) return;
    this.#names.set(name, new Named(this.#statement(name, definition)));
  }

  /** A plan was refused, because tables have changed: to prepare the same text again must help. */
  retire(): void {
    for (const { statement } of this.#names) this.#registry.retire(statement);
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
   * the bytes begin that still have to be sent as they are; `end` when there are none; HELD where the message has to wait, and be
   * given again once `bars` lets it. Throws MalformedBody.
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
    const readable = !this.#quiet && end - start === length + 1;
    const text = readable ? buffer.toString("latin1", start + HEADER_BYTES, end - 1) : "";
    const name = deallocates(text);
    if (dropsAll(text)) this.#barrier = "up";
    if (name !== null && this.#names.get(name) !== null && !server.exchange.openBatch) {
      const gone = this.#outcome(this.#names.begin(name, null));
      server.answerDeallocate(this.#batches.named(gone));
      this.#names.dropUnnamed();
      this.#batches.end();
      return end;
    }
    // A simple Query takes the unnamed statement away; behind an open batch it may be skipped.
    server.statements.unnamed = null;
    if (server.exchange.openBatch) {
      const dropped = this.#outcome(this.#names.begin("", null));
      server.exchange.account(WATCHED_QUERY, this.#batches.unnamed(dropped));
    } else {
      this.#names.dropUnnamed();
      this.#batches.end();
      server.exchange.request(Frontend.Query);
    }
    return start;
  }

  #parse(server: Server, length: number, buffer: Buffer, start: number, end: number): number {
    const nameEnd = stringEnd(buffer, start + HEADER_BYTES, end);
    const name = this.#registry.names.read(buffer, start + HEADER_BYTES, nameEnd);
    if (end - start !== length + 1) {
      if (name === "") this.#parseUnnamed(server, TOO_LONG);
      else {
        this.#binding.bind("large_prepared_statement");
        server.exchange.request(Frontend.Parse);
      }
      return start;
    }
    const definition = Buffer.allocUnsafe(end - nameEnd - 1);
    buffer.copy(definition, 0, nameEnd + 1, end);
    if (!this.#quiet && dropsAll(definition.toString("latin1"))) this.#barrier = "behind the Sync";
    if (name === "") {
      this.#parseUnnamed(server, definition);
      return start;
    }
    this.#parseNamed(server, name, definition);
    return end;
  }

  #parseUnnamed(server: Server, definition: Buffer): void {
    const named = new Named(this.#noted(this.#statement("", definition)));
    const deallocated = this.#quiet ? null : deallocates(named.statement.text);
    this.#deallocation = deallocated === null ? null : { statement: named.statement, name: deallocated };
    const operation = this.#names.begin("", named);
    this.#preparer.parsingUnnamed(server, named, (ending) => this.#names.end(operation, ending));
  }

  #statement(name: string, definition: Buffer): Statement {
    if (name === "") return new Statement("", definition);
    const place = this.#place();
    return place === null ? this.#registry.once(definition) : this.#registry.hold(definition, place);
  }

  /**
   * Where the unnamed statement, which is being bound, deallocates one of the client's own: makes it one that deallocates
   * something made for this moment, since the client's own may serve others. It is taken to be executed. False elsewhere.
   */
  #deallocate(server: Server): boolean {
    if (this.#deallocation === null) return false;
    const { statement, name } = this.#deallocation;
    if (this.#names.get("")?.statement !== statement || this.#names.get(name) === null) return false;
    const victim = this.#registry.once(Buffer.from("SELECT 1\0\0\0", "latin1"));
    const gone = this.#outcome(this.#names.begin(name, null));
    server.exchange.account(Frontend.Parse, this.#batches.named(gone), true);
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

  /** An outcome that settles this operation. */
  #outcome(operation: Operation): Outcome {
    return new Told((ending) => this.#names.end(operation, ending));
  }

  #parseNamed(server: Server, name: string, definition: Buffer): void {
    const { statements, exchange } = server;
    const taken = this.#names.get(name);
    if (taken !== null) {
      if (statements.get(taken.statement) === null) this.#preparer.prepare(server, taken, null);
      exchange.account(Frontend.Parse, this.#batches.named(new Told(null, duplicate(name))));
      // Its own text: what is wrong with that comes first.
      server.send(new Statement(taken.statement.serverName, definition).parseMessage());
      return;
    }
    const named = new Named(this.#noted(this.#statement(name, definition)));
    const operation = this.#names.begin(name, named);
    const known = statements.get(named.statement);
    // Behind a batch that is not answered yet nobody knows whether the transaction will have failed by then.
    if (known?.plain === true && server.status !== TransactionStatus.Failed && exchange.stalled) {
      named.fits = known;
      exchange.account(FAKE_PARSE_COMPLETE, this.#batches.named(this.#outcome(operation)));
      return;
    }
    // In a failed transaction PostgreSQL decides, and must not find the name taken.
    this.#preparer.prepare(server, named, (ending) => this.#names.end(operation, ending));
  }

  /** Makes sure that `named`, which the client calls `name`, means on the server what the client means by it. */
  #stand(server: Server, name: string, named: Named | null): Standing {
    if (named !== null) return this.#preparer.stand(server, named);
    if (name === "") this.#preparer.closeUnnamed(server);
    return GO;
  }

  #bind(server: Server, length: number, buffer: Buffer, start: number, end: number): number {
    const portalEnd = stringEnd(buffer, start + HEADER_BYTES, end);
    const nameEnd = stringEnd(buffer, portalEnd + 1, end);
    const name = this.#registry.names.read(buffer, portalEnd + 1, nameEnd);
    const named = this.#names.get(name);
    if (name !== "" || !this.#deallocate(server)) {
      const standing = this.#stand(server, name, named);
      if (standing === WAIT) return HELD;
      if (standing === REFUSE && named !== null) {
        this.#preparer.refuse(server, named, false);
        return end;
      }
    }
    const effects = this.#effectful && named !== null ? this.#effects.get(named.statement) : undefined;
    this.#run(server, effects ?? null);
    server.exchange.request(Frontend.Bind);
    this.#portal = portalEnd === start + HEADER_BYTES ? "" : buffer.toString("latin1", start + HEADER_BYTES, portalEnd);
    this.#bound = name === "" ? null : named;
    const renamed = serverNameOf(name, named);
    if (renamed === null) return start;
    server.send(renamedFront(buffer, start, portalEnd + 1, nameEnd, length, renamed));
    return nameEnd + 1;
  }

  #describe(server: Server, length: number, buffer: Buffer, start: number, end: number): number {
    const name = statementName(length, buffer, start, end);
    const named = name === null ? null : this.#names.get(name);
    if (name !== null) {
      const standing = this.#stand(server, name, named);
      if (standing === WAIT) return HELD;
      if (standing === REFUSE && named !== null) {
        this.#preparer.refuse(server, named, true);
        return end;
      }
    }
    if (named !== null) this.#preparer.describing(server, named);
    else {
      const bound = name === null ? this.#bound : null;
      if (bound !== null && bound.known === null && nameIn(buffer, start, end) === this.#portal)
        this.#preparer.describingPortal(server, bound);
      server.exchange.request(Frontend.Describe);
    }
    const renamed = name === null ? null : serverNameOf(name, named);
    if (renamed === null) return start;
    server.send(renamedFront(buffer, start, start + HEADER_BYTES + 1, end - 1, length, renamed));
    return end;
  }

  #close(server: Server, length: number, buffer: Buffer, start: number, end: number): number {
    const name = statementName(length, buffer, start, end);
    const named = name === null ? null : this.#names.get(name);
    if (name === null || (name !== "" && named === null)) {
      // A cursor, or a statement that was too long to be ours.
      this.#binding.doubt(name === null ? "with_hold_cursor" : "large_prepared_statement");
      server.exchange.request(Frontend.Close);
      return start;
    }
    const closed = this.#outcome(this.#names.begin(name, null));
    if (name === "") {
      server.statements.unnamed = null;
      server.exchange.account(Frontend.Close, this.#batches.unnamed(closed));
      return start;
    }
    server.exchange.account(FAKE_CLOSE_COMPLETE, this.#batches.named(closed));
    return end;
  }
}

/** What the server calls what the client calls `name`; null for the same. */
function serverNameOf(name: string, named: Named | null): string | null {
  if (name === "") return null;
  if (named !== null) return named.statement.serverName;
  return name.startsWith(SERVER_NAME_PREFIX) ? NOBODY : null;
}
