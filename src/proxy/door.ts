// Who may stand at the door, and for how long: connections per address, connections that have not logged in yet, failed logins, cancel
// requests, TLS handshakes. Looked at before anything is made for a connection. A place at the door is never refused to one address
// because another one has taken them all: then the oldest of those who have most makes room.

import type { Clock } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import { HALF_OPEN_YOUNG_MS } from "../core/limits.ts";
import type { Millis } from "../core/units.ts";
import { Buckets } from "./buckets.ts";
import { Crowd } from "./crowd.ts";
import { FailedLogins, type FailureLimits } from "./failed-logins.ts";
import { Handshakes } from "./handshakes.ts";
import { LOCAL_ORIGIN, originOf } from "./origin.ts";

/** The section `limits`. 0: no limit. */
export interface DoorLimits extends FailureLimits {
  readonly maxConnectionsPerAddress: number;
  /** Never 0, as is the next. */
  readonly maxHalfOpen: number;
  readonly maxHalfOpenPerAddress: number;
  readonly tlsHandshakesPerSecond: number;
  readonly cancelsPerSecond: number;
}

/** A connection that has not logged in. */
export interface Guest {
  readonly since: Millis;
  /** Goes at once, having said why, and leaves its visit. */
  makeRoom(error: ProxyError): void;
}

/** Seconds' worth of cancel requests that may come at once: an application that gives up may have many to cancel. */
const CANCEL_BURST_S = 10;

export class Door {
  readonly #clock: Clock;
  readonly #connections = new Map<string, number>();
  readonly #crowd = new Crowd<Guest>();
  readonly #failures: FailedLogins;
  readonly #cancels: Buckets;
  readonly handshakes: Handshakes;
  #limits: DoorLimits;
  /** Connections that have logged in. */
  #settled = 0;

  constructor(clock: Clock, limits: DoorLimits) {
    this.#clock = clock;
    this.#limits = limits;
    this.#failures = new FailedLogins(clock, limits);
    this.#cancels = new Buckets(clock, limits.cancelsPerSecond * CANCEL_BURST_S, CANCEL_BURST_S * 1000);
    this.handshakes = new Handshakes(clock, limits.tlsHandshakesPerSecond);
  }

  /** Takes new limits; who is in stays. */
  reconfigure(limits: DoorLimits): void {
    this.#limits = limits;
    this.#failures.reconfigure(limits);
    this.#cancels.resize(limits.cancelsPerSecond * CANCEL_BURST_S);
    this.handshakes.resize(limits.tlsHandshakesPerSecond);
  }

  /** Connections that have logged in and are still there. */
  get settled(): number {
    return this.#settled;
  }

  /** Connections that have not logged in, those included that are refused and have not closed their side yet. */
  get halfOpen(): number {
    return this.#crowd.size;
  }

  /** Lets one in from `address`, null over a Unix-domain socket; or says why not. */
  enter(address: string | null): Visit | ProxyError {
    const limited = address !== null && this.#failures.limited(address);
    const origin = address === null ? LOCAL_ORIGIN : originOf(address);
    if (limited) {
      if (this.#failures.blocked(address)) return tooManyFailures();
      const most = this.#limits.maxConnectionsPerAddress;
      if (most > 0 && (this.#connections.get(origin) ?? 0) >= most) return tooManyFromAddress();
    }
    const full = this.#makeRoom(origin);
    if (full !== null) return full;
    this.#connections.set(origin, (this.#connections.get(origin) ?? 0) + 1);
    return new Visit(this, origin, limited ? address : null);
  }

  /** The error for one from `origin`, where nobody has to make room for it. */
  #makeRoom(origin: string): ProxyError | null {
    const { maxHalfOpen, maxHalfOpenPerAddress } = this.#limits;
    const ownFull = this.#crowd.countOf(origin) >= maxHalfOpenPerAddress;
    if (!ownFull && this.#crowd.size < maxHalfOpen) return null;
    const largest = ownFull ? origin : (this.#crowd.largest ?? origin);
    const eldest = this.#crowd.eldest(largest);
    // Many clients of one address that come at once must not throw each other out: then the last has to come again.
    if (eldest === null || (largest === origin && this.#clock.now() - eldest.since < HALF_OPEN_YOUNG_MS)) {
      return tooManyLogins();
    }
    eldest.makeRoom(tooManyLogins());
    this.#crowd.leave(largest, eldest);
    return null;
  }

  // For Visit.

  stand(origin: string, guest: Guest): void {
    this.#crowd.enter(origin, guest);
  }

  sit(origin: string, guest: Guest): void {
    this.#crowd.leave(origin, guest);
    this.#settled += 1;
  }

  left(origin: string, guest: Guest | null, settled: boolean): void {
    if (settled) this.#settled -= 1;
    else if (guest !== null) this.#crowd.leave(origin, guest);
    const left = (this.#connections.get(origin) ?? 0) - 1;
    if (left > 0) this.#connections.set(origin, left);
    else this.#connections.delete(origin);
  }

  /** Counts a failed login. Returns how long its answer has to wait. */
  failed(address: string | null): Millis {
    return this.#failures.failed(address);
  }

  mayCancel(origin: string): boolean {
    if (this.#cancels.full(origin)) return false;
    this.#cancels.add(origin);
    return true;
  }
}

/** One connection, as the door knows it, from its first moment to its end. */
export class Visit {
  readonly #door: Door;
  #origin: string;
  /** Null where the limits per address do not apply. */
  #address: string | null;
  #guest: Guest | null = null;
  #state: "standing" | "settled" | "gone" = "standing";

  constructor(door: Door, origin: string, address: string | null) {
    this.#door = door;
    this.#origin = origin;
    this.#address = address;
  }

  get origin(): string {
    return this.#origin;
  }

  /** Whether the limits per address apply to it. */
  get limited(): boolean {
    return this.#address !== null;
  }

  /** From now on `guest` may be asked to make room. */
  begin(guest: Guest): void {
    this.#guest = guest;
    this.#door.stand(this.#origin, guest);
  }

  /** It comes from elsewhere than it seemed: what its PROXY protocol header says. The error where nobody from there is let in. */
  move(address: string): ProxyError | null {
    const guest = this.#guest;
    this.#door.left(this.#origin, guest, false);
    this.#state = "gone";
    const visit = this.#door.enter(address);
    if (visit instanceof ProxyError) return visit;
    this.#state = "standing";
    this.#origin = visit.#origin;
    this.#address = visit.#address;
    if (guest !== null) this.begin(guest);
    return null;
  }

  /** It has logged in. */
  settle(): void {
    if (this.#state !== "standing" || this.#guest === null) return;
    this.#state = "settled";
    this.#door.sit(this.#origin, this.#guest);
  }

  get settled(): boolean {
    return this.#state === "settled";
  }

  /** It has failed to prove who it is. Returns how long the answer has to wait. */
  failed(): Millis {
    return this.#door.failed(this.#address);
  }

  /** Whether it may send one more cancel request: keys that are guessed are guessed from anywhere. */
  mayCancel(): boolean {
    return this.#door.mayCancel(this.#origin);
  }

  /** Calls `begin` when its TLS handshake may begin. Returns how to give that up. */
  handshake(begin: () => void): () => void {
    return this.#door.handshakes.ask(this.#origin, begin);
  }

  /** The connection is gone. */
  leave(): void {
    if (this.#state === "gone") return;
    const settled = this.#state === "settled";
    this.#state = "gone";
    this.#door.left(this.#origin, this.#guest, settled);
  }
}

// No numbers in these: who is refused here has not said who it is.

const tooManyFailures = (): ProxyError =>
  new ProxyError("too_many_failures", "too many failed logins from this address", { hint: "Try again in a minute." });

const tooManyFromAddress = (): ProxyError =>
  new ProxyError("too_many_from_address", "sorry, too many connections from this address already");

const tooManyLogins = (): ProxyError =>
  new ProxyError("too_many_logins", "sorry, too many connections are logging in already", { hint: "Try again." });
