// Stands in for the server of a transaction that was lost with it: answers as PostgreSQL does inside a failed transaction, until
// the client ends it (https://www.postgresql.org/docs/current/protocol-flow.html, PostgreSQL's exec_simple_query and
// exec_parse_message). The first statement after an unannounced loss gets the reason; the others get 25P02.

import { inFailedTransaction, type ProxyError } from "../core/errors.ts";
import { Backend, Frontend, TransactionStatus } from "../protocol/constants.ts";
import { commandComplete, errorResponse, readyForQuery } from "../protocol/messages.ts";
import { BodyReader } from "../protocol/reader.ts";
import type { MessageWriter } from "../protocol/writer.ts";
import { endsTransaction, isEmpty, mayCommit } from "../routing/intent.ts";

/** Messages whose text is looked at; a longer one ends no transaction. */
export const TEXT_BYTES_MAX = 8_192;

/** What a client has prepared, by the names that it gave. */
export interface KnownStatements {
  textOf(name: string): string | null;
  define(name: string, definition: Buffer): void;
}

export class FailedTransaction {
  /** Why it failed, until a client has been told. */
  #untold: ProxyError | null;
  /** An error was given inside an extended batch: everything up to its Sync is skipped. */
  #skipping: boolean;
  /** What the statement that was parsed does: end the transaction, and how, or nothing; null where it may not be run. */
  #parsed: "rollback" | "commit" | "nothing" | null = null;
  #over = false;

  readonly #statements: KnownStatements | null;

  /**
   * `untold`: the error that the client has still to see; null when it has. `skipping`: it stands inside a failed batch.
   * `open`: false where there was no transaction, only a batch: then its Sync ends all. `statements`: what the client has prepared.
   */
  constructor(untold: ProxyError | null, skipping: boolean, open: boolean, statements: KnownStatements | null) {
    this.#statements = statements;
    this.#untold = untold;
    this.#skipping = skipping;
    this.#over = !open;
  }

  /** Answers one message into `writer`. `body` is null where the message was too long to look at. True: the transaction is over. */
  answer(type: number, body: Buffer | null, writer: MessageWriter): boolean {
    switch (type) {
      case Frontend.Query:
        if (!this.#skipping) this.#query(body, writer);
        return this.#settle();
      case Frontend.FunctionCall:
        if (!this.#skipping) {
          this.#refuse(writer);
          readyForQuery(TransactionStatus.Failed, writer);
        }
        return false;
      case Frontend.Sync:
        this.#skipping = false;
        readyForQuery(this.#over ? TransactionStatus.Idle : TransactionStatus.Failed, writer);
        return this.#settle();
      case Frontend.Parse:
      case Frontend.Bind:
      case Frontend.Describe:
      case Frontend.Execute:
      case Frontend.Close:
        if (!this.#skipping) this.#extended(type, body, writer);
        return false;
      default:
        return false;
    }
  }

  #settle(): boolean {
    return this.#over && !this.#skipping;
  }

  #query(body: Buffer | null, writer: MessageWriter): void {
    const sql = body === null ? "" : new BodyReader(body, 0, body.length).string("latin1");
    if (endsTransaction(sql)) this.#end(mayCommit(sql) ? "commit" : "rollback", writer);
    else if (body !== null && this.#untold === null && isEmpty(sql)) writer.message(Backend.EmptyQueryResponse);
    else this.#refuse(writer);
    readyForQuery(this.#over ? TransactionStatus.Idle : TransactionStatus.Failed, writer);
  }

  #extended(type: number, body: Buffer | null, writer: MessageWriter): void {
    if (type === Frontend.Close) {
      writer.message(Backend.CloseComplete);
      return;
    }
    if (type === Frontend.Parse) this.#parse(body);
    else if (type !== Frontend.Execute) this.#recall(type, body);
    const runs = type === Frontend.Bind || type === Frontend.Execute;
    if (this.#parsed === null || (this.#parsed === "nothing" && runs)) {
      this.#refuse(writer);
      this.#skipping = true;
    } else if (type === Frontend.Parse) writer.message(Backend.ParseComplete);
    else if (type === Frontend.Bind) writer.message(Backend.BindComplete);
    else if (type === Frontend.Describe) this.#describe(body, writer);
    else this.#execute(this.#parsed === "commit" ? "commit" : "rollback", writer);
  }

  #parse(body: Buffer | null): void {
    this.#parsed = null;
    if (body === null) return;
    const reader = new BodyReader(body, 0, body.length);
    const name = reader.string("latin1");
    this.#parsed = this.#effectOf(reader.string("latin1"));
    const definition = body.subarray(body.indexOf(0) + 1);
    if (this.#parsed !== null) this.#statements?.define(name, Buffer.from(definition));
  }

  #effectOf(sql: string): "rollback" | "commit" | "nothing" | null {
    if (endsTransaction(sql)) return mayCommit(sql) ? "commit" : "rollback";
    return this.#untold === null && isEmpty(sql) ? "nothing" : null;
  }

  /** A Bind or Describe may name a statement that was prepared before. */
  #recall(type: number, body: Buffer | null): void {
    if (body === null) return;
    const reader = new BodyReader(body, 0, body.length);
    if (type === Frontend.Bind) reader.string("latin1");
    else if (String.fromCharCode(reader.byte()) !== "S") return;
    const name = reader.string("latin1");
    if (this.#statements === null) return;
    const text = this.#statements.textOf(name);
    this.#parsed = text === null ? null : this.#effectOf(text);
  }

  #describe(body: Buffer | null, writer: MessageWriter): void {
    const ofStatement = body?.[0] === "S".charCodeAt(0);
    if (ofStatement) writer.message(Backend.ParameterDescription).byte(0).byte(0);
    writer.message(Backend.NoData);
  }

  #execute(how: "rollback" | "commit", writer: MessageWriter): void {
    const told = this.#untold === null;
    this.#end(how, writer);
    if (!told && how === "commit") this.#skipping = true;
  }

  /** A COMMIT of a transaction whose loss nobody was told of must fail; any other end is the ROLLBACK that it is. */
  #end(how: "rollback" | "commit", writer: MessageWriter): void {
    if (how === "commit" && this.#untold !== null) errorResponse(this.#untold, writer);
    else commandComplete("ROLLBACK", writer);
    this.#untold = null;
    this.#over = true;
  }

  #refuse(writer: MessageWriter): void {
    errorResponse(this.#untold ?? inFailedTransaction(), writer);
    this.#untold = null;
  }
}
