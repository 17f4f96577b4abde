// One connection to one etcd endpoint: a bounded linearizable read of a prefix, a watch from a revision on, and writes of single
// keys, under a lease or not. The only file that
// imports the package etcd3, and it uses that package's plain RPC stubs alone: its watch manager, its retries and its login are
// what stays dead after a compaction, skips events on a second drop and never closes the channels that it logs in on. Nothing
// here retries; any doubt ends the connection, and its owner opens another.

import { isIP } from "node:net";
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import { Channel, type ClientOptions, credentials, InterceptingCall, type Interceptor } from "@grpc/grpc-js";
import { Etcd3, type IPutRequest, type IRangeResponse, type IWatchResponse } from "etcd3";
import type { Clock } from "../core/clock.ts";
import { millis } from "../core/units.ts";
import type { KeyEntry } from "./patroni-keys.ts";

export interface EtcdTls {
  /** PEM. Null: the system's authorities. */
  readonly ca: string | null;
  /** PEM; client certificate and its key, both or neither. */
  readonly cert: string | null;
  readonly key: string | null;
}

export interface EtcdConnectionOptions {
  /** `http://host:port` or `https://host:port`. */
  readonly endpoint: string;
  readonly prefix: string;
  readonly credentials: { readonly user: string; readonly password: string } | null;
  readonly tls: EtcdTls | null;
  /** No answer to a call for longer is a failure. */
  readonly callTimeoutMs: number;
  readonly keepaliveTimeMs: number;
  readonly keepaliveTimeoutMs: number;
}

/** All keys under the prefix at one revision; names are relative to the prefix. */
export interface KeySnapshot {
  readonly revision: bigint;
  readonly clusterId: string;
  readonly keys: ReadonlyMap<string, KeyEntry>;
}

/** What happened to one key. */
export interface KeyChange {
  readonly key: string;
  readonly modRevision: bigint;
  /** Null: deleted. */
  readonly entry: KeyEntry | null;
}

/** Where a watch reports to; after `onEnd` nothing more comes. */
export interface WatchSink {
  /** etcd has accepted the watch. */
  onCreated(): void;
  /** One or more whole revisions, in order. */
  onChanges(changes: readonly KeyChange[], revision: bigint): void;
  /** All changes up to `revision` have been reported. */
  onProgress(revision: bigint): void;
  onEnd(reason: string): void;
}

/** Sets metadata on every call: the login's token, and the demand that the endpoint sees a leader of its own. */
function metadataInterceptor(token: () => string | null): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start: (metadata, listener, next) => {
        metadata.set("hasleader", "true");
        const current = token();
        if (current !== null) metadata.set("token", current);
        next(metadata, listener);
      },
    });
}

/** The first key behind all keys that start with `prefix`, as etcd wants a range's end. */
function rangeEnd(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  for (let i = end.length - 1; i >= 0; i--) {
    const byte = end[i] ?? 0xff;
    if (byte < 0xff) {
      end[i] = byte + 1;
      return end.subarray(0, i + 1);
    }
  }
  return Buffer.from([0]);
}

/** A short sentence for whatever was thrown: the same for the same failure, so without the moment that the package puts into it. */
export function describeError(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const timeless = text.replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)/g, "").replace(/\.? Resolution note: *$/, "");
  return timeless.replace(/\s+/g, " ").slice(0, 300);
}

export class EtcdConnection {
  readonly #clock: Clock;
  readonly #options: EtcdConnectionOptions;
  readonly #client: Etcd3;
  readonly #prefix: Buffer;
  readonly #rangeEnd: Buffer;
  #token: string | null = null;
  #closed = false;
  #cancelWatch: (() => void) | null = null;

  constructor(clock: Clock, options: EtcdConnectionOptions) {
    this.#clock = clock;
    this.#options = options;
    this.#prefix = Buffer.from(options.prefix);
    this.#rangeEnd = rangeEnd(this.#prefix);
    const interceptors = [metadataInterceptor(() => this.#token)];
    this.#client = new Etcd3({
      hosts: options.endpoint,
      defaultCallOptions: ({ isStream }) =>
        isStream ? { interceptors } : { interceptors, deadline: clock.wall() + options.callTimeoutMs },
      grpcOptions: {
        "grpc.keepalive_time_ms": options.keepaliveTimeMs,
        "grpc.keepalive_timeout_ms": options.keepaliveTimeoutMs,
        "grpc.keepalive_permit_without_calls": 1,
        // A pool of its own: otherwise a new connection would inherit the backoff of those before it.
        "grpc.use_local_subchannel_pool": 1,
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 1000,
        "grpc.enable_channelz": 0,
        ...secureChannel(options),
      },
    });
  }

  /** Logs in where a user is configured. Rejects when that fails. */
  async login(): Promise<void> {
    const account = this.#options.credentials;
    if (account === null) return;
    const answer = await this.#bounded(
      this.#client.auth.authenticate({ name: account.user, password: account.password }),
      "login",
    );
    this.#token = answer.token;
  }

  /** Reads the whole prefix, linearizable: proves that this endpoint answers and that its cluster has a quorum. */
  async read(): Promise<KeySnapshot> {
    const answer = await this.#bounded(
      this.#client.kv.range({ key: this.#prefix, range_end: this.#rangeEnd, serializable: false }),
      "read",
    );
    return this.#snapshot(answer);
  }

  /** Watches the prefix from `revision` on. One watch a connection. */
  async watch(revision: bigint, sink: WatchSink): Promise<void> {
    const stream = await this.#client.watchClient.watch();
    let ended = false;
    const end = (reason: string): void => {
      if (ended) return;
      ended = true;
      this.#cancelWatch = null;
      stream.cancel();
      sink.onEnd(reason);
    };
    // A cancelled call still reports its cancellation as an error: the listeners stay.
    stream.on("error", (error) => end(`watch failed: ${describeError(error)}`));
    stream.on("end", () => end("watch ended"));
    stream.on("data", (response) => {
      if (ended) return;
      if (response.canceled) end(cancelReason(response));
      else if (response.created) sink.onCreated();
      else this.#report(response, sink);
    });
    if (this.#closed) {
      end("closed");
      return;
    }
    this.#cancelWatch = () => end("closed");
    stream.write({
      create_request: {
        key: this.#prefix,
        range_end: this.#rangeEnd,
        start_revision: String(revision),
        progress_notify: true,
      },
    });
  }

  /** Grants a lease of so many seconds, or longer if etcd wants it. Its id. */
  async grant(ttlSeconds: number): Promise<string> {
    return (await this.#bounded(this.#client.leaseClient.leaseGrant({ TTL: ttlSeconds }), "lease")).ID;
  }

  /** Renews a lease. False when it has ended already. */
  async renew(lease: string): Promise<boolean> {
    const stream = await this.#client.leaseClient.leaseKeepAlive();
    try {
      const answer = new Promise<string>((resolve, reject) => {
        stream.on("error", reject);
        stream.on("end", () => reject(new Error("the renewal of a lease was not answered")));
        stream.on("data", ({ TTL }) => resolve(TTL));
      });
      stream.write({ ID: lease });
      return Number(await this.#bounded(answer, "renewal of a lease")) > 0;
    } finally {
      // A cancelled call still reports its cancellation as an error: the listeners stay.
      stream.cancel();
    }
  }

  /** Ends a lease, and with it its keys. */
  async revoke(lease: string): Promise<void> {
    await this.#bounded(this.#client.leaseClient.leaseRevoke({ ID: lease }), "revocation of a lease");
  }

  /** Writes a key of the prefix, by its relative name. A `lease` takes it along when it ends. */
  async put(key: string, value: string, lease: string | null): Promise<void> {
    await this.#bounded(this.#client.kv.put(this.#putRequest(key, value, lease)), "write");
  }

  /** Writes a key that must not be there yet. The revision; null when it is there. */
  async create(key: string, value: string, lease: string | null): Promise<bigint | null> {
    const answer = this.#client.kv.txn({
      compare: [{ key: this.#absolute(key), result: "Equal", target: "Create", create_revision: "0" }],
      success: [{ request_put: this.#putRequest(key, value, lease) }],
    });
    const { succeeded, header } = await this.#bounded(answer, "write");
    return succeeded ? BigInt(header.revision) : null;
  }

  /** Deletes a key if it is still what was written at `modRevision`. False when it is not. */
  async remove(key: string, modRevision: bigint): Promise<boolean> {
    const name = this.#absolute(key);
    const answer = this.#client.kv.txn({
      compare: [{ key: name, result: "Equal", target: "Mod", mod_revision: String(modRevision) }],
      success: [{ request_delete_range: { key: name } }],
    });
    return (await this.#bounded(answer, "write")).succeeded;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelWatch?.();
    this.#client.close();
  }

  #report(response: IWatchResponse, sink: WatchSink): void {
    const revision = BigInt(response.header.revision);
    if (response.events.length === 0) {
      sink.onProgress(revision);
      return;
    }
    const changes = response.events.map(({ type, kv }): KeyChange => {
      const modRevision = BigInt(kv.mod_revision);
      const entry =
        // The types say `Delete`, the wire says `DELETE`.
        type.toUpperCase() === "DELETE"
          ? null
          : { value: kv.value.toString("utf8"), modRevision, createRevision: BigInt(kv.create_revision) };
      return { key: this.#relative(kv.key), modRevision, entry };
    });
    sink.onChanges(changes, revision);
  }

  #snapshot(answer: IRangeResponse): KeySnapshot {
    const keys = new Map<string, KeyEntry>();
    for (const kv of answer.kvs) {
      keys.set(this.#relative(kv.key), {
        value: kv.value.toString("utf8"),
        modRevision: BigInt(kv.mod_revision),
        createRevision: BigInt(kv.create_revision),
      });
    }
    return { revision: BigInt(answer.header.revision), clusterId: answer.header.cluster_id, keys };
  }

  #putRequest(key: string, value: string, lease: string | null): IPutRequest {
    return { key: this.#absolute(key), value: Buffer.from(value), ...(lease === null ? {} : { lease }) };
  }

  #absolute(key: string): Buffer {
    return Buffer.concat([this.#prefix, Buffer.from(key)]);
  }

  #relative(key: Buffer): string {
    return key.subarray(this.#prefix.length).toString("utf8");
  }

  /** The package retries on its own and may log in again without end: our bound holds whatever it does. */
  #bounded<T>(call: Promise<T>, what: string): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = this.#clock.after(millis(this.#options.callTimeoutMs), () =>
        reject(new Error(`no answer to a ${what} in ${this.#options.callTimeoutMs} ms`)),
      );
      call.then(resolve, reject).finally(() => timer.cancel());
    });
  }
}

function cancelReason(response: IWatchResponse): string {
  if (response.compact_revision !== "0") return `watch cancelled: compacted at ${response.compact_revision}`;
  return `watch cancelled by etcd: ${response.cancel_reason || "no reason given"}`;
}

/**
 * How channels to an https endpoint are made. Not by the package: it has no way to verify a server by its address, for which TLS has
 * no server name (and Node.js refuses one), and etcd is commonly reached by address.
 */
function secureChannel({ endpoint, tls }: EtcdConnectionOptions): Partial<ClientOptions> {
  const { protocol, hostname } = new URL(endpoint);
  if (protocol !== "https:") return {};
  const address = hostname.replace(/^\[|\]$/g, "");
  const pem = (text: string | null | undefined): Buffer | null => (text ? Buffer.from(text) : null);
  const byAddress = isIP(address) !== 0;
  const verify = byAddress
    ? {
        checkServerIdentity: (_name: string, certificate: PeerCertificate) => checkServerIdentity(address, certificate),
      }
    : {};
  const secure = credentials.createSsl(pem(tls?.ca), pem(tls?.key), pem(tls?.cert), verify);
  return {
    // Something must stand in the place of the server's name; etcd has one certificate, whatever it is called.
    ...(byAddress ? { "grpc.ssl_target_name_override": "etcd" } : {}),
    channelFactoryOverride: (target, _credentials, channelOptions) => new Channel(target, secure, channelOptions),
  };
}
