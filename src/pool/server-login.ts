// Opens one connection to PostgreSQL: TCP, TLS as sslmode asks, startup, authentication, parameters, up to the first
// ReadyForQuery (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP).

import { connect, type Socket } from "node:net";
import { connect as connectTls, TLSSocket } from "node:tls";
import { endPointBinding } from "../auth/channel-binding.ts";
import type { ServerSecret } from "../auth/proven-keys.ts";
import type { ScramDerivations } from "../auth/scram.ts";
import { ServerAuthentication } from "../auth/server-authentication.ts";
import type { ServerChannel } from "../auth/server-rules.ts";
import { ALPN_POSTGRESQL, type ServerTls } from "../auth/tls-options.ts";
import { isLoopback, isSocketDirectory, netAddress } from "../core/addresses.ts";
import type { Clock, Timer } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import { KEEPALIVE_IDLE_MS_DEFAULT, type KeepAlive, keepAlive } from "../core/keepalive.ts";
import { WHOLE_BACKEND_MESSAGE_BYTES_MAX } from "../core/limits.ts";
import { millis } from "../core/units.ts";
import { Backend, HEADER_BYTES } from "../protocol/constants.ts";
import { Framer, type FrameSink, STOP, type Verdict, WHOLE } from "../protocol/framer.ts";
import { decodeError, decodeParameterStatus, type ErrorFields, passwordMessage } from "../protocol/messages.ts";
import { BodyReader, MalformedBody } from "../protocol/reader.ts";
import { ReceiveBuffer } from "../protocol/receive-buffer.ts";
import { sslRequest, startupMessage } from "../protocol/startup.ts";
import { Transport, type TransportSink } from "../protocol/transport.ts";
import type { Endpoint, LoginFacts } from "./login-facts.ts";

/** Who logs in, and how. */
export interface LoginOptions {
  readonly endpoint: Endpoint;
  readonly user: string;
  readonly database: string;
  readonly secret: ServerSecret | null;
  readonly tls: ServerTls;
  readonly timeoutMs: number;
  readonly random: (bytes: number) => Buffer;
  /** The process's SCRAM derivations. */
  readonly derivations: ScramDerivations;
  /** Startup parameters beyond user and database. */
  readonly parameters?: ReadonlyMap<string, string>;
  /** Null: none; the usual one when it is not given. */
  readonly keepAlive?: KeepAlive | null;
}

/** Why a login failed. */
export type LoginFailure =
  /** The server refused in its own words; whether trying again can help is told by `transient`. */
  | { readonly kind: "refused"; readonly fields: ErrorFields; readonly transient: boolean; readonly reason: string }
  /** No connection, no TLS, no answer in time. */
  | { readonly kind: "unreachable"; readonly reason: string; readonly transient: true }
  /** We could not, or would not, authenticate. */
  | { readonly kind: "ours"; readonly error: ProxyError; readonly transient: false; readonly reason: string };

/** A refusal that will not go away, in the server's own words. */
export function loginError(failure: LoginFailure): ProxyError {
  if (failure.kind === "ours") return failure.error;
  if (failure.kind === "unreachable") return new ProxyError("server_login_failed", failure.reason);
  const { message, sqlstate, detail, hint } = failure.fields;
  return new ProxyError("server_login_failed", message, {
    sqlstate,
    ...(detail === null ? {} : { detail }),
    ...(hint === null ? {} : { hint }),
  });
}

export interface LoginSink {
  loggedIn(transport: Transport, facts: LoginFacts): void;
  failed(failure: LoginFailure): void;
}

/** Starting up, shutting down, crash recovery, too many connections: the same login can succeed later. */
const transientStates = new Set(["57P01", "57P02", "57P03", "53300", "08006", "53200"]);

/** Whether trying again can help against a server's refusal. */
export const isTransient = (fields: ErrorFields): boolean => transientStates.has(fields.sqlstate);

type Step = "connecting" | "ssl" | "authenticating" | "done";

export class ServerLogin implements TransportSink, FrameSink {
  readonly #clock: Clock;
  readonly #options: LoginOptions;
  readonly #sink: LoginSink;
  readonly #framer = new Framer(this);
  /** Begun once the connection is what it will be: in clear or not. */
  #authentication: ServerAuthentication | null = null;
  readonly #parameters = new Map<string, string>();
  readonly #timer: Timer;
  #transport: Transport;
  #step: Step = "connecting";
  /** Whether the attempt under way asks for TLS (sslmode `allow` may try both). */
  #wantsTls: boolean;
  #attempts = 1;
  /** The server has let us in: it will not do so in another way. */
  #authenticated = false;
  #pid = 0;
  #key: Buffer = Buffer.alloc(0);

  constructor(clock: Clock, options: LoginOptions, sink: LoginSink) {
    this.#clock = clock;
    this.#options = options;
    this.#sink = sink;
    this.#wantsTls = this.#mayUseTls && options.tls.kind === "on" && options.tls.plain !== "first";
    this.#timer = clock.after(millis(options.timeoutMs), () => this.#unreachable("timeout expired"));
    this.#transport = this.#open();
  }

  /** Gives up; the sink hears nothing more. */
  abort(): void {
    this.#finish();
    this.#transport.destroy();
  }

  /** As in libpq, sslmode says nothing about Unix-domain sockets. */
  get #mayUseTls(): boolean {
    return !isSocketDirectory(this.#options.endpoint.host);
  }

  #open(): Transport {
    const { host, port } = this.#options.endpoint;
    const received = new ReceiveBuffer();
    const socket = connect({ ...netAddress(host, port), noDelay: true, onread: received.option });
    socket.once("connect", () => {
      keepAlive(socket, this.#options.keepAlive === undefined ? usualKeepAlive : this.#options.keepAlive);
      this.#connected();
    });
    return new Transport(socket, this, received);
  }

  #connected(): void {
    if (this.#step !== "connecting") return;
    const { tls } = this.#options;
    if (!this.#wantsTls) return this.#startup();
    this.#step = "ssl";
    if (tls.kind === "on" && tls.direct === true) this.#secure(tls);
    else this.#transport.write(sslRequest());
  }

  #startup(): void {
    this.#step = "authenticating";
    const { user, database, parameters, secret, random, derivations, tls } = this.#options;
    const rules = tls.rules === undefined ? {} : { rules: tls.rules };
    this.#authentication = new ServerAuthentication({
      user,
      secret,
      random,
      derivations,
      channel: this.#channel(),
      ...rules,
    });
    this.#transport.write(startupMessage([["user", user], ["database", database], ...(parameters ?? [])]));
  }

  #answerToSslRequest(buffer: Buffer, start: number, end: number): void {
    const { tls } = this.#options;
    if (tls.kind === "off" || end - start !== 1) return this.#unreachable("received bytes in clear after SSLRequest");
    if (buffer[start] === 0x53) this.#secure(tls);
    else if (tls.plain === "never") this.#unreachable("server does not support TLS, but sslmode demands it");
    else this.#startup();
  }

  #secure(tls: ServerTls & { kind: "on" }): void {
    this.#transport.wrap((raw: Socket) => {
      const secure = connectTls({ socket: raw, ...tls.connectionOptions(this.#options.endpoint.host) });
      secure.once("secureConnect", () => {
        if (tls.direct === true && secure.alpnProtocol !== ALPN_POSTGRESQL) {
          return this.#unreachable("server took a direct TLS connection without ALPN: it may speak another protocol");
        }
        this.#startup();
      });
      return secure;
    });
  }

  /** What the login goes over. Whoever answers at an address of this machine is not reached over a network. */
  #channel(): ServerChannel {
    const { host } = this.#options.endpoint;
    const { socket } = this.#transport;
    if (!(socket instanceof TLSSocket)) {
      const local = isSocketDirectory(host) || isLoopback(socket.remoteAddress ?? "");
      return { tls: false, readable: !local, binding: null };
    }
    const certificate = socket.getPeerX509Certificate();
    const binding = certificate === undefined ? null : endPointBinding(certificate.raw);
    return { tls: true, readable: false, binding };
  }

  // TransportSink

  bytes(buffer: Buffer, start: number, end: number): void {
    if (this.#step === "ssl") return this.#answerToSslRequest(buffer, start, end);
    if (this.#step !== "authenticating") return;
    this.#framer.push(buffer, start, end);
  }

  drained(): void {}

  ended(): void {
    this.#unreachable("server closed the connection during login");
  }

  closed(error: Error | null): void {
    this.#unreachable(error?.message ?? "server closed the connection during login");
  }

  // FrameSink

  header(_type: number, length: number): Verdict {
    if (this.#step === "done") return STOP;
    if (length <= WHOLE_BACKEND_MESSAGE_BYTES_MAX) return WHOLE;
    this.#unreachable("server sent an oversized message during login");
    return STOP;
  }

  pass(): void {}

  malformed(): void {
    this.#unreachable("server does not speak the PostgreSQL protocol");
  }

  whole(type: number, buffer: Buffer, start: number, end: number): void {
    try {
      this.#message(type, buffer, start + HEADER_BYTES, end);
    } catch (error) {
      if (!(error instanceof MalformedBody)) throw error;
      this.#unreachable("server sent a malformed message during login");
    }
  }

  #message(type: number, buffer: Buffer, start: number, end: number): void {
    switch (type) {
      case Backend.Authentication: {
        const reader = new BodyReader(buffer, start, end);
        return this.#authenticate(reader.int32(), reader.bytes(reader.remaining));
      }
      case Backend.ErrorResponse:
        return this.#refused(decodeError(buffer, start, end));
      case Backend.ParameterStatus: {
        const { name, value } = decodeParameterStatus(buffer, start, end);
        this.#parameters.set(name, value);
        return;
      }
      case Backend.BackendKeyData: {
        const reader = new BodyReader(buffer, start, end);
        this.#pid = reader.int32();
        this.#key = reader.bytes(reader.remaining);
        return;
      }
      case Backend.ReadyForQuery:
        // What came with it would be taken for an answer to what nobody has asked yet.
        if (this.#framer.unread > 0) return this.#unreachable("server said more than it was asked during login");
        return this.#loggedIn();
      case Backend.NoticeResponse:
      case Backend.NegotiateProtocolVersion:
        return;
      default:
        this.#unreachable(`server sent message type 0x${type.toString(16)} during login`);
    }
  }

  #authenticate(code: number, payload: Buffer): void {
    const step = this.#authentication?.request(code, payload);
    if (step === undefined) return;
    if (step.kind === "send") {
      this.#transport.write(passwordMessage(step.body));
      // A password may be in it.
      step.body.fill(0);
    } else if (step.kind === "ok") this.#authenticated = true;
    else if (step.kind === "failed")
      this.#fail({ kind: "ours", error: step.error, transient: false, reason: step.error.message });
  }

  #loggedIn(): void {
    this.#finish();
    this.#sink.loggedIn(this.#transport, {
      endpoint: this.#options.endpoint,
      parameters: this.#parameters,
      pid: this.#pid,
      key: this.#key,
      loggedInAt: this.#clock.now(),
    });
  }

  #refused(fields: ErrorFields): void {
    const { tls } = this.#options;
    // sslmode allow: a refusal in clear is tried again with TLS; prefer: the other way round.
    const otherWay =
      this.#mayUseTls &&
      tls.kind === "on" &&
      tls.plain !== "never" &&
      fields.sqlstate === "28000" &&
      !this.#authenticated &&
      this.#attempts === 1;
    if (otherWay && (this.#isTls() || tls.plain === "first")) return this.#tryOtherWay();
    this.#fail({
      kind: "refused",
      fields,
      transient: isTransient(fields),
      reason: fields.message,
    });
  }

  #isTls(): boolean {
    return "encrypted" in this.#transport.socket && this.#transport.socket.encrypted === true;
  }

  #tryOtherWay(): void {
    this.#attempts += 1;
    this.#wantsTls = !this.#isTls();
    this.#step = "connecting";
    this.#transport.attach(silentSink);
    this.#transport.destroy();
    this.#framer.reset();
    this.#transport = this.#open();
  }

  #unreachable(reason: string): void {
    this.#fail({ kind: "unreachable", reason, transient: true });
  }

  #fail(failure: LoginFailure): void {
    if (this.#step === "done") return;
    this.#finish();
    this.#transport.destroy();
    this.#sink.failed(failure);
  }

  #finish(): void {
    this.#step = "done";
    this.#timer.cancel();
  }
}

const usualKeepAlive: KeepAlive = { idleMs: KEEPALIVE_IDLE_MS_DEFAULT, intervalMs: null, count: null };

const silentSink: TransportSink = { bytes: () => {}, drained: () => {}, ended: () => {}, closed: () => {} };
