// How a client of pgsteer proves who it is: the exchange of AuthenticationXXX requests and password messages
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP), bodies only. A user that does
// not exist goes through the same exchange as one with a wrong password, and gets the same error.

import { assert, unreachable } from "../core/assert.ts";
import { ProxyError } from "../core/errors.ts";
import { CLEAR_PASSWORD_BYTES_MAX } from "../core/limits.ts";
import type { ClientAuthenticationMethod } from "./access.ts";
import { equalSecrets, md5Response, md5Secret } from "./password.ts";
import { ProvenKeys } from "./proven-keys.ts";
import {
  deriveScramKeys,
  hmacSha256,
  SALT_BYTES,
  SCRAM_ITERATIONS_MAX,
  SCRAM_ITERATIONS_MIN,
  SCRAM_SHA_256,
  SCRAM_SHA_256_PLUS,
  ScramDerivations,
} from "./scram.ts";
import { ScramServer, type ScramServerStep, type ScramVerifier } from "./scram-server.ts";
import type { Secret } from "./secret.ts";
import type { Pretence } from "./secret-tally.ts";

export interface ClientAuthenticationOptions {
  readonly method: ClientAuthenticationMethod;
  /** From the startup packet. */
  readonly user: string;
  /** Null: the user is unknown, and will fail as with a wrong password. */
  readonly secret: Secret | null;
  /** Cryptographically secure bytes. */
  readonly random: (length: number) => Buffer;
  /** What a SCRAM exchange can be bound to; without it that is not offered. */
  readonly channelBinding?: Buffer | null;
  /** Secret of the process, 32 random bytes: gives each user name a salt that stays the same, known or not. */
  readonly mockKey: Buffer;
  /** What an unknown user is made out to have; an md5 hash, or a password by SCRAM, when it is not given. */
  readonly pretence?: Pretence;
  /** The process's derivations; without them every login derives anew. */
  readonly derivations?: ScramDerivations;
}

export type AuthStep =
  /** An AuthenticationXXX request: its code (3, 5, 10, 11) and what follows the code. */
  | { readonly kind: "send"; readonly code: number; readonly payload: Buffer }
  /**
   * The client is who it says; `final` goes out as a request of code 12 before AuthenticationOk. `keys`: what it has shown to know
   * where only a SCRAM verifier is kept.
   */
  | { readonly kind: "ok"; readonly final?: Buffer; readonly keys?: ProvenKeys }
  /** `again` judges the same answer by another secret, where what the client said can be: a password, or an md5 hash. */
  | { readonly kind: "failed"; readonly error: ProxyError; readonly again?: (secret: Secret | null) => AuthStep };

type State =
  | { readonly kind: "start" }
  | { readonly kind: "clear-text" }
  | { readonly kind: "md5"; readonly salt: Buffer }
  /** Offered; waits for SASLInitialResponse. */
  | { readonly kind: "sasl" }
  | { readonly kind: "scram-first"; readonly scram: ScramServer }
  | { readonly kind: "scram-final"; readonly scram: ScramServer }
  | { readonly kind: "done" };

const NOTHING = Buffer.alloc(0);
const MD5_SALT_BYTES = 4;

/** One login. Call `start` once, then `answer` with each password message's body, until `ok` or `failed`. */
export class ClientAuthentication {
  readonly #options: ClientAuthenticationOptions;
  /** Null also for an empty password, with which nobody logs in. */
  readonly #secret: Secret | null;
  #state: State = { kind: "start" };
  #keys: ProvenKeys | null = null;

  constructor(options: ClientAuthenticationOptions) {
    this.#options = options;
    this.#secret = usable(options.secret);
  }

  start(): AuthStep {
    assert(this.#state.kind === "start", "an authentication starts once");
    const { method } = this.#options;
    switch (method) {
      case "trust":
        this.#state = { kind: "done" };
        return { kind: "ok" };
      case "password":
        return this.#askClearText();
      case "md5":
        return this.#looksLikeScram ? this.#offerSasl() : this.#askMd5();
      case "scram-sha-256":
        return this.#offerSasl();
      default:
        return unreachable(method);
    }
  }

  answer(body: Buffer): AuthStep {
    const state = this.#state;
    switch (state.kind) {
      case "clear-text":
        return this.#checkClearText(body);
      case "md5":
        return this.#checkMd5(body, state.salt);
      case "sasl":
        return this.#chooseMechanism(body);
      case "scram-first":
        return this.#scramStep(state.scram, state.scram.clientFirst(body));
      case "scram-final":
        return this.#scramStep(state.scram, state.scram.clientFinal(body));
      case "start":
      case "done":
        return this.#fail(violation("unexpected password message"));
      default:
        return unreachable(state);
    }
  }

  #askClearText(): AuthStep {
    this.#state = { kind: "clear-text" };
    return { kind: "send", code: 3, payload: NOTHING };
  }

  get #looksLikeScram(): boolean {
    const { pretence = noPretence } = this.#options;
    return this.#secret === null ? pretence.scram : this.#secret.kind === "scram";
  }

  #askMd5(): AuthStep {
    const salt = this.#options.random(MD5_SALT_BYTES);
    this.#state = { kind: "md5", salt };
    return { kind: "send", code: 5, payload: salt };
  }

  #offerSasl(): AuthStep {
    this.#state = { kind: "sasl" };
    return { kind: "send", code: 10, payload: Buffer.from(`${this.#mechanisms.join("\0")}\0\0`, "latin1") };
  }

  /** The better one first: clients take the first that they know. */
  get #mechanisms(): readonly string[] {
    const binds = (this.#options.channelBinding ?? null) !== null;
    return binds ? [SCRAM_SHA_256_PLUS, SCRAM_SHA_256] : [SCRAM_SHA_256];
  }

  #checkClearText(body: Buffer): AuthStep {
    const password = passwordOf(body);
    if (password === null) return this.#fail(violation("invalid password packet size"));
    if (password.length === 0) return this.#fail(emptyPassword());
    if (password.length > CLEAR_PASSWORD_BYTES_MAX) return this.#decide(false);
    return this.#judge(this.#secret, (secret) => this.#isPassword(password, secret));
  }

  /** Decides by `isRight`, and says how to do it again with another secret. */
  #judge(secret: Secret | null, isRight: (secret: Secret | null) => boolean): AuthStep {
    const step = this.#decide(isRight(secret));
    if (step.kind !== "failed") return step;
    return { ...step, again: (another) => this.#judge(usable(another), isRight) };
  }

  #isPassword(password: Buffer, secret: Secret | null): boolean {
    const { user, mockKey } = this.#options;
    switch (secret?.kind) {
      case "plain":
        this.#spendTime(password);
        return equalSecrets(password, secret.password);
      case "md5":
        this.#spendTime(password);
        return equalSecrets(md5Secret(password, user), secret.hash);
      case "scram": {
        if (secret.iterations > SCRAM_ITERATIONS_MAX) return false;
        const { storedKey, clientKey } = deriveScramKeys(password, secret.salt, secret.iterations);
        if (!equalSecrets(storedKey, secret.storedKey)) return false;
        this.#keys = new ProvenKeys(secret, clientKey);
        return true;
      }
      default:
        this.#spendTime(password);
        equalSecrets(password, mockKey);
        return false;
    }
  }

  /** Takes as long as a usual SCRAM secret does, so that time does not tell who has one, or who is nobody. */
  #spendTime(password: Buffer): void {
    const { user, mockKey, pretence = noPretence } = this.#options;
    deriveScramKeys(password, mockSalt(mockKey, user), pretence.iterations);
  }

  #checkMd5(body: Buffer, salt: Buffer): AuthStep {
    const response = passwordOf(body);
    if (response === null) return this.#fail(violation("invalid password packet size"));
    if (response.length === 0) return this.#fail(emptyPassword());
    const { user, mockKey } = this.#options;
    return this.#judge(this.#secret, (secret) => {
      const known =
        secret?.kind === "plain" ? md5Secret(secret.password, user) : secret?.kind === "md5" ? secret.hash : null;
      const expected = md5Response(known ?? md5Secret(mockKey, user), salt);
      return equalSecrets(response, expected) && known !== null;
    });
  }

  /**
   * SASLInitialResponse: the mechanism's name, the length of what follows (-1: nothing yet), the client-first-message.
   */
  #chooseMechanism(body: Buffer): AuthStep {
    const end = body.indexOf(0);
    if (end === -1 || body.length < end + 5) return this.#fail(violation("invalid SASL initial response"));
    const mechanism = body.toString("latin1", 0, end);
    if (!this.#mechanisms.includes(mechanism)) {
      return this.#fail(violation("client selected an invalid SASL authentication mechanism"));
    }
    const length = body.readInt32BE(end + 1);
    const response = body.subarray(end + 5);
    const data = this.#options.channelBinding ?? null;
    const binding = data === null ? null : { data, chosen: mechanism === SCRAM_SHA_256_PLUS };
    const scram = new ScramServer(this.#verifier(), this.#options.random, binding);
    if (length === -1 && response.length === 0) {
      this.#state = { kind: "scram-first", scram };
      return { kind: "send", code: 11, payload: NOTHING };
    }
    if (length !== response.length) return this.#fail(violation("invalid SASL initial response"));
    return this.#scramStep(scram, scram.clientFirst(response));
  }

  #verifier(): ScramVerifier {
    const { user, mockKey, derivations = new ScramDerivations(), pretence = noPretence } = this.#options;
    const secret = this.#secret;
    if (secret?.kind === "scram") return { ...secret, doomed: false };
    const salt = mockSalt(mockKey, user);
    // With as many iterations as most have, so that a password in clear is not told from a SCRAM secret, nor from nobody.
    const { iterations } = pretence;
    if (secret?.kind === "plain") {
      return { iterations, salt, ...derivations.derive(secret.password, salt, iterations), doomed: false };
    }
    // An md5 hash cannot be checked by SCRAM: as for an unknown user, the exchange runs and fails.
    const mock = (name: string) => hmacSha256(mockKey, `${name}:${user}`);
    const keys = { storedKey: mock("stored"), serverKey: mock("server") };
    return { iterations, salt, ...keys, doomed: true };
  }

  #scramStep(scram: ScramServer, step: ScramServerStep): AuthStep {
    switch (step.kind) {
      case "continue":
        this.#state = { kind: "scram-final", scram };
        return { kind: "send", code: 11, payload: step.message };
      case "verified":
        this.#state = { kind: "done" };
        if (this.#secret?.kind === "scram") this.#keys = new ProvenKeys(this.#secret, step.clientKey);
        return { kind: "ok", final: step.message, ...this.#shown };
      case "wrong-password":
        return this.#decide(false);
      case "failed":
        return this.#fail(step.error);
      default:
        return unreachable(step);
    }
  }

  #decide(isRight: boolean): AuthStep {
    if (!isRight) return this.#fail(passwordFailed(this.#options.user));
    this.#state = { kind: "done" };
    return { kind: "ok", ...this.#shown };
  }

  get #shown(): { keys?: ProvenKeys } {
    return this.#keys === null ? {} : { keys: this.#keys };
  }

  #fail(error: ProxyError): AuthStep {
    this.#state = { kind: "done" };
    return { kind: "failed", error };
  }
}

const noPretence: Pretence = { scram: false, iterations: SCRAM_ITERATIONS_MIN };

/** With an empty password nobody logs in. */
const usable = (secret: Secret | null): Secret | null =>
  secret?.kind === "plain" && secret.password === "" ? null : secret;

/** The same each time for a user name, known or not. */
function mockSalt(mockKey: Buffer, user: string): Buffer {
  return hmacSha256(mockKey, `salt:${user}`).subarray(0, SALT_BYTES);
}

/** What PostgreSQL says of a wrong password, and of a user that does not exist. */
function passwordFailed(user: string): ProxyError {
  return new ProxyError("password_failed", `password authentication failed for user "${user}"`);
}

/** Said as PostgreSQL says it: of what was sent, whoever the user is. */
function emptyPassword(): ProxyError {
  return new ProxyError("password_failed", "empty password returned by client");
}

function violation(message: string): ProxyError {
  return new ProxyError("protocol_violation", message);
}

/** PasswordMessage: one zero-terminated string and nothing else. */
function passwordOf(body: Buffer): Buffer | null {
  return body.length > 0 && body.indexOf(0) === body.length - 1 ? body.subarray(0, -1) : null;
}
