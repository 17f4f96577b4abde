// What a text may leave behind in its session, for each text that a client sends. Words say whether it can matter at all, so that
// plain queries are never parsed; PostgreSQL's grammar says what it does; what is known of a text is remembered.

import { EFFECTS_CACHE_ENTRIES_MAX } from "../core/limits.ts";
import { Grammar } from "./grammar.ts";
import { type Effects, effectsOf, unknownEffects } from "./session-effects.ts";

/** Statements that begin so matter. An UPDATE has its SET elsewhere. */
const leading = "SET|RESET|DISCARD|DEALLOCATE|LISTEN|UNLISTEN|PREPARE|LOAD|CLOSE|DROP|DO|CALL";
const begins = new RegExp(String.raw`^\s*(?:${leading})\b`, "i");
/** Behind a semicolon or a comment; a line break ends one kind of comment. Nothing else can stand in front of a statement. */
const follows = new RegExp(String.raw`(?:;|\*/)\s*(?:${leading})\b`, "i");
const behindLine = new RegExp(String.raw`[\n\r][^\S\n\r]*(?:${leading})\b`, "i");
/** Words that matter wherever they stand; U&"…" can hide any of them. First a look that costs little. */
const hint = /temp|hold|advisory_|set_config|u&/i;
const anywhere = /set_config|advisory_(?:un)?lock|\bhold\b|\btemp(?:orary)?\b|\bpg_temp|\bu&/i;

/** Whether the words of `sql` allow that it does something to its session. */
export function mayTouchSession(sql: string): boolean {
  if (begins.test(sql) || (hint.test(sql) && anywhere.test(sql))) return true;
  const several = sql.indexOf(";") < sql.length - 1 && sql.includes(";");
  if ((several || sql.includes("*/")) && follows.test(sql)) return true;
  return sql.includes("--") && behindLine.test(sql);
}

/** The effects of texts, remembered. One for all clients of a process. */
export class SessionEffects {
  readonly #grammar: Grammar;
  readonly #known = new Map<string, Effects | null>();

  constructor(grammar: Grammar = new Grammar()) {
    this.#grammar = grammar;
  }

  /** Resolves when texts can be read. Until then what looks suspicious counts as unknown. */
  load(): Promise<void> {
    return this.#grammar.load();
  }

  /** What `sql` may do to its session; null for nothing. Text byte for byte (latin1). */
  of(sql: string): Effects | null {
    return mayTouchSession(sql) ? this.#read(sql) : null;
  }

  #read(sql: string): Effects | null {
    const known = this.#known.get(sql);
    if (known !== undefined) {
      this.#known.delete(sql);
      this.#known.set(sql, known);
      return known;
    }
    const statements = this.#grammar.statements(sql);
    if (statements === null) return unknownEffects(sql);
    const effects = effectsOf(statements);
    for (const oldest of this.#known.keys()) {
      if (this.#known.size < EFFECTS_CACHE_ENTRIES_MAX) break;
      this.#known.delete(oldest);
    }
    this.#known.set(sql, effects);
    return effects;
  }

  /** Texts that are remembered. */
  get size(): number {
    return this.#known.size;
  }
}
