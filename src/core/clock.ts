// The only place that knows wall time and timers. Everything else is handed a Clock, so that tests own time.

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

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => millis(performance.now()),
  wall: () => Date.now(),
  after: (delay, callback) => {
    const timer = setTimeout(callback, delay);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
  every: (period, callback) => {
    const timer = setInterval(callback, period);
    timer.unref();
    return { cancel: () => clearInterval(timer) };
  },
};
