// A client's first seconds: startup packets in whatever pieces they come, TLS where it asks for it, authentication. Ends with who
// it is and what it asked for, with a cancel request, or with the error that PostgreSQL would give.

import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import {
  type AccessRules,
  type ClientAuthenticationMethod,
  certificateMissing,
  type PeerCertificateFacts,
} from "../auth/access.ts";
import { type AuthStep, ClientAuthentication } from "../auth/client-authentication.ts";
import type { ClientTls } from "../auth/client-tls.ts";
import type { Credentials, SecretOrigin } from "../auth/credentials.ts";
import type { ScramDerivations } from "../auth/scram.ts";
import type { Secret } from "../auth/secret.ts";
import { ALPN_POSTGRESQL } from "../auth/tls-options.ts";
import { ProxyError } from "../core/errors.ts";
import { AUTH_MESSAGE_BYTES_MAX, WAITING_BYTES_MAX } from "../core/limits.ts";
import { Frontend, HEADER_BYTES, RequestCode } from "../protocol/constants.ts";
import { authentication, negotiateProtocolVersion } from "../protocol/messages.ts";
import { ownBytes } from "../protocol/own-bytes.ts";
import {
  decodeStartup,
  inClear,
  type StartupPacket,
  spokenMinor,
  startupPacketLength,
  unsupportedProtocol,
} from "../protocol/startup.ts";
import type { Transport, TransportSink } from "../protocol/transport.ts";
import { MessageWriter } from "../protocol/writer.ts";
import { type ClientFacts, clientFacts, type StartupRules } from "./client-facts.ts";
import { channelBinding, handshakeReason, isAcceptable, peerCertificate, secureSocket } from "./client-tls-socket.ts";

/** How clients log in. */
export interface ClientLoginOptions {
  readonly rules: AccessRules;
  readonly credentials: Credentials;
  readonly tls: ClientTls;
  readonly random: (bytes: number) => Buffer;
  /** Makes what an unknown user is shown the same each time; secret, one per process. */
  readonly mockKey: Buffer;
  readonly derivations: ScramDerivations;
  readonly startup: StartupRules;
  /** Whether there is room for one more client; asked once it is known that this is one, and no cancel request. */
  readonly admit: () => ProxyError | null;
}

/** Where a client is. */
export interface Peer {
  /** With its port, as people read it. */
  readonly address: string;
  /** The IP address alone; null over a Unix-domain socket. */
  readonly ip: string | null;
  /** On this machine, over a Unix-domain socket: there TLS is neither offered nor demanded, as in PostgreSQL. */
  readonly local: boolean;
}

export interface ClientLoginSink {
  /** `farewell`: what is still to be sent before AuthenticationOk; `rest`: bytes that came early. */
  authenticated(facts: ClientFacts, final: MessageWriter, rest: Buffer): void;
  cancelRequested(pid: number, key: Buffer): void;
  /** Calls `begin` when a TLS handshake may begin, at once or later. The function returned gives that up. */
  handshake(begin: () => void): () => void;
  refused(error: ProxyError): void;
  /** The TLS handshake has failed; there is nobody to tell. */
  unsecured(error: ProxyError): void;
  ended(): void;
  closed(error: Error | null): void;
}

type Found = (secret: Secret | null, origin: SecretOrigin | null) => void;

/** The first byte of a TLS connection: a record of the handshake. No startup packet is that long. */
const TLS_HANDSHAKE = 0x16;

export class ClientLogin implements TransportSink {
  readonly #transport: Transport;
  readonly #peer: Peer;
  readonly #options: ClientLoginOptions;
  readonly #sink: ClientLoginSink;
  #received: Buffer = Buffer.alloc(0);
  #tls = false;
  /** The last packet. As in PostgreSQL none is answered twice in a row, nor is any request for encryption inside TLS. */
  #asked: StartupPacket["kind"] | null = null;
  /** TLS came at once, without being asked for, and its ALPN has still to be looked at. */
  #direct = false;
  /** The handshake is under way. */
  #shakesHands = false;
  #certificate: PeerCertificateFacts | null = null;
  #facts: ClientFacts | null = null;
  /** What is said to one who has proved its password, and may not come in all the same. */
  #afterwards: ProxyError | null = null;
  /** While its user is looked up, or its TLS handshake waits for its turn: gives that up. */
  #giveUpLookup: (() => void) | null = null;
  #authentication: ClientAuthentication | null = null;
  /** Of the secret that it judges by, where that may be out of date. */
  #origin: SecretOrigin | null = null;
  #over = false;

  constructor(transport: Transport, peer: Peer, options: ClientLoginOptions, sink: ClientLoginSink) {
    this.#transport = transport;
    this.#peer = peer;
    this.#options = options;
    this.#sink = sink;
  }

  /** As the startup packet names it; null before that. */
  get user(): string | null {
    return this.#facts?.user ?? null;
  }

  /** Hears nothing more. */
  stop(): void {
    this.#over = true;
    this.#giveUpLookup?.();
    this.#giveUpLookup = null;
  }

  bytes(buffer: Buffer, start: number, end: number): void {
    if (this.#over) return;
    const piece = buffer.subarray(start, end);
    this.#received = this.#received.length === 0 ? piece : Buffer.concat([this.#received, piece]);
    if (this.#giveUpLookup !== null) {
      if (this.#received.length > WAITING_BYTES_MAX) this.#transport.pause();
      return;
    }
    this.#advanceSafely();
    this.#received = ownBytes(this.#received);
  }

  #advanceSafely(): void {
    try {
      while (!this.#over && this.#giveUpLookup === null && this.#step()) {
        // Each step takes one packet or message.
      }
    } catch (error) {
      if (!(error instanceof ProxyError)) throw error;
      this.#refuse(error);
    }
  }

  drained(): void {}

  ended(): void {
    if (this.#over) return;
    if (this.#shakesHands) this.#handshakeFailed("the client has broken it off");
    else this.#sink.ended();
  }

  closed(error: Error | null): void {
    if (!this.#over && this.#shakesHands) this.#handshakeFailed(handshakeReason(error));
    this.#sink.closed(error);
  }

  #handshakeFailed(reason: string): void {
    this.stop();
    this.#sink.unsecured(new ProxyError("tls_handshake_failed", `TLS handshake failed: ${reason}`));
  }

  #refuse(error: ProxyError): void {
    this.stop();
    this.#sink.refused(error);
  }

  /** Takes one packet or message; false when it is not complete yet. */
  #step(): boolean {
    if (this.#authentication !== null) return this.#passwordStep(this.#authentication);
    if (this.#startsTls()) return false;
    this.#checkAlpn();
    const length = startupPacketLength(this.#received);
    if (length === null || this.#received.length < length) return false;
    this.#startup(decodeStartup(this.#take(length)));
    return true;
  }

  #take(length: number): Buffer {
    const packet = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return packet;
  }

  #startup(packet: StartupPacket): void {
    const twice = this.#tls || packet.kind === this.#asked;
    this.#asked = packet.kind;
    switch (packet.kind) {
      case "ssl":
        if (twice) throw unsupportedProtocol(RequestCode.Ssl);
        return this.#answerSsl();
      case "gssenc":
        if (twice) throw unsupportedProtocol(RequestCode.Gssenc);
        if (this.#received.length > 0) throw inClear("GSSENCRequest");
        this.#transport.write(Buffer.from("N"));
        return;
      case "cancel":
        this.#over = true;
        return this.#sink.cancelRequested(packet.pid, packet.key);
      case "startup":
        return this.#identify(packet);
    }
  }

  /** Bytes behind the request were sent before we answered, in clear: never to be taken for what comes inside TLS. */
  #answerSsl(): void {
    const { tls } = this.#options;
    if (this.#received.length > 0) throw inClear("SSLRequest");
    if (tls.kind === "off" || this.#peer.local) {
      this.#transport.write(Buffer.from("N"));
      return;
    }
    this.#inTurn(() => {
      if (this.#received.length > 0) throw inClear("SSLRequest");
      this.#transport.write(Buffer.from("S"));
      this.#wrap(tls, Buffer.alloc(0));
    });
  }

  /** Does what begins a handshake when it is its turn. What comes until then is kept. */
  #inTurn(begin: () => void): void {
    let begun = false;
    const giveUp = this.#sink.handshake(() => {
      begun = true;
      if (this.#giveUpLookup === null) return begin();
      this.#giveUpLookup = null;
      try {
        begin();
        this.#transport.resume();
      } catch (error) {
        if (!(error instanceof ProxyError)) throw error;
        this.#refuse(error);
      }
    });
    if (!begun) this.#giveUpLookup = giveUp;
  }

  /** Goes on inside TLS, whose first bytes may be there already. */
  #wrap(tls: ClientTls & { kind: "on" }, early: Buffer): void {
    this.#tls = true;
    this.#shakesHands = true;
    this.#transport.wrap((raw: Socket) => secureSocket(raw, tls, early, (socket) => this.#secured(tls, socket)));
  }

  #secured(tls: ClientTls & { kind: "on" }, socket: TLSSocket): void {
    this.#shakesHands = false;
    if (this.#over || tls.certificates === "ignored") return;
    this.#certificate = peerCertificate(socket);
    if (!isAcceptable(socket, tls)) this.#refuse(certificateMissing());
  }

  /** TLS without SSLRequest, as from PostgreSQL 17 on: what came is the beginning of its handshake. */
  #startsTls(): boolean {
    const { tls } = this.#options;
    if (this.#received[0] !== TLS_HANDSHAKE || this.#tls || this.#peer.local || tls.kind === "off") return false;
    this.#inTurn(() => {
      const early = this.#received;
      this.#received = Buffer.alloc(0);
      this.#direct = true;
      this.#wrap(tls, early);
    });
    return true;
  }

  /** Without ALPN a client of another protocol could be made to talk to us. */
  #checkAlpn(): void {
    if (!this.#direct) return;
    this.#direct = false;
    const { socket } = this.#transport;
    if (socket instanceof TLSSocket && socket.alpnProtocol === ALPN_POSTGRESQL) return;
    const message = "received direct SSL connection request without ALPN protocol negotiation extension";
    throw new ProxyError("protocol_violation", message);
  }

  #identify(packet: StartupPacket & { kind: "startup" }): void {
    const { tls, admit, startup } = this.#options;
    const full = admit();
    if (full !== null) throw full;
    if (tls.kind === "on" && tls.required && !this.#tls && !this.#peer.local) {
      throw new ProxyError("invalid_authorization", "connection requires TLS", {
        hint: "Connect with sslmode=require or stronger.",
      });
    }
    const minor = spokenMinor(packet.minor);
    this.#facts = { ...clientFacts(packet.parameters, this.#peer.address, startup), tls: this.#tls, minor };
    if (minor !== packet.minor || packet.extensions.length > 0) {
      this.#transport.write(negotiateProtocolVersion(minor, packet.extensions, new MessageWriter()).finish());
    }
    this.#judge(this.#facts);
  }

  /** How this one has to prove who it is, if it may at all. */
  #judge({ user, database, replication }: ClientFacts): void {
    const { rules } = this.#options;
    const decision = rules.decide({
      address: this.#peer.ip,
      tls: this.#tls,
      user,
      database,
      replication,
      certificate: this.#certificate,
    });
    if (decision.kind === "refused") throw decision.error;
    const { method, afterwards } = decision;
    this.#afterwards = afterwards;
    // Who need not prove anything is looked up all the same: servers may ask for what is known of it.
    const trusted = (): void => this.#authenticate(user, method, null);
    if (method === "trust") return this.#lookUp(user, database, trusted, trusted);
    this.#lookUp(user, database, (secret, origin) => {
      this.#origin = origin;
      this.#authenticate(user, method, secret);
    });
  }

  /** `then` is called with the answer, at once or later; `unknown` where it cannot be known, which by default ends the login. */
  #lookUp(user: string, database: string, then: Found, unknown = (error: ProxyError) => this.#refuse(error)): void {
    let answered = false;
    const over = (end: () => void): void => {
      answered = true;
      if (this.#giveUpLookup === null) return end();
      this.#giveUpLookup = null;
      end();
      this.#transport.resume();
      this.#advanceSafely();
    };
    const giveUp = this.#options.credentials.lookup(user, database, {
      found: (secret, origin) => over(() => then(secret, origin ?? null)),
      unknown: (error) => over(() => unknown(error)),
    });
    if (!answered) this.#giveUpLookup = giveUp;
  }

  /** What was known of the user may be out of date: if it can be, it is asked for now, and the same answer judged by it. */
  #failed({ error, again }: AuthStep & { kind: "failed" }): void {
    const facts = this.#facts;
    const origin = this.#origin;
    if (error.code !== "password_failed" || facts === null) return this.#refuse(error);
    const { user, database } = facts;
    this.#options.credentials.failed(user, database);
    this.#origin = null;
    if (origin?.kind === "stale") return this.#refuse(origin.error);
    if (origin === null || again === undefined) return this.#refuse(error);
    this.#lookUp(user, database, (secret, now) => {
      this.#origin = now?.kind === "stale" ? now : null;
      this.#advance(again(secret));
    });
  }

  #authenticate(user: string, method: ClientAuthenticationMethod, secret: Secret | null): void {
    const { random, mockKey, derivations, credentials } = this.#options;
    const pretence = credentials.pretence(this.#facts?.database ?? "");
    const how = { method, user, secret, random, mockKey, pretence, derivations };
    this.#authentication = new ClientAuthentication({ ...how, channelBinding: channelBinding(this.#transport.socket) });
    this.#advance(this.#authentication.start());
  }

  #passwordStep(authentication: ClientAuthentication): boolean {
    if (this.#received.length < HEADER_BYTES) return false;
    const type = this.#received[0] as number;
    const length = this.#received.readInt32BE(1);
    if (type !== Frontend.Password) {
      throw new ProxyError("protocol_violation", `expected password response, got message type ${type}`);
    }
    if (length < 4 || length > AUTH_MESSAGE_BYTES_MAX) {
      throw new ProxyError("protocol_violation", "invalid message length");
    }
    if (this.#received.length < length + 1) return false;
    const body = this.#take(length + 1).subarray(HEADER_BYTES);
    const step = authentication.answer(body);
    // A password may be in it.
    if (!("again" in step)) body.fill(0);
    this.#advance(step);
    return true;
  }

  #advance(step: AuthStep): void {
    switch (step.kind) {
      case "send":
        this.#transport.write(authentication(step.code, step.payload).finish());
        return;
      case "failed":
        return this.#failed(step);
      case "ok": {
        if (this.#afterwards !== null) {
          if (step.final !== undefined) this.#transport.write(authentication(12, step.final).finish());
          return this.#refuse(this.#afterwards);
        }
        this.#over = true;
        if (step.keys !== undefined && this.#facts !== null) {
          this.#options.credentials.proven(this.#facts.user, step.keys);
        }
        const writer = new MessageWriter();
        if (step.final !== undefined) authentication(12, step.final, writer);
        authentication(0, Buffer.alloc(0), writer);
        if (this.#facts !== null) this.#sink.authenticated(this.#facts, writer, this.#received);
      }
    }
  }
}
