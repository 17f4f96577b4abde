// The only place that knows wall time and timers. Everything else is handed a Clock, so that tests own time.

import { performance } from "node:perf_hooks";
import { type Millis, millis } from "./units.ts";

/** Handle of a pending timer. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Monotonic time; only differences mean anything. */
  now(): Millis;
  /** Wall time in milliseconds since 1970, for logs and for people. */
  wall(): number;
  /** Runs `callback` once after `delay`. A pending timer does not keep the process alive. */
  after(delay: Millis, callback: () => void): Timer;
  /** Runs `callback` every `period` until cancelled. */
  every(period: Millis, callback: () => void): Timer;
}

/** Wall time as text: `2026-11-20T21:50:00.000Z`. */
export const isoTime = (wall: number): string => new Date(wall).toISOString();

/** A timer that is later than this was held up by other work. */
const HELD_UP_MS = 20;

/**
 * Runs `callback` after what has arrived meanwhile was read: after a pause of the whole process (a long garbage collection, a
 * machine that stood still) all deadlines are over at once, and Node calls timers before it looks at sockets. An answer that is
 * there already would count as missing. Returns how to prevent it.
 */
function afterReading(callback: () => void): () => void {
  let immediate = setImmediate(() => {
    immediate = setImmediate(callback);
  });
  return () => clearImmediate(immediate);
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => millis(performance.now()),
  wall: () => Date.now(),
  after: (delay, callback) => {
    const due = performance.now() + delay;
    let cancel = (): void => clearTimeout(timer);
    const timer = setTimeout(() => {
      if (performance.now() - due < HELD_UP_MS) callback();
      else cancel = afterReading(callback);
    }, delay);
    timer.unref();
    return { cancel: () => cancel() };
  },
  every: (period, callback) => {
    const timer = setInterval(callback, period);
    timer.unref();
    return { cancel: () => clearInterval(timer) };
  },
};
