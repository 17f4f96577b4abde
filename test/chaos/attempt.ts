// One operation while it is under way, and what its client may conclude from how it ended.

import { codeOf } from "../support/sql.ts";
import type { Journal, Kind, Operation, Place } from "./history.ts";
import { placed } from "./tables.ts";

/** Who carries operations out, and through which pgsteer. */
export interface Actor {
  readonly client: number;
  readonly router: string;
}

// SQLSTATEs with which the outcome stays open although a server said them. PostgreSQL's own 57P01 does not say whether a commit that
// waits for a standby has happened; pgsteer's, in words of its own, claims that nothing was under way, and is held to that.
const OPEN_OUTCOMES = new Set(["08000", "08003", "08006", "08007", "40003", "57P01", "57P02"]);

const CLAIM = "terminating connection because its server is gone";

/** `ERROR`, `FATAL` or `PANIC` of a server's own words; null for all that the network or the driver says. */
export function severityOf(error: unknown): string | null {
  if (typeof error !== "object" || error === null || !("severity" in error)) return null;
  return typeof error.severity === "string" ? error.severity : null;
}

export class Attempt {
  readonly id: number;
  readonly #journal: Journal;
  readonly #actor: Actor;
  readonly #kind: Kind;
  readonly #invokedAt = Date.now();
  #decidedAt: number | null = null;
  #place: Place | null = null;
  #crossed: number | null = null;
  value: number | null;

  constructor(journal: Journal, actor: Actor, kind: Kind, value: number | null) {
    this.id = journal.nextId();
    this.#journal = journal;
    this.#actor = actor;
    this.#kind = kind;
    this.value = value;
  }

  /** From now on it may have happened: called right before the message that decides is sent. */
  decides(): void {
    this.#decidedAt = Date.now();
  }

  /** What RETURNING gave. */
  wrote(text: unknown): void {
    const { op, place } = placed(text);
    if (op === this.id) this.#place = place;
    else this.#crossed = op;
  }

  succeeded(): "ok" {
    this.#finish("ok", null, null);
    return "ok";
  }

  /** `told`: the server said by an error of its own that it was not done. */
  failed(error: unknown): "fail" | "unknown" {
    const code = codeOf(error);
    const message = error instanceof Error ? error.message : String(error);
    const told = severityOf(error) !== null && (!OPEN_OUTCOMES.has(code) || message === CLAIM);
    const outcome = this.#decidedAt === null || told ? "fail" : "unknown";
    this.#finish(outcome, code, message);
    return outcome;
  }

  #finish(outcome: Operation["outcome"], code: string | null, message: string | null): void {
    this.#journal.write({
      type: "op",
      id: this.id,
      ...this.#actor,
      kind: this.#kind,
      invokedAt: this.#invokedAt,
      decidedAt: this.#decidedAt,
      completedAt: Date.now(),
      outcome,
      code,
      message,
      value: this.value,
      place: this.#place,
      crossed: this.#crossed,
    });
  }
}
