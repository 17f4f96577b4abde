// TLS handshakes cost more than anything else that a stranger can ask for, and they cost it on the thread that serves everybody. So
// many a second are begun; who is beyond that waits, and origins take turns: one that asks for thousands waits for its own.

import type { Clock } from "../core/clock.ts";
import { millis } from "../core/units.ts";

/** What begins a handshake. */
type Begin = () => void;

/** Handshakes that may begin at once after a quiet time, as a part of those of a second. */
const BURST = 0.1;
const SECOND_MS = 1_000;

const nothing = (): void => {};

export class Handshakes {
  readonly #clock: Clock;
  /** By origin, whose turn is next first. */
  readonly #waiting = new Map<string, Set<Begin>>();
  #perSecond: number;
  #tokens: number;
  #at: number;
  #size = 0;
  #armed = false;

  /** `perSecond` 0: any number. */
  constructor(clock: Clock, perSecond: number) {
    this.#clock = clock;
    this.#perSecond = perSecond;
    this.#tokens = this.#burst;
    this.#at = clock.now();
  }

  resize(perSecond: number): void {
    this.#perSecond = perSecond;
    this.#serve();
  }

  /** Those that wait. */
  get size(): number {
    return this.#size;
  }

  /** Calls `begin` when it is its turn: at once, or later. Returns how to give that up. */
  ask(origin: string, begin: Begin): () => void {
    if (this.#size === 0 && this.#take()) {
      begin();
      return nothing;
    }
    const queue = this.#waiting.get(origin) ?? new Set();
    if (queue.size === 0) this.#waiting.set(origin, queue);
    queue.add(begin);
    this.#size += 1;
    this.#arm();
    return () => this.#drop(origin, begin);
  }

  get #burst(): number {
    return Math.max(1, this.#perSecond * BURST);
  }

  #take(): boolean {
    if (this.#perSecond === 0) return true;
    const now = this.#clock.now();
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#at) * this.#perSecond) / SECOND_MS);
    this.#at = now;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  #drop(origin: string, begin: Begin): void {
    const queue = this.#waiting.get(origin);
    if (queue?.delete(begin) !== true) return;
    this.#size -= 1;
    if (queue.size === 0) this.#waiting.delete(origin);
  }

  #arm(): void {
    if (this.#armed || this.#size === 0) return;
    this.#armed = true;
    const delay = this.#perSecond === 0 ? 0 : Math.ceil(SECOND_MS / this.#perSecond);
    this.#clock.after(millis(delay), () => {
      this.#armed = false;
      this.#serve();
    });
  }

  #serve(): void {
    while (this.#size > 0 && this.#take()) {
      const [next] = this.#waiting;
      if (next === undefined) break;
      const [origin, queue] = next;
      const [begin] = queue;
      if (begin === undefined) break;
      this.#drop(origin, begin);
      if (this.#waiting.delete(origin)) this.#waiting.set(origin, queue);
      begin();
    }
    this.#arm();
  }
}
