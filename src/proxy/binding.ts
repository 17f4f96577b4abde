// Whether a client in transaction pooling has to stay with its server, and why: what it left in the session cannot follow it. What
// may have come or gone is a doubt, until the server has been asked; only its answer pins, and only its answer ends a pin.

import type { Effects, Pin, PinCause } from "../routing/session-effects.ts";

/** What becomes of a statement that would pin: setting `on_session_state`. */
export type OnSessionState = "pin" | "refuse" | "ignore";

/** Of what no server can be asked. */
const unaskable: readonly PinCause[] = ["load", "session_authorization", "hidden_setting"];

export class Binding {
  readonly #policy: OnSessionState;
  readonly #count: (cause: PinCause, outcome: "pinned" | "ignored") => void;
  readonly #causes = new Set<PinCause>();
  #doubtful = false;

  /** `count` hears each cause when it arises, and each one that is passed over. */
  constructor(policy: OnSessionState, count: (cause: PinCause, outcome: "pinned" | "ignored") => void) {
    this.#policy = policy;
    this.#count = count;
  }

  get causes(): ReadonlySet<PinCause> {
    return this.#causes;
  }

  get bound(): boolean {
    return this.#causes.size > 0;
  }

  /** Whether the server has to be asked what is left in the session. */
  get doubtful(): boolean {
    return this.#doubtful && !unaskable.some((cause) => this.#causes.has(cause));
  }

  /** Whether the session may hold anything at all. */
  get suspect(): boolean {
    return this.bound || this.#doubtful;
  }

  /** What has to be refused of this; null for nothing. */
  refusable({ pins }: Effects): Pin | null {
    return this.#policy === "refuse" ? (pins[0] ?? null) : null;
  }

  /** A text with these effects is being run. */
  runs({ pins, undoes, opaque }: Effects): void {
    if (this.#policy === "ignore") {
      for (const { cause } of pins) this.#count(cause, "ignored");
      return;
    }
    if (pins.some(({ cause }) => cause === "hidden_setting")) this.bind("hidden_setting");
    // What binds already is asked for when it may have ended; and what says so when it is done needs no question.
    const created = pins.some(({ cause }) => !this.#causes.has(cause) && !unaskable.includes(cause));
    if (created || opaque || undoes.some((cause) => this.#causes.has(cause))) this.#doubtful = true;
  }

  /** Something binds beyond doubt. */
  bind(cause: PinCause): void {
    if (this.#policy === "ignore" && cause !== "large_prepared_statement") return;
    if (this.#causes.has(cause)) return;
    this.#causes.add(cause);
    this.#count(cause, "pinned");
  }

  /** Whether something binds, as far as is known without a question. */
  binds(cause: PinCause, binds: boolean): void {
    if (binds) this.bind(cause);
    else this.#causes.delete(cause);
  }

  /** It may have ended. */
  doubt(cause: PinCause): void {
    if (this.#causes.has(cause)) this.#doubtful = true;
  }

  /** What the server said is there, of all that it can be asked for. */
  settle(found: ReadonlySet<PinCause>): void {
    this.#doubtful = false;
    for (const cause of this.#causes) if (!found.has(cause) && !unaskable.includes(cause)) this.#causes.delete(cause);
    for (const cause of found) this.bind(cause);
  }
}
