// A command's side of the coordination keys: follows what routers announce, places the one request that there can be, keeps it alive
// under a lease where it shall end with the command, and takes it back. Loses heart, and says so, when the lease cannot be renewed.

import { AssertionFailure } from "../core/assert.ts";
import type { Clock, Timer } from "../core/clock.ts";
import { silentLogger } from "../core/logger.ts";
import { type Millis, millis } from "../core/units.ts";
import { openEtcd } from "./announcement.ts";
import {
  type Coordination,
  type CoordinationRequest,
  coordinationPrefix,
  decodeCoordination,
  REQUEST_KEY,
} from "./coordination-keys.ts";
import { describeError, type EtcdConnection } from "./etcd-connection.ts";
import { EtcdSource, type EtcdSourceOptions, type KeyState } from "./etcd-source.ts";

export interface CommandSessionOptions {
  readonly etcd: Omit<EtcdSourceOptions, "prefix">;
  /** Patroni's prefix, as `/service/main/`. */
  readonly patroniPrefix: string;
}

/** A request under a lease is gone so many seconds after its command. */
const REQUEST_TTL_SECONDS = 5;
const RENEW_EVERY_MS = 1_000;
/** By then etcd has answered, or does not. */
const FIRST_READ_MS = 5_000;

export class CommandSession {
  readonly #clock: Clock;
  readonly #options: CommandSessionOptions;
  readonly #prefix: string;
  readonly #source: EtcdSource;
  readonly #waiting = new Set<() => void>();
  #keys: KeyState | null = null;
  #coordination: Coordination = decodeCoordination(new Map());
  #connection: EtcdConnection | null = null;
  #lease: string | null = null;
  #renewal: Timer | null = null;
  #renewing = false;
  #renewedAt: Millis;
  #placed: bigint | null = null;
  #lost: string | null = null;

  constructor(clock: Clock, options: CommandSessionOptions) {
    this.#clock = clock;
    this.#options = options;
    this.#renewedAt = clock.now();
    this.#prefix = coordinationPrefix(options.patroniPrefix);
    this.#source = new EtcdSource(clock, silentLogger, { ...options.etcd, prefix: this.#prefix }, (keys) => {
      if (keys.revision > 0n && keys.keys !== this.#keys?.keys) this.#coordination = decodeCoordination(keys.keys);
      this.#keys = keys;
      this.wake();
    });
  }

  /** Null once the keys are known; otherwise why they are not. */
  async open(): Promise<string | null> {
    this.#source.start();
    const known = await this.until(() => this.#keys?.connected === true, FIRST_READ_MS);
    if (!known) return this.#keys?.reason ?? "etcd does not answer";
    this.#connection = await this.#connect();
    return this.#connection === null ? "etcd does not answer" : null;
  }

  /** As last seen. */
  get coordination(): Coordination {
    return this.#coordination;
  }

  /** Why the request can no longer be relied on; null while it can. */
  get lost(): string | null {
    return this.#lost;
  }

  /** Whether `done` was true within the time; asked at each change, and whenever somebody wakes it. */
  until(done: () => boolean, timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const finish = (result: boolean): void => {
        this.#waiting.delete(look);
        timer?.cancel();
        resolve(result);
      };
      let timer: Timer | null = null;
      const look = (): void => {
        if (done()) finish(true);
      };
      this.#waiting.add(look);
      timer = this.#clock.after(millis(timeoutMs), () => finish(done()));
      look();
    });
  }

  /** Has everybody who waits look again. */
  wake(): void {
    for (const look of [...this.#waiting]) look();
  }

  /** Places the request; `leased`: it ends with this process. False when there is one already. Rejects when etcd does not. */
  async place(request: CoordinationRequest, leased: boolean): Promise<boolean> {
    const connection = this.#required();
    if (leased) {
      this.#lease = await connection.grant(REQUEST_TTL_SECONDS);
      this.#renewedAt = this.#clock.now();
    }
    this.#placed = await connection.create(REQUEST_KEY, JSON.stringify(request), this.#lease);
    if (this.#placed === null) return false;
    if (leased) this.#renewal = this.#clock.every(millis(RENEW_EVERY_MS), () => this.#renew());
    return true;
  }

  /** What stands in etcd at this very moment, and whether our request is still there. Rejects when etcd does not answer. */
  async confirm(): Promise<{ readonly coordination: Coordination; readonly stands: boolean }> {
    const coordination = decodeCoordination((await this.#required().read()).keys);
    return { coordination, stands: this.#placed !== null && coordination.requestRevision === this.#placed };
  }

  /** Takes a request away that was seen at this revision. False when it is another one by now. Rejects when etcd does not answer. */
  async remove(revision: bigint): Promise<boolean> {
    return this.#required().remove(REQUEST_KEY, revision);
  }

  /** Takes our own request back. Why that did not work; null when it did. */
  async withdraw(): Promise<string | null> {
    this.#renewal?.cancel();
    const placed = this.#placed;
    this.#placed = null;
    if (placed === null) return null;
    try {
      await this.remove(placed);
      if (this.#lease !== null) await this.#required().revoke(this.#lease);
      return null;
    } catch (error) {
      rethrowBug(error);
      return describeError(error);
    }
  }

  close(): void {
    this.#renewal?.cancel();
    this.#source.close();
    this.#connection?.close();
  }

  #required(): EtcdConnection {
    if (this.#connection === null) throw new Error("etcd does not answer");
    return this.#connection;
  }

  /** To the first endpoint that answers. */
  async #connect(): Promise<EtcdConnection | null> {
    for (const endpoint of this.#options.etcd.endpoints) {
      const connection = openEtcd(this.#clock, this.#options.etcd, this.#prefix, endpoint);
      try {
        await connection.login();
        await connection.read();
        return connection;
      } catch (error) {
        connection.close();
        rethrowBug(error);
      }
    }
    return null;
  }

  #renew(): void {
    if (this.#renewing) return;
    this.#renewing = true;
    this.#renewOnce()
      .catch((error: unknown) => {
        rethrowBug(error);
        if (this.#clock.now() - this.#renewedAt >= REQUEST_TTL_SECONDS * 1000) this.#lose(describeError(error));
      })
      .finally(() => {
        this.#renewing = false;
      });
  }

  async #renewOnce(): Promise<void> {
    const startedAt = this.#clock.now();
    const lease = this.#lease;
    if (lease === null) return;
    try {
      if (!(await this.#required().renew(lease))) return this.#lose("its lease in etcd has ended");
      this.#renewedAt = startedAt;
    } catch (error) {
      this.#connection?.close();
      this.#connection = await this.#connect();
      throw error;
    }
  }

  #lose(reason: string): void {
    this.#lost ??= reason;
    this.#renewal?.cancel();
    this.wake();
  }
}

function rethrowBug(error: unknown): void {
  if (error instanceof AssertionFailure) throw error;
}
