// The names of one client's prepared statements, as PostgreSQL would have them: what is certain, and what is on its way. A message
// in a pipeline is read as if all before it will succeed; what an error skips is taken out again, in whatever order that is heard.

import type { Preparation, Statement } from "../pool/statements.ts";
import type { Ending } from "./pending.ts";

/** What a client calls by a name, and what it knows of it. */
export class Named {
  readonly statement: Statement;
  /** A preparation that is known to be what this client means. */
  fits: Preparation | null = null;
  /** The preparation that was described to it: what it takes rows to look like. */
  described: Preparation | null = null;

  constructor(statement: Statement) {
    this.statement = statement;
  }

  /** The preparation whose shape it was told, or will be; null where it was told none. */
  get known(): Preparation | null {
    const { described } = this;
    return described !== null && (described.asked || described.shape !== null) ? described : null;
  }
}

/** A Parse (with its statement) or a Close (with null) whose outcome is not known yet. */
export interface Operation {
  readonly name: string;
  readonly named: Named | null;
}

export class StatementNames {
  readonly #certain = new Map<string, Named>();
  /** In the order of the stream. */
  readonly #pending: Operation[] = [];
  readonly #dropped: (statement: Statement) => void;

  /** `dropped` hears each statement once for each time that it came in, when a name no longer stands for it. */
  constructor(dropped: (statement: Statement) => void) {
    this.#dropped = dropped;
  }

  /** What `name` stands for, if all goes well; null for nothing. */
  get(name: string): Named | null {
    for (let at = this.#pending.length - 1; at >= 0; at--) {
      const operation = this.#pending[at];
      if (operation?.name === name) return operation.named;
    }
    return this.#certain.get(name) ?? null;
  }

  /** Notes an operation that is being sent; `end` it once. */
  begin(name: string, named: Named | null): Operation {
    const operation = { name, named };
    this.#pending.push(operation);
    return operation;
  }

  /** What became of an operation. A Parse of the unnamed statement that fails takes the former one away, as in PostgreSQL. */
  end(operation: Operation, outcome: Ending): void {
    const at = this.#pending.indexOf(operation);
    if (at === 0 && this.#pending.length === 1) this.#pending.pop();
    else if (at >= 0) this.#pending.splice(at, 1);
    const { name, named } = operation;
    if (at >= 0 && outcome === "completed") this.set(name, named);
    else if (named !== null) this.#dropped(named.statement);
    if (at >= 0 && outcome === "failed" && name === "") this.set("", null);
  }

  /** Makes something certain. */
  set(name: string, named: Named | null): void {
    const before = this.#certain.get(name);
    if (before !== undefined) this.#dropped(before.statement);
    if (named === null) this.#certain.delete(name);
    else this.#certain.set(name, named);
  }

  /** A simple query takes the unnamed statement away, whatever is still said of it. */
  dropUnnamed(): void {
    this.set("", null);
    for (let at = this.#pending.length - 1; at >= 0; at--) {
      const operation = this.#pending[at];
      if (operation?.name === "") this.#pending.splice(at, 1);
    }
  }

  /** All names that are certain; those on their way come behind. */
  *[Symbol.iterator](): Iterator<Named> {
    yield* this.#certain.values();
  }

  /** DEALLOCATE ALL was executed. */
  clearNamed(): void {
    for (const name of [...this.#certain.keys()]) if (name !== "") this.set(name, null);
  }

  /** The client is gone: nothing is kept, and what is still heard does not count. */
  close(): void {
    for (const name of [...this.#certain.keys()]) this.set(name, null);
    for (const { named } of this.#pending.splice(0)) if (named !== null) this.#dropped(named.statement);
  }
}
