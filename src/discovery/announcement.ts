// One key in etcd that says what this process is and does, for as long as it lives: written under a lease that is kept alive,
// written again whenever it changes, and announced anew after etcd was away. Never in anybody's way: it says what it is told as soon
// as it can.

import { AssertionFailure } from "../core/assert.ts";
import { Backoff } from "../core/backoff.ts";
import type { Clock, Timer } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { millis } from "../core/units.ts";
import { describeError, EtcdConnection } from "./etcd-connection.ts";
import type { EtcdSourceOptions } from "./etcd-source.ts";

export interface AnnouncementOptions {
  readonly etcd: Omit<EtcdSourceOptions, "prefix">;
  readonly prefix: string;
  /** Relative to the prefix. */
  readonly key: string;
  /** After so many seconds without us the key is gone. */
  readonly ttlSeconds: number;
}

const CALL_TIMEOUT_MS = 1500;
/** Renewals prove more often that the other side lives; etcd ends connections that ping more often than every five seconds. */
const KEEPALIVE_TIME_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 2000;

/** Between two attempts at what etcd has refused: each login costs it a password check. */
const REFUSED_PAUSE_MS = 30_000;

/** Whether etcd answered that we may not. */
export const isRefusal = (reason: string): boolean => /permission denied/i.test(reason);

/** A connection to one endpoint, as writers need it. */
export function openEtcd(
  clock: Clock,
  etcd: Omit<EtcdSourceOptions, "prefix">,
  prefix: string,
  endpoint: string,
): EtcdConnection {
  return new EtcdConnection(clock, {
    endpoint,
    prefix,
    credentials: etcd.credentials,
    tls: etcd.tls,
    callTimeoutMs: etcd.callTimeoutMs ?? CALL_TIMEOUT_MS,
    keepaliveTimeMs: etcd.keepaliveTimeMs ?? KEEPALIVE_TIME_MS,
    keepaliveTimeoutMs: etcd.keepaliveTimeoutMs ?? KEEPALIVE_TIMEOUT_MS,
  });
}

export class Announcement {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #options: AnnouncementOptions;
  readonly #backoff = new Backoff({ initialMs: 100, maxMs: 2000 });
  #value: string;
  #running = false;
  #complained = false;
  /** Whether the key is there: before it is, what it shall say brings no attempt forward. */
  #announcedNow = false;
  #loop: Promise<void> = Promise.resolve();
  /** Ends the pause that the loop is in. */
  #wake: (() => void) | null = null;

  constructor(clock: Clock, logger: Logger, options: AnnouncementOptions, value: string) {
    this.#clock = clock;
    this.#logger = logger;
    this.#options = options;
    this.#value = value;
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#loop = this.#run();
  }

  /** What the key shall say from now on. */
  say(value: string): void {
    if (value === this.#value) return;
    this.#value = value;
    if (this.#announcedNow) this.#wake?.();
  }

  /** Takes the key away, where etcd answers. */
  async close(): Promise<void> {
    this.#running = false;
    this.#wake?.();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { endpoints } = this.#options.etcd;
    for (let attempt = 0; this.#running; attempt += 1) {
      const endpoint = endpoints[attempt % endpoints.length] ?? "";
      try {
        await this.#announceAt(endpoint);
      } catch (error) {
        if (error instanceof AssertionFailure) throw error;
        const reason = describeError(error);
        this.#complain(endpoint, reason);
        await this.#pause(isRefusal(reason) ? REFUSED_PAUSE_MS : this.#backoff.next());
      }
    }
  }

  /** Once for each time that it stops working. */
  #complain(endpoint: string, reason: string): void {
    const level = this.#complained ? "debug" : "warn";
    this.#complained = true;
    this.#logger[level](
      { endpoint, reason },
      "this router cannot announce itself in etcd: pgsteer switchover and pause do not see it",
    );
  }

  /** Until it is closed; rejects when something fails. */
  async #announceAt(endpoint: string): Promise<void> {
    const { etcd, prefix, key, ttlSeconds } = this.#options;
    const connection = openEtcd(this.#clock, etcd, prefix, endpoint);
    try {
      await connection.login();
      const lease = await connection.grant(ttlSeconds);
      let renewedAt = this.#clock.now();
      let said: string | null = null;
      while (this.#running) {
        const dueInMs = renewedAt + (ttlSeconds * 1000) / 3 - this.#clock.now();
        if (said !== this.#value) {
          const value: string = this.#value;
          await connection.put(key, value, lease);
          if (said === null) this.#announced(endpoint);
          said = value;
        } else if (dueInMs <= 0) {
          if (!(await connection.renew(lease))) throw new Error("the lease has ended");
          renewedAt = this.#clock.now();
        } else await this.#pause(dueInMs);
      }
      await connection.revoke(lease);
    } finally {
      this.#announcedNow = false;
      connection.close();
    }
  }

  #announced(endpoint: string): void {
    this.#backoff.reset();
    this.#complained = false;
    this.#announcedNow = true;
    this.#logger.debug({ endpoint }, "announced in etcd");
  }

  /** Until the time is over, or there is something to say, or to end. */
  #pause(ms: number): Promise<void> {
    if (!this.#running) return Promise.resolve();
    return new Promise((resolve) => {
      const timer: Timer = this.#clock.after(millis(ms), () => wake());
      const wake = (): void => {
        timer.cancel();
        this.#wake = null;
        resolve();
      };
      this.#wake = wake;
    });
  }
}
