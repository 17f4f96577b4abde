// What a server told of a prepared statement: the types of its parameters and what its rows look like. PostgreSQL keeps both as they
// were when the statement was prepared, and refuses to run it once its rows would look different
// (RevalidateCachedQuery() in its plancache.c; https://www.postgresql.org/docs/current/protocol-message-formats.html).

import { Backend } from "../protocol/constants.ts";
import type { Outcome } from "../protocol/exchange.ts";
import { MalformedBody } from "../protocol/reader.ts";

/** Behind a column's name in a RowDescription: table (4 bytes) and column number (2), type (4), length (2), modifier (4), format (2). */
const FIELD_BYTES = 18;
const TYPE_AT = 6;
const FORMAT_AT = 16;

export class Shape {
  /** A ParameterDescription's body: the number of parameters, and each one's type. */
  readonly parameters: Buffer;
  /** Of each column the name, type, length and modifier; null for no rows. Which table it comes from may change. */
  readonly columns: Buffer | null;

  constructor(parameters: Buffer, columns: Buffer | null) {
    this.parameters = parameters;
    this.columns = columns;
  }

  equals(other: Shape): boolean {
    if (this === other) return true;
    if (this.columns === null || other.columns === null) {
      return this.columns === other.columns && this.parameters.equals(other.parameters);
    }
    return this.columns.equals(other.columns) && this.parameters.equals(other.parameters);
  }
}

/** Columns of a RowDescription's body as a shape has them. Throws MalformedBody. */
export function columnsOf(buffer: Buffer, start: number, end: number): Buffer {
  const columns = Buffer.alloc(end - start);
  let size = 0;
  let at = start + 2;
  while (at < end) {
    const nameEnd = buffer.indexOf(0, at);
    const field = nameEnd + 1;
    if (nameEnd < 0 || field + FIELD_BYTES > end) throw new MalformedBody("a column that is not complete");
    size += buffer.copy(columns, size, at, field);
    size += buffer.copy(columns, size, field + TYPE_AT, field + FORMAT_AT);
    at = field + FIELD_BYTES;
  }
  return Buffer.from(columns.subarray(0, size));
}

/** Something that has a shape once a server has told it. */
export interface Describable {
  shape: Shape | null;
  /** The question is on its way. */
  asked: boolean;
}

/** Hears a Describe of `subject`, whose shape it then is. `untold` hears that it never will be. */
export class Description implements Outcome {
  readonly error = null;
  readonly #subject: Describable;
  readonly #untold: () => void;
  #parameters: Buffer = Buffer.alloc(2);

  constructor(subject: Describable, untold: () => void) {
    this.#subject = subject;
    this.#untold = untold;
    subject.asked = true;
  }

  hear(type: number, buffer: Buffer, start: number, end: number): void {
    if (type === Backend.ParameterDescription) this.#parameters = Buffer.from(buffer.subarray(start, end));
    else if (type === Backend.RowDescription)
      this.#subject.shape = new Shape(this.#parameters, columnsOf(buffer, start, end));
    else if (type === Backend.NoData) this.#subject.shape = new Shape(this.#parameters, null);
  }

  completed(): void {
    this.#subject.asked = false;
  }

  failed(): void {
    this.#subject.asked = false;
    this.#untold();
  }

  skipped(): void {
    this.failed();
  }
}

/** Whether such a message answers a Describe. */
export const describes = (type: number): boolean =>
  type === Backend.RowDescription || type === Backend.NoData || type === Backend.ParameterDescription;
