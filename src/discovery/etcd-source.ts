// Follows one prefix in etcd: reads it at a revision, watches from the next one on, and on any doubt (error, cancellation,
// compaction, silence) drops the connection, tries the next endpoint and reads everything again. A read every
// `proofOfLifeMs` proves that the endpoint answers and has a quorum; because it brings the whole prefix, it also mends what a watch that
// died silently would have hidden. Yields whole states, synchronously with what arrives.

import { AssertionFailure } from "../core/assert.ts";
import { Backoff } from "../core/backoff.ts";
import type { Clock, Timer } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { type Millis, millis } from "../core/units.ts";
import {
  describeError,
  EtcdConnection,
  type EtcdTls,
  type KeyChange,
  type KeySnapshot,
  type WatchSink,
} from "./etcd-connection.ts";
import type { KeyEntry } from "./patroni-keys.ts";

export interface EtcdSourceOptions {
  /** `http://host:port` or `https://host:port`, tried in turn. */
  readonly endpoints: readonly string[];
  /** Prefix of the scope's keys, with its final slash: `/service/main/`. */
  readonly prefix: string;
  readonly credentials: { readonly user: string; readonly password: string } | null;
  readonly tls: EtcdTls | null;
  /** A call or a new watch without an answer for longer means that the endpoint is gone. Default 1500. */
  readonly callTimeoutMs?: number;
  /** How often a linearizable read proves that etcd lives. Default 1000. */
  readonly proofOfLifeMs?: number;
  /** HTTP/2 keepalive; default 6000 and 2000. */
  readonly keepaliveTimeMs?: number;
  readonly keepaliveTimeoutMs?: number;
}

/** Everything under the prefix, and how sure of it we are. */
export interface KeyState {
  /** By name relative to the prefix. Empty before the first read. */
  readonly keys: ReadonlyMap<string, KeyEntry>;
  /** Revision of the store that `keys` shows; 0n before the first read. */
  readonly revision: bigint;
  readonly connected: boolean;
  /** When etcd last proved to be alive. */
  readonly confirmedAt: Millis;
  /** Why it is not connected; empty when it is. */
  readonly reason: string;
}

/** Runs synchronously at each change. */
export type KeyStateSink = (state: KeyState) => void;

const DEFAULT_CALL_TIMEOUT_MS = 1500;
const DEFAULT_PROOF_OF_LIFE_MS = 1000;
/** More often than every 5 s, etcd takes it for an attack (its --grpc-keepalive-min-time) and ends a watch that had nothing to say. */
const DEFAULT_KEEPALIVE_TIME_MS = 6000;
const DEFAULT_KEEPALIVE_TIMEOUT_MS = 2000;

export class EtcdSource {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #options: EtcdSourceOptions;
  readonly #sink: KeyStateSink;
  readonly #backoff = new Backoff({ initialMs: 100, maxMs: 1000 });
  #state: KeyState;
  #clusterId = "";
  #endpointIndex = 0;
  #connection: EtcdConnection | null = null;
  /** Pending retry or proof of life, or the wait for a new watch to be accepted. */
  #timer: Timer | null = null;
  /** Highest revision up to which the watch has reported. */
  #watchedRevision = 0n;
  /** Where the watch stood when a proof of life showed something that the watch had not. */
  #owedSince: bigint | null = null;
  #running = false;

  constructor(clock: Clock, logger: Logger, options: EtcdSourceOptions, sink: KeyStateSink) {
    this.#clock = clock;
    this.#logger = logger;
    this.#options = options;
    this.#sink = sink;
    this.#state = {
      keys: new Map(),
      revision: 0n,
      connected: false,
      confirmedAt: clock.now(),
      reason: "etcd has not answered yet",
    };
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#connect();
  }

  close(): void {
    this.#running = false;
    this.#drop();
  }

  #connect(): void {
    const { endpoints } = this.#options;
    const endpoint = endpoints[this.#endpointIndex % endpoints.length] ?? "";
    let connection: EtcdConnection;
    try {
      connection = this.#open(endpoint);
    } catch (error) {
      this.#lost(null, endpoint, describeError(error));
      return;
    }
    this.#connection = connection;
    this.#establish(connection, endpoint).catch((error: unknown) => {
      rethrowBug(error);
      this.#lost(connection, endpoint, describeError(error));
    });
  }

  #open(endpoint: string): EtcdConnection {
    const options = this.#options;
    return new EtcdConnection(this.#clock, {
      endpoint,
      prefix: options.prefix,
      credentials: options.credentials,
      tls: options.tls,
      callTimeoutMs: options.callTimeoutMs ?? DEFAULT_CALL_TIMEOUT_MS,
      keepaliveTimeMs: options.keepaliveTimeMs ?? DEFAULT_KEEPALIVE_TIME_MS,
      keepaliveTimeoutMs: options.keepaliveTimeoutMs ?? DEFAULT_KEEPALIVE_TIMEOUT_MS,
    });
  }

  async #establish(connection: EtcdConnection, endpoint: string): Promise<void> {
    await connection.login();
    const snapshot = await connection.read();
    if (this.#connection !== connection) return;
    // What was read is shown at once, but only an accepted watch makes it connected.
    this.#watchedRevision = snapshot.revision;
    this.#owedSince = null;
    this.#adopt(snapshot, this.#state.connected, this.#state.reason || "the watch is not yet accepted");
    const timeoutMs = this.#options.callTimeoutMs ?? DEFAULT_CALL_TIMEOUT_MS;
    this.#timer = this.#clock.after(millis(timeoutMs), () =>
      this.#lost(connection, endpoint, `watch not accepted in ${timeoutMs} ms`),
    );
    await connection.watch(snapshot.revision + 1n, this.#watchSink(connection, endpoint));
  }

  #watchSink(connection: EtcdConnection, endpoint: string): WatchSink {
    const current = (): boolean => this.#connection === connection;
    return {
      onCreated: () => {
        if (!current()) return;
        this.#backoff.reset();
        this.#logger.info({ endpoint }, "etcd is being watched");
        this.#publish({ ...this.#state, connected: true, confirmedAt: this.#clock.now(), reason: "" });
        this.#scheduleProof(connection, endpoint);
      },
      onChanges: (changes, revision) => {
        if (current()) this.#apply(changes, revision);
      },
      onProgress: (revision) => {
        if (!current()) return;
        this.#watchedRevision = maxRevision(this.#watchedRevision, revision);
        this.#publish({ ...this.#state, confirmedAt: this.#clock.now() });
      },
      onEnd: (reason) => this.#lost(connection, endpoint, reason),
    };
  }

  #apply(changes: readonly KeyChange[], revision: bigint): void {
    this.#watchedRevision = maxRevision(this.#watchedRevision, revision);
    const keys = new Map(this.#state.keys);
    let newest = this.#state.revision;
    for (const { key, modRevision, entry } of changes) {
      // A proof of life may have shown this revision already.
      if (modRevision <= this.#state.revision) continue;
      newest = maxRevision(newest, modRevision);
      if (entry === null) keys.delete(key);
      else keys.set(key, entry);
    }
    this.#publish({ ...this.#state, keys, revision: newest, confirmedAt: this.#clock.now() });
  }

  #adopt(snapshot: KeySnapshot, connected: boolean, reason: string): void {
    if (this.#clusterId !== "" && snapshot.clusterId !== this.#clusterId) {
      this.#logger.warn({ before: this.#clusterId, now: snapshot.clusterId }, "etcd is another cluster than before");
    } else if (snapshot.revision < this.#state.revision) {
      const revisions = { before: String(this.#state.revision), now: String(snapshot.revision) };
      this.#logger.warn(revisions, "etcd went back to an older revision");
    }
    this.#clusterId = snapshot.clusterId;
    const confirmedAt = this.#clock.now();
    this.#publish({ keys: snapshot.keys, revision: snapshot.revision, connected, confirmedAt, reason });
  }

  #scheduleProof(connection: EtcdConnection, endpoint: string): void {
    this.#timer?.cancel();
    this.#timer = this.#clock.after(millis(this.#options.proofOfLifeMs ?? DEFAULT_PROOF_OF_LIFE_MS), () => {
      this.#prove(connection, endpoint).catch((error: unknown) => {
        rethrowBug(error);
        this.#lost(connection, endpoint, `no proof of life: ${describeError(error)}`);
      });
    });
  }

  async #prove(connection: EtcdConnection, endpoint: string): Promise<void> {
    const snapshot = await connection.read();
    if (this.#connection !== connection) return;
    if (this.#owedSince === this.#watchedRevision) {
      this.#lost(connection, endpoint, `the watch is silent since revision ${this.#watchedRevision}`);
      return;
    }
    this.#owedSince = null;
    if (snapshot.clusterId !== this.#clusterId) {
      this.#lost(connection, endpoint, "etcd is another cluster than before");
      return;
    }
    const later = snapshot.revision > this.#state.revision;
    const gone = snapshot.keys.size !== this.#state.keys.size;
    if (later && (gone || newestRevision(snapshot) > this.#state.revision)) {
      // The read was quicker than the watch, which owes us these events until the next proof.
      this.#owedSince = this.#watchedRevision;
      this.#adopt(snapshot, true, "");
    } else {
      this.#publish({ ...this.#state, confirmedAt: this.#clock.now() });
    }
    this.#scheduleProof(connection, endpoint);
  }

  #lost(connection: EtcdConnection | null, endpoint: string, reason: string): void {
    if (!this.#running || this.#connection !== connection) return;
    this.#drop();
    this.#endpointIndex += 1;
    const wasConnected = this.#state.connected;
    const line = `etcd at ${endpoint}: ${reason}`;
    if (wasConnected) this.#logger.warn({ endpoint, reason }, "lost etcd");
    else this.#logger.debug({ endpoint, reason }, "etcd cannot be watched");
    // One quick attempt at each other endpoint before the first pause.
    const untried = this.#endpointIndex % this.#options.endpoints.length !== 0;
    const delay = untried && !wasConnected ? millis(10) : this.#backoff.next();
    this.#timer = this.#clock.after(delay, () => this.#connect());
    this.#publish({ ...this.#state, connected: false, reason: line });
  }

  #drop(): void {
    this.#timer?.cancel();
    this.#timer = null;
    const connection = this.#connection;
    this.#connection = null;
    connection?.close();
  }

  #publish(state: KeyState): void {
    this.#state = state;
    if (this.#running) this.#sink(state);
  }
}

/** The sink runs our own code: a failed assertion there is not a failure of etcd. */
function rethrowBug(error: unknown): void {
  if (error instanceof AssertionFailure) throw error;
}

function maxRevision(one: bigint, other: bigint): bigint {
  return one > other ? one : other;
}

function newestRevision(snapshot: KeySnapshot): bigint {
  let newest = 0n;
  for (const { modRevision } of snapshot.keys.values()) newest = maxRevision(newest, modRevision);
  return newest;
}
