// From an accepted socket to a client that can work: login, within its time, then the welcome. Owns the connection until then.

import type { Socket } from "node:net";
import { formatAddress, hostOf, plainAddress } from "../core/addresses.ts";
import type { Clock, Timer } from "../core/clock.ts";
import { type ErrorCode, ProxyError } from "../core/errors.ts";
import type { PoolMode } from "../core/pool-mode.ts";
import { type Millis, millis } from "../core/units.ts";
import { SettingsSet } from "../pool/settings.ts";
import type { StatementRegistry } from "../pool/statements.ts";
import { TransactionStatus } from "../protocol/constants.ts";
import { backendKeyData, errorResponse, parameterStatus, readyForQuery } from "../protocol/messages.ts";
import { Receiver, type SharedReading } from "../protocol/shared-reading.ts";
import { Transport, type TransportSink } from "../protocol/transport.ts";
import { MessageWriter } from "../protocol/writer.ts";
import type { Balance } from "../routing/balance.ts";
import { sessionTarget } from "../routing/intent.ts";
import type { SessionEffects } from "../routing/session-state.ts";
import type { Route } from "../routing/target.ts";
import { Antechamber } from "./antechamber.ts";
import type { OnSessionState } from "./binding.ts";
import type { CancelKeys } from "./cancel.ts";
import { Client } from "./client.ts";
import type { ClientFacts } from "./client-facts.ts";
import { ClientLogin, type ClientLoginOptions, type ClientLoginSink } from "./client-login.ts";
import type { ClientContext, ClientOwner, ClientSession, Lease } from "./client-session.ts";
import type { Directory } from "./directory.ts";
import type { Guest, Visit } from "./door.ts";
import type { Greeting, Group } from "./group.ts";
import { type PreambleSink, ProxyPreamble } from "./proxy-preamble.ts";
import { dedicatedTo, replicationSession } from "./replication.ts";
import type { Seats } from "./seats.ts";
import { Session, type SessionOptions } from "./session.ts";
import type { Steering } from "./steering.ts";
import type { Traffic } from "./traffic.ts";
import { Welcome } from "./welcome.ts";

/** What a listener gives to each of its clients. */
export interface ReceptionContext {
  readonly clock: Clock;
  readonly steering: Steering;
  readonly traffic: Traffic;
  readonly cancels: CancelKeys;
  readonly balance: Balance;
  readonly route: Route;
  readonly listener: string;
  /** Whether its clients come over a Unix-domain socket. */
  readonly local: boolean;
  /** Where each connection has to begin with a PROXY protocol header: whether one from this address is believed. */
  readonly believesProxy: ((address: string) => boolean) | null;
  readonly login: ClientLoginOptions;
  readonly reading: SharedReading;
  readonly loginTimeoutMs: number;
  /** All clients' prepared statements, and how many of them a server keeps; 0: they do not follow clients. */
  readonly statements: StatementRegistry;
  readonly maxPreparedStatements: number;
  readonly poolMode: PoolMode;
  readonly effects: SessionEffects;
  readonly onSessionState: OnSessionState;
  readonly directory: Directory;
  readonly seats: Seats;
  readonly client: Pick<ClientContext, "deadlines" | "timeouts">;
}

export interface ReceptionOwner extends ClientOwner {
  /** The connection is refused, and is about to be told. */
  loginRefused(reception: Reception, error: ProxyError): void;
  /** The connection has become a client. `revoke` takes its cancel key back. */
  receptionDone(reception: Reception, client: Client, pid: number): void;
  /** The connection is gone, or going, before it became one. */
  receptionFailed(reception: Reception): void;
}

/** Errors of who could not prove who it is. */
const failures: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "password_failed",
  "password_unconfirmed",
  "invalid_authorization",
]);

export class Reception implements ClientLoginSink, PreambleSink, Guest {
  readonly #context: ReceptionContext;
  readonly #owner: ReceptionOwner;
  readonly #id: number;
  readonly visit: Visit;
  readonly since: Millis;
  #address: string;
  readonly #transport: Transport;
  #login: ClientLogin | null = null;
  readonly #deadline: Timer;
  #welcome: Welcome | null = null;
  /** Gives back what the login has taken; null where it has taken nothing. */
  #leaveSeat: (() => void) | null = null;
  #antechamber: Antechamber | null = null;
  /** A failure that is answered later. */
  #delay: Timer | null = null;
  #over = false;

  constructor(socket: Socket, id: number, context: ReceptionContext, owner: ReceptionOwner, visit: Visit) {
    this.visit = visit;
    this.since = context.clock.now();
    visit.begin(this);
    this.#context = context;
    this.#owner = owner;
    this.#id = id;
    // A peer that is gone already has no address any more.
    const peer = plainAddress(socket.remoteAddress ?? "");
    const remote = peer === "" ? "" : formatAddress(peer, socket.remotePort ?? 0);
    this.#address = context.local ? "unix" : remote;
    // The login needs the transport, and the transport somebody to talk to: nobody, for this one line.
    const receiver = new Receiver();
    this.#transport = new Transport(context.reading.take(socket, receiver), nobody, receiver);
    const { believesProxy } = context;
    if (believesProxy === null) this.#greet();
    else this.#transport.attach(new ProxyPreamble(believesProxy(peer), this));
    this.#deadline = context.clock.after(millis(context.loginTimeoutMs), () =>
      this.refused(new ProxyError("login_timeout", "canceling authentication due to timeout")),
    );
  }

  get address(): string {
    return this.#address;
  }

  /** As it said; null where it has not yet. */
  get user(): string | null {
    return this.#login?.user ?? null;
  }

  get listener(): string {
    return this.#context.listener;
  }

  #greet(): void {
    const { local } = this.#context;
    const peer = { address: this.#address, ip: local ? null : hostOf(this.#address), local };
    this.#login = new ClientLogin(this.#transport, peer, this.#context.login, this);
    this.#transport.attach(this.#login);
  }

  introduced(address: string | null, rest: Buffer): void {
    if (this.#over) return;
    const refusal = address === null ? null : this.visit.move(hostOf(address));
    if (address !== null) this.#address = address;
    if (refusal !== null) return this.makeRoom(refusal);
    this.#greet();
    if (rest.length > 0) this.#transport.deliver(rest, 0, rest.length);
  }

  notIntroduced(reason: string): void {
    if (this.#over) return;
    const gone = this.#address === "";
    this.#finish(gone ? null : new ProxyError("proxy_header_invalid", `invalid PROXY protocol header: ${reason}`));
    this.#transport.destroy();
  }

  /** Looks whether one that waits is still there. */
  sweep(): void {
    this.#antechamber?.knock();
  }

  /** Ends it with an error; later, where it is one of many failures. */
  refused(error: ProxyError): void {
    if (this.#over) return;
    const delay = failures.has(error.code) ? this.visit.failed() : 0;
    if (delay === 0) return this.#sayAndGo(error);
    this.#note(error);
    this.#deadline.cancel();
    this.#delay = this.#context.clock.after(millis(delay), () => this.#sayAndGo(error));
  }

  #sayAndGo(error: ProxyError): void {
    const message = errorResponse(error).finish();
    this.#finish(this.#delay === null ? error : null);
    this.#transport.say(message);
    this.#transport.hangUp(this.#context.clock);
  }

  makeRoom(error: ProxyError): void {
    if (!this.#over) {
      this.#transport.say(errorResponse(error).finish());
      this.#finish(this.#delay === null ? error : null);
    }
    this.#transport.destroy();
  }

  unsecured(error: ProxyError): void {
    if (this.#over) return;
    this.#finish(error);
    this.#transport.destroy();
  }

  authenticated(facts: ClientFacts, farewell: MessageWriter, rest: Buffer): void {
    // It goes out with what follows at once, where that is known.
    const final = farewell.finish();
    this.#transport.add(final, 0, final.length);
    // Whatever comes early, its end included, is for the client to read.
    this.#antechamber = new Antechamber(this.#transport, rest, () => this.closed());
    const { clock, balance, route, client, steering, login } = this.#context;
    // Others may have come in while it proved who it is.
    const full = login.admit();
    if (full !== null) return this.refused(full);
    this.visit.settle();
    const group = this.#seat(facts);
    if (group instanceof ProxyError) return this.refused(group);
    const options = this.#sessionOptions(facts);
    const session =
      facts.replication === null
        ? {
            group,
            balance,
            session: new Session(SettingsSet.of(facts.settings), options),
            target: sessionTarget(route, facts.settings),
          }
        : { group, balance, session: replicationSession(options), target: "primary" as const };
    this.#welcome = new Welcome(clock, steering, session, client.deadlines.waitMs, {
      welcome: (greeting, lease) => this.#become(facts, session, greeting, lease),
      refused: (error) => this.refused(error),
    });
    this.#deadline.cancel();
    this.#welcome.begin();
    this.#transport.flush();
  }

  /** Who has logged in shares in a group, and takes a seat; or there is no such database, or no seat is left. */
  #seat(facts: ClientFacts): Group | ProxyError {
    const { database, user } = facts;
    const { directory, seats, steering } = this.#context;
    const place = directory.place(database, user);
    if (place instanceof ProxyError) return place;
    const full = seats.take(database, user);
    if (full !== null) return full;
    const dedicated = dedicatedTo(this.#id, facts);
    const group = dedicated === null ? steering.group(place) : steering.dedicatedGroup(place, dedicated);
    group.clients += 1;
    this.#leaveSeat = () => {
      group.clients -= 1;
      seats.leave(database, user);
    };
    return group;
  }

  #sessionOptions({ database, user }: ClientFacts): SessionOptions {
    const { directory, traffic } = this.#context;
    const poolMode = directory.poolMode(database, user, this.#context.poolMode);
    return { ...this.#context, poolMode, count: (cause, outcome) => traffic.countSessionState(cause, outcome) };
  }

  cancelRequested(pid: number, key: Buffer): void {
    this.#context.traffic.cancels += 1;
    this.#finish(null);
    if (!this.visit.mayCancel()) {
      this.#context.traffic.cancelsLimited += 1;
      return this.#transport.hangUp(this.#context.clock);
    }
    // The requester waits for our end, which comes when the server has taken the request.
    this.#context.cancels.cancel(pid, key, () => this.#transport.hangUp(this.#context.clock));
  }

  handshake(begin: () => void): () => void {
    return this.visit.handshake(begin);
  }

  ended(): void {
    if (this.#over) return;
    this.#finish(null);
    this.#transport.hangUp(this.#context.clock);
  }

  closed(): void {
    if (!this.#over) this.#finish(null);
    this.visit.leave();
  }

  #become(facts: ClientFacts, session: Omit<ClientSession, "lease">, greeting: Greeting, lease: Lease | null): void {
    this.#over = true;
    const { clock, steering, traffic, cancels, listener, route } = this.#context;
    traffic.logins += 1;
    session.session.welcomed(greeting.parameters);
    const identity = {
      id: this.#id,
      address: this.#address,
      user: facts.user,
      database: facts.database,
      listener,
    };
    const context = {
      clock,
      steering,
      traffic,
      owner: this.#owner,
      readsIntent: route === "auto" && facts.replication === null,
      ...this.#context.client,
    };
    const client = new Client(context, this.#transport, identity, { ...session, lease });
    const { pid, key } = cancels.issue(client, facts.minor);
    this.#owner.receptionDone(this, client, pid);
    this.#transport.say(readyWriter(greeting, pid, key).finish());
    this.#transport.resume();
    const { early, ended } = this.#antechamber?.dismiss() ?? { early: Buffer.alloc(0), ended: false };
    if (early.length > 0) this.#transport.deliver(early, 0, early.length);
    if (ended) client.ended();
  }

  #note(error: ProxyError): void {
    this.#context.traffic.loginFailures += 1;
    this.#context.traffic.countError(error.code);
    this.#owner.loginRefused(this, error);
  }

  #finish(error: ProxyError | null): void {
    if (error !== null) this.#note(error);
    this.#over = true;
    this.#delay?.cancel();
    this.#login?.stop();
    this.#deadline.cancel();
    this.#welcome?.abandon();
    this.#leaveSeat?.();
    this.#leaveSeat = null;
    this.#antechamber?.dismiss();
    // Who has not logged in keeps its place at the door until its connection is closed.
    if (this.visit.settled) this.visit.leave();
    this.#owner.receptionFailed(this);
  }
}

const nobody: TransportSink = { bytes: () => {}, drained: () => {}, ended: () => {}, closed: () => {} };

/** In PostgreSQL's order, but for the key, whose place is free. */
function readyWriter({ parameters, notices }: Greeting, pid: number, key: Buffer): MessageWriter {
  let writer = new MessageWriter();
  for (const notice of notices) writer.bytes(notice);
  writer = backendKeyData(pid, key, writer);
  for (const [name, value] of parameters) writer = parameterStatus(name, value, writer);
  return readyForQuery(TransactionStatus.Idle, writer);
}
