// Cancel requests: from the key that we gave a client to the server that works for it now. Exact: what the client has running is
// hit, or nothing. A request of our own in front of its statement is waited for; a statement that still waits is taken back; a
// request that names nobody is closed without a word, so that keys cannot be guessed by asking.
//
// The pid that a client is told is that of its server where it has one from the start (session mode): then pg_backend_pid(),
// pg_stat_activity and the sender of a notification agree with it. Members number their processes independently, so the same pid
// may be told twice: keys are found by pid and secret together, and the secret is always our own. In the other modes there is no
// such server. Then the pid is a positive int4, as SQL takes it, above all that a kernel gives (Linux: 2^22), so that
// pg_terminate_backend() and the like find nobody by it, where a smaller number would be a stranger's sooner or later.

import { timingSafeEqual } from "node:crypto";
import type { Clock } from "../core/clock.ts";
import { CANCEL_RETRY_MS } from "../core/limits.ts";
import { type Millis, millis } from "../core/units.ts";
import type { Server } from "../pool/server.ts";
import { deliverCancel } from "./cancel-delivery.ts";

/** Whoever can be cancelled. */
export interface Cancellable {
  /** The server that it holds. */
  readonly server: Server | null;
  /** Cancels a statement that still waits for a server, if there is one. */
  cancelWait(): void;
  /** Reads on with what it has asked for meanwhile. */
  flushReplies(): void;
}

interface Entry {
  readonly key: Buffer;
  readonly client: Cancellable;
}

const INT4_MAX = 0x7fff_ffff;
/** No kernel numbers its processes from here on. */
const INVENTED_PID_MIN = 0x4000_0000;
/** Protocol 3.0 has room for no more. */
const KEY_BYTES_3_0 = 4;
/** From 3.2 on: as long as PostgreSQL's own, beyond guessing. */
const KEY_BYTES_3_2 = 32;

export class CancelKeys {
  /** Longest time that a request waits until it can be sent to a server, ms; 0: no limit. */
  waitMs = 0;
  readonly #clock: Clock;
  readonly #random: (bytes: number) => Buffer;
  /** By pid; several where several members gave it. */
  readonly #entries = new Map<number, readonly Entry[]>();

  constructor(clock: Clock, random: (bytes: number) => Buffer) {
    this.#clock = clock;
    this.#random = random;
  }

  /**
   * A pid and key for one client: the pid of the server that it has, or one that no process has; a key that is told nowhere else.
   * `minor` is the client's minor version of the protocol.
   */
  issue(client: Cancellable, minor = 0): { readonly pid: number; readonly key: Buffer } {
    const pid = this.#pidFor(client.server);
    const others = this.#entries.get(pid) ?? [];
    const length = minor >= 2 ? KEY_BYTES_3_2 : KEY_BYTES_3_0;
    let key = this.#random(length);
    while (find(others, key) !== undefined) key = this.#random(length);
    this.#entries.set(pid, [...others, { key, client }]);
    return { pid, key };
  }

  #pidFor(server: Server | null): number {
    // A pooler between us and PostgreSQL may give numbers that SQL does not take.
    if (server !== null && server.pid > 0 && server.pid <= INT4_MAX) return server.pid;
    let pid = 0;
    while (pid === 0 || this.#entries.has(pid)) {
      pid = INVENTED_PID_MIN + (this.#random(4).readUInt32BE(0) & (INT4_MAX - INVENTED_PID_MIN));
    }
    return pid;
  }

  /** The client is gone. */
  revoke(pid: number, client: Cancellable): void {
    const left = (this.#entries.get(pid) ?? []).filter((entry) => entry.client !== client);
    if (left.length === 0) this.#entries.delete(pid);
    else this.#entries.set(pid, left);
  }

  /** Passes a request on, if it names a client whose server has work. `done` is called when the server has taken it. */
  cancel(pid: number, key: Buffer, done: (passedOn: boolean) => void): void {
    const entry = find(this.#entries.get(pid) ?? [], key);
    if (entry === undefined) return done(false);
    this.#attempt(entry.client, this.#clock.now(), done);
  }

  #attempt(client: Cancellable, since: Millis, done: (passedOn: boolean) => void): void {
    const { server } = client;
    if (server === null) client.cancelWait();
    if (server === null || server.exchange.empty) return done(false);
    const waited = this.#clock.now() - since;
    const wanted = (): boolean => client.server === server && !server.exchange.empty && !server.exchange.atOwnQuery;
    if (wanted()) {
      const waitMs = this.waitMs === 0 ? 0 : Math.max(1, this.waitMs - waited);
      const over = (taken: boolean): void => {
        done(taken);
        // What it asks for upon the answer must not be hit: it has been held until now, with the server that it keeps.
        if (client.server === server) client.flushReplies();
      };
      return deliverCancel(this.#clock, server, { waitMs, wanted, done: over });
    }
    // Its settings are being brought about: to cancel that would leave the statement behind it with others' settings.
    if (this.waitMs > 0 && waited >= this.waitMs) return done(false);
    this.#clock.after(millis(CANCEL_RETRY_MS), () => this.#attempt(client, since, done));
  }
}

/** Compares all secrets of a pid, whichever fits, in a time that says nothing of them; their lengths are no secret. */
function find(entries: readonly Entry[], key: Buffer): Entry | undefined {
  let found: Entry | undefined;
  for (const entry of entries) {
    if (key.length === entry.key.length && timingSafeEqual(key, entry.key)) found = entry;
  }
  return found;
}
