// The data plane as a whole: its listeners, its clients, one Steering per cluster. Starts, takes new settings, drains, stops.

import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { isDeepStrictEqual } from "node:util";
import type { ServerTls } from "../auth/tls-options.ts";
import { isSocketDirectory, plainAddress } from "../core/addresses.ts";
import { assert } from "../core/assert.ts";
import type { Clock, Timer } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import { keepAlive } from "../core/keepalive.ts";
import type { Logger } from "../core/logger.ts";
import type { PoolMode } from "../core/pool-mode.ts";
import { Seldom } from "../core/seldom.ts";
import { millis } from "../core/units.ts";
import type { TopologyFeed } from "../discovery/feed.ts";
import { Quotas } from "../pool/quotas.ts";
import { StatementRegistry } from "../pool/statements.ts";
import { errorResponse } from "../protocol/messages.ts";
import { SharedReading } from "../protocol/shared-reading.ts";
import { Balance } from "../routing/balance.ts";
import { SessionEffects } from "../routing/session-state.ts";
import type { ReadOptions, Route } from "../routing/target.ts";
import type { OnSessionState } from "./binding.ts";
import { CancelKeys } from "./cancel.ts";
import type { Client } from "./client.ts";
import type { StartupRules } from "./client-facts.ts";
import type { ClientIdentity } from "./client-session.ts";
import type { ClientTimeouts } from "./client-times.ts";
import { Directory, type DirectoryOptions } from "./directory.ts";
import { Door, type DoorLimits, type Visit } from "./door.ts";
import { Farewells } from "./farewells.ts";
import { Identification, type IdentificationOptions, type IdentificationTerms } from "./identification.ts";
import { Listener } from "./listener.ts";
import { LoginLog } from "./login-log.ts";
import { networkTest } from "./networks.ts";
import { originOf } from "./origin.ts";
import { Reception, type ReceptionContext, type ReceptionOwner } from "./reception.ts";
import { Seats } from "./seats.ts";
import { Steering, type SteeringOptions } from "./steering.ts";
import { Traffic } from "./traffic.ts";
import { WaitDeadlines } from "./wait-deadlines.ts";
import { noWitness, type Witness } from "./witness.ts";

export interface ListenerOptions {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly unixSocketMode: number;
  /** Whether each connection has to begin with a PROXY protocol header, and the networks whose headers are believed. */
  readonly proxyProtocol: { readonly from: readonly string[] | null } | null;
  /** Whether replication connections are passed on. */
  readonly replication: boolean;
  readonly route: Route;
  readonly poolMode: PoolMode;
  readonly onSessionState: OnSessionState;
  readonly cluster: string;
  readonly reads: ReadOptions;
}

/** What the data plane needs of the configuration. Times in ms. */
export interface DataPlaneOptions {
  readonly listeners: readonly ListenerOptions[];
  /** TLS towards the servers of each cluster. */
  readonly serverTls: ReadonlyMap<string, ServerTls>;
  readonly identification: IdentificationOptions;
  readonly directory: DirectoryOptions;
  readonly maxClientConn: number;
  readonly door: DoorLimits;
  readonly queryWaitTimeoutMs: number;
  readonly clientLoginTimeoutMs: number;
  readonly clientTimeouts: ClientTimeouts;
  /** 0: no limit. */
  readonly cancelWaitTimeoutMs: number;
  readonly maxPreparedStatements: number;
  readonly ignoreStartupParameters: readonly string[];
  readonly applicationNameAddHost: boolean;
}

/** A listener with what it counts. */
export interface ActiveListener {
  readonly options: ListenerOptions;
  readonly listener: Listener;
  readonly balance: Balance;
  readonly traffic: Traffic;
  readonly believesProxy: ReceptionContext["believesProxy"];
}

/** As often as PgBouncer looks at its timeouts. */
const SWEEP_EVERY_MS = 333;
/** Log lines that strangers can cause as they like. */
const UNACCEPTED_LOGGED_EVERY_MS = 10_000;

export class DataPlane implements ReceptionOwner {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #steerings = new Map<string, Steering>();
  readonly #listeners = new Map<string, ActiveListener>();
  readonly #receptions = new Set<Reception>();
  /** Clients by their identity's number, and the pid by which they can be cancelled. */
  readonly #clients = new Map<number, { readonly client: Client; readonly pid: number; readonly visit: Visit }>();
  readonly #cancels: CancelKeys;
  readonly #statements = new StatementRegistry();
  readonly #effects = new SessionEffects();
  readonly identification: Identification;
  readonly #sweeper: Timer;
  readonly #door: Door;
  readonly #farewells: Farewells;
  readonly #loginLog: LoginLog;
  readonly #reading = new SharedReading();
  readonly #unaccepted: Seldom;
  readonly #quotas: Quotas;
  readonly #seats: Seats;
  readonly #witnesses: (cluster: string) => Witness;
  #directory: Directory;
  /** Of clients that came under these settings. */
  #deadlines: WaitDeadlines;
  #options: DataPlaneOptions;
  #nextId = 1;
  #draining: ProxyError | null = null;
  #whenEmpty: (() => void) | null = null;

  /** `witnesses`: who hears what a change of leader does to the clients of a cluster. */
  constructor(
    clock: Clock,
    logger: Logger,
    feeds: ReadonlyMap<string, TopologyFeed>,
    options: DataPlaneOptions,
    witnesses: (cluster: string) => Witness = () => noWitness,
  ) {
    this.#clock = clock;
    this.#witnesses = witnesses;
    this.#logger = logger;
    this.#options = options;
    this.#directory = new Directory(options.directory);
    this.#deadlines = new WaitDeadlines(clock, options.queryWaitTimeoutMs);
    this.#quotas = new Quotas(clock, this.#directory);
    this.#seats = new Seats(this.#directory);
    this.identification = new Identification(clock, logger, feeds, this.#identificationTerms());
    this.#cancels = new CancelKeys(clock, randomBytes);
    this.#cancels.waitMs = options.cancelWaitTimeoutMs;
    this.#door = new Door(clock, options.door);
    this.#farewells = new Farewells(clock);
    this.#loginLog = new LoginLog(clock, logger);
    this.#unaccepted = new Seldom(clock, millis(UNACCEPTED_LOGGED_EVERY_MS));
    for (const [cluster, feed] of feeds) {
      const own = this.#steeringOptions(cluster);
      const lines = logger.child({ cluster });
      const witness = witnesses(cluster);
      this.#steerings.set(cluster, new Steering(clock, lines, this.#quotas, cluster, feed, own, witness));
    }
    this.#sweeper = clock.every(millis(SWEEP_EVERY_MS), () => this.#sweep());
  }

  /** Opens the listeners. Rejects with Node's error, all closed again, when one cannot be opened. */
  async start(): Promise<void> {
    try {
      await this.#effects.load();
      for (const options of this.#options.listeners) await this.#listen(options);
    } catch (error) {
      for (const { listener } of this.#listeners.values()) listener.close();
      throw error;
    }
  }

  get listeners(): Iterable<ActiveListener> {
    return this.#listeners.values();
  }

  get clients(): Iterable<Client> {
    return [...this.#clients.values()].map(({ client }) => client);
  }

  /** Connections that have not finished their login. */
  get loginCount(): number {
    return this.#receptions.size;
  }

  /** The same, one by one. */
  get receptions(): Iterable<Reception> {
    return this.#receptions;
  }

  get steerings(): ReadonlyMap<string, Steering> {
    return this.#steerings;
  }

  get draining(): boolean {
    return this.#draining !== null;
  }

  get maxClientConn(): number {
    return this.#options.maxClientConn;
  }

  /** Takes new settings: connections that are open stay as they are; new ones follow the new settings. */
  async reload(options: DataPlaneOptions): Promise<void> {
    this.#options = options;
    this.#deadlines = new WaitDeadlines(this.#clock, options.queryWaitTimeoutMs);
    this.#cancels.waitMs = options.cancelWaitTimeoutMs;
    this.#door.reconfigure(options.door);
    this.#directory = new Directory(options.directory);
    this.identification.reconfigure(this.#identificationTerms());
    this.#quotas.reconfigure(this.#directory);
    this.#seats.reconfigure(this.#directory);
    for (const [cluster, steering] of this.#steerings) steering.reconfigure(this.#steeringOptions(cluster));
    const wanted = new Map(options.listeners.map((listener) => [listener.name, listener]));
    for (const [name, active] of this.#listeners) {
      const next = wanted.get(name);
      if (next !== undefined && sameListener(active.options, next)) continue;
      active.listener.close();
      this.#listeners.delete(name);
    }
    for (const listener of options.listeners) if (!this.#listeners.has(listener.name)) await this.#listen(listener);
  }

  /** Takes no more clients; resolves when the last one has left, each between transactions, or after `timeoutMs`. */
  drain(timeoutMs: number): Promise<void> {
    const error = new ProxyError("shutting_down", "terminating connection due to administrator command", {
      hint: "The router is being shut down; connect again.",
    });
    this.#draining = error;
    for (const { listener } of this.#listeners.values()) listener.close();
    for (const reception of [...this.#receptions]) reception.refused(error);
    for (const client of this.clients) client.drain(error);
    if (this.#clients.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#whenEmpty = resolve;
      this.#clock.after(millis(timeoutMs), resolve);
    });
  }

  /** Ends everything at once. */
  close(): void {
    this.#sweeper.cancel();
    for (const { listener } of this.#listeners.values()) listener.close();
    for (const steering of this.#steerings.values()) steering.close();
    this.identification.close();
  }

  async #listen(options: ListenerOptions): Promise<void> {
    const balance = new Balance(options.reads);
    const traffic = new Traffic(this.#witnesses(options.cluster));
    const { proxyProtocol } = options;
    const believesProxy = proxyProtocol === null ? null : networkTest(proxyProtocol.from ?? EVERYWHERE);
    const accept = (socket: Socket): void => this.#accept(active, socket);
    const listener = new Listener(options, accept, (error) => this.#notAccepted(options.name, error));
    const active: ActiveListener = { options, listener, balance, traffic, believesProxy };
    await listener.open();
    this.#listeners.set(options.name, active);
    this.#logger.info(
      { listener: options.name, address: options.address, port: listener.port, route: options.route },
      "listening",
    );
  }

  #accept(active: ActiveListener, socket: Socket): void {
    active.traffic.clientsAccepted += 1;
    const address = isSocketDirectory(active.options.address) ? null : plainAddress(socket.remoteAddress ?? "");
    const visit = this.#door.enter(address);
    if (visit instanceof ProxyError) return this.#turnAway(active, socket, visit);
    keepAlive(socket, this.#options.directory.pool.keepAlive);
    const reception = new Reception(socket, this.#nextId++, this.#contextOf(active), this, visit);
    this.#receptions.add(reception);
    if (this.#draining !== null) reception.refused(this.#draining);
  }

  #turnAway({ options, traffic, believesProxy }: ActiveListener, socket: Socket, error: ProxyError): void {
    traffic.loginFailures += 1;
    traffic.countError(error.code);
    const address = plainAddress(socket.remoteAddress ?? "");
    this.#loginLog.refused({ listener: options.name, address, user: null }, error, originOf(address));
    // Where a header is demanded, the one who is refused is no client.
    this.#farewells.say(socket, believesProxy === null ? errorResponse(error).finish() : Buffer.alloc(0));
  }

  #notAccepted(listener: string, error: Error): void {
    const count = this.#unaccepted.due();
    if (count !== null) this.#logger.error({ listener, reason: error.message, count }, "cannot accept connections");
  }

  /** The error for a client too many. Who has not logged in yet is not counted: others would be kept out by saying nothing. */
  #admit(): ProxyError | null {
    const { maxClientConn } = this.#options;
    if (this.#door.settled < maxClientConn) return null;
    return new ProxyError("too_many_clients", "sorry, too many clients already", {
      detail: `max_client_conn is ${maxClientConn}.`,
    });
  }

  #contextOf({ options, balance, traffic, believesProxy }: ActiveListener): ReceptionContext {
    const settings = this.#options;
    const steering = this.#steerings.get(options.cluster);
    assert(steering !== undefined, `listener ${options.name} names no cluster`);
    return {
      clock: this.#clock,
      steering,
      traffic,
      cancels: this.#cancels,
      balance,
      route: options.route,
      listener: options.name,
      local: isSocketDirectory(options.address),
      believesProxy,
      login: this.identification.login(options.cluster, {
        startup: startupRules(options, settings),
        admit: () => this.#admit(),
      }),
      reading: this.#reading,
      loginTimeoutMs: settings.clientLoginTimeoutMs,
      client: {
        deadlines: this.#deadlines,
        timeouts: settings.clientTimeouts,
      },
      poolMode: options.poolMode,
      effects: this.#effects,
      onSessionState: options.onSessionState,
      directory: this.#directory,
      seats: this.#seats,
      statements: this.#statements,
      maxPreparedStatements: settings.maxPreparedStatements,
    };
  }

  #identificationTerms(): IdentificationTerms {
    const { identification, serverTls } = this.#options;
    const directory = this.#directory;
    return { options: identification, serverTls, dbnameOf: (database) => directory.dbnameOf(database) };
  }

  #steeringOptions(cluster: string): SteeringOptions {
    const tls = this.#options.serverTls.get(cluster);
    assert(tls !== undefined, `cluster ${cluster} has no TLS options`);
    return {
      credentials: this.identification.credentials(cluster),
      tls,
      random: randomBytes,
      derivations: this.identification.derivations,
      directory: this.#directory,
    };
  }

  #sweep(): void {
    const now = this.#clock.now();
    for (const { client } of this.#clients.values()) client.sweep(now);
    for (const reception of this.#receptions) reception.sweep();
    if (this.#draining !== null || this.#directory.standing.length === 0) return;
    for (const { options, balance } of this.#listeners.values()) {
      const steering = this.#steerings.get(options.cluster);
      if (options.route !== "read") steering?.standBy("primary", balance);
      if (options.route !== "write") steering?.standBy("replica", balance);
    }
  }

  // ReceptionOwner

  receptionDone(reception: Reception, client: Client, pid: number): void {
    this.#receptions.delete(reception);
    this.#clients.set(client.identity.id, { client, pid, visit: reception.visit });
    const { id, address, user, database, listener } = client.identity;
    this.#logger.debug({ client: id, address, user, database, listener }, "client logged in");
  }

  loginRefused(reception: Reception, error: ProxyError): void {
    const { origin, limited } = reception.visit;
    this.#loginLog.refused(reception, error, limited ? origin : null);
  }

  receptionFailed(reception: Reception): void {
    this.#receptions.delete(reception);
  }

  clientClosed({ id, database, user }: ClientIdentity, reason: string): void {
    const known = this.#clients.get(id);
    if (known !== undefined) {
      this.#cancels.revoke(known.pid, known.client);
      known.client.group.clients -= 1;
      this.#seats.leave(database, user);
      known.visit.leave();
    }
    this.#clients.delete(id);
    this.#logger.debug({ client: id, reason }, "client left");
    if (this.#clients.size === 0) this.#whenEmpty?.();
  }
}

const EVERYWHERE = ["0.0.0.0/0", "::/0"];

const sameListener = (a: ListenerOptions, b: ListenerOptions): boolean => isDeepStrictEqual(a, b);

function startupRules({ route, replication }: ListenerOptions, options: DataPlaneOptions): StartupRules {
  const hint =
    route === "read" ? "Connect to a port for writes: it leads to the leader." : "The setting replication is refuse.";
  return {
    ignored: new Set(options.ignoreStartupParameters.map((name) => name.toLowerCase())),
    addHost: options.applicationNameAddHost,
    replication: replication ? "allow" : { hint },
  };
}
