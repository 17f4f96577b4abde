// Lines of the log about clients that were refused: who, from where and why, never what was tried. Strangers can cause as many as they
// like: an address is written once a minute, with the number since, and all addresses together only so often.

import type { Clock } from "../core/clock.ts";
import type { ProxyError } from "../core/errors.ts";
import { LOGIN_LINES_MAX, ORIGINS_MAX } from "../core/limits.ts";
import type { Logger } from "../core/logger.ts";
import { printable } from "../core/printable.ts";
import { Seldom } from "../core/seldom.ts";
import { type Millis, millis } from "../core/units.ts";

const EVERY_MS = millis(60_000);
/** Log lines of whoever brings no PROXY protocol header. */
const STRANGERS_EVERY_MS = millis(10_000);

/** Who was refused. */
export interface Refused {
  readonly listener: string;
  /** With its port. */
  readonly address: string;
  /** As it said; null where it had not. */
  readonly user: string | null;
}

/** An address's lines. */
interface Lines {
  since: Millis;
  /** Not written since. */
  unwritten: number;
}

export class LoginLog {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #origins = new Map<string, Lines>();
  readonly #strangers: Seldom;
  #minute: Lines;

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
    this.#strangers = new Seldom(clock, STRANGERS_EVERY_MS);
    this.#minute = { since: clock.now(), unwritten: 0 };
  }

  /** `origin`: whose lines these are; null where each is to be written. */
  refused(who: Refused, error: ProxyError, origin: string | null): void {
    if (error.code === "proxy_header_invalid") return this.#stranger(who, error.message);
    const count = origin === null ? 1 : this.#due(origin);
    if (count === null) return;
    const { address, user } = who;
    const { code, sqlstate } = error;
    const reason = printable(error.message, 200);
    const named = user === null ? {} : { user: printable(user) };
    this.#logger.info({ address, ...named, code, sqlstate, reason, ...(count > 1 ? { count } : {}) }, "login failed");
  }

  #stranger({ listener, address }: Refused, reason: string): void {
    const count = this.#strangers.due();
    if (count !== null)
      this.#logger.warn({ listener, address, reason, count }, "connections without PROXY header closed");
  }

  /** How many there were since the last line, this one included; null: not now. */
  #due(origin: string): number | null {
    const now = this.#clock.now();
    if (now - this.#minute.since >= EVERY_MS) this.#minute = { since: now, unwritten: 0 };
    const known = this.#origins.get(origin);
    if (known !== undefined && now - known.since < EVERY_MS) {
      known.unwritten += 1;
      return null;
    }
    this.#minute.unwritten += 1;
    if (this.#minute.unwritten > LOGIN_LINES_MAX) return null;
    this.#origins.delete(origin);
    this.#origins.set(origin, { since: now, unwritten: 0 });
    const [oldest] = this.#origins.keys();
    if (this.#origins.size > ORIGINS_MAX && oldest !== undefined) this.#origins.delete(oldest);
    return (known?.unwritten ?? 0) + 1;
  }
}
