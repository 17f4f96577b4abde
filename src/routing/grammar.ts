// PostgreSQL's own grammar (its parser, compiled to WebAssembly by libpg-query): from a text to the statements in it. What it cannot
// read it says so; nobody may conclude anything from that. A trap, such as a stack that overflows, spoils an instance for good: it is
// thrown away, and until another one is there nothing can be read.

import instantiate from "libpg-query/wasm/libpg-query.js";
import { GRAMMAR_TEXT_BYTES_MAX } from "../core/limits.ts";

/** One statement: a parse tree as libpg-query writes it, `{ VariableSetStmt: { … } }`. */
export type Statement = unknown;

/** Makes an instance of the parser. */
type Instantiate = typeof instantiate;
type PgQueryModule = Awaited<ReturnType<Instantiate>>;

export class Grammar {
  readonly #instantiate: Instantiate;
  #instance: PgQueryModule | null = null;
  #loading: Promise<void> | null = null;

  constructor(make: Instantiate = instantiate) {
    this.#instantiate = make;
  }

  /** Resolves when texts can be read, or when the parser could not be had, after which nothing can. */
  load(): Promise<void> {
    this.#loading ??= this.#instantiate().then(
      (instance) => {
        this.#instance = instance;
        this.#loading = null;
      },
      () => {},
    );
    return this.#loading;
  }

  /**
   * The statements of `sql`; null where it cannot be read: a syntax error, too long, too deep, or no parser at hand. Bytes may be
   * decoded as latin1: all that comes back is the same bytes.
   */
  statements(sql: string): readonly Statement[] | null {
    const instance = this.#instance;
    if (instance === null || sql.length > GRAMMAR_TEXT_BYTES_MAX) return null;
    try {
      return statementsIn(parse(instance, sql));
    } catch {
      this.#instance = null;
      void this.load();
      return null;
    }
  }
}

/** The parse tree as JSON; null on a syntax error. Throws when the instance has trapped. */
function parse(instance: PgQueryModule, sql: string): string | null {
  const bytes = instance.lengthBytesUTF8(sql) + 1;
  const text = instance._malloc(bytes);
  instance.stringToUTF8(sql, text, bytes);
  const result = instance._wasm_parse_query_raw(text);
  instance._free(text);
  if (result === 0) throw new Error("the parser is out of memory");
  const tree = instance.getValue(result, "i32");
  const error = instance.getValue(result + 8, "i32");
  const json = error !== 0 || tree === 0 ? null : instance.UTF8ToString(tree);
  instance._wasm_free_parse_result(result);
  return json;
}

function statementsIn(json: string | null): readonly Statement[] | null {
  if (json === null) return null;
  const tree: unknown = JSON.parse(json);
  const list = typeof tree === "object" && tree !== null && "stmts" in tree ? tree.stmts : [];
  if (!Array.isArray(list)) return null;
  return list.map((each: unknown) => (typeof each === "object" && each !== null && "stmt" in each ? each.stmt : null));
}
