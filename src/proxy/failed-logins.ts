// Failed logins by where they come from: the first few are answered at once, as typing errors are, the next ones later and later; beyond
// the limit nobody from there is heard for a while. A success changes nothing: whoever has an account of his own could go on guessing.

import type { Clock } from "../core/clock.ts";
import { FAILURE_DELAY_MS_MAX } from "../core/limits.ts";
import { type Millis, millis } from "../core/units.ts";
import { Buckets } from "./buckets.ts";
import { networkTest } from "./networks.ts";
import { originOf } from "./origin.ts";

export interface FailureLimits {
  /** 0: any number. */
  readonly authFailuresPerMinute: number;
  /** Networks of which nothing is counted. */
  readonly unlimitedNetworks: readonly string[];
}

const MINUTE_MS = 60_000;
const FREE = 3;
/** The first delay; each further failure doubles it. */
const DELAY_MS = 100;

export class FailedLogins {
  readonly #buckets: Buckets;
  #unlimited: (address: string) => boolean;

  constructor(clock: Clock, limits: FailureLimits) {
    this.#buckets = new Buckets(clock, limits.authFailuresPerMinute, MINUTE_MS);
    this.#unlimited = networkTest(limits.unlimitedNetworks);
  }

  reconfigure(limits: FailureLimits): void {
    this.#buckets.resize(limits.authFailuresPerMinute);
    this.#unlimited = networkTest(limits.unlimitedNetworks);
  }

  /** Whether limits hold for this address. */
  limited(address: string): boolean {
    return !this.#unlimited(address);
  }

  blocked(address: string): boolean {
    return this.limited(address) && this.#buckets.full(originOf(address));
  }

  /** Counts one. Returns how long its answer has to wait. `address` null: it counts for nobody. */
  failed(address: string | null): Millis {
    if (address === null || !this.limited(address)) return millis(0);
    const beyond = this.#buckets.add(originOf(address)) - FREE;
    return millis(beyond <= 0 ? 0 : Math.min(DELAY_MS * 2 ** Math.floor(beyond), FAILURE_DELAY_MS_MAX));
  }
}
