// How pgsteer proves to a PostgreSQL server who it is: answers to AuthenticationXXX requests
// (https://www.postgresql.org/docs/current/protocol-message-formats.html), bodies only. A server that was to prove
// itself by SCRAM and did not is refused.

import { unreachable } from "../core/assert.ts";
import { ProxyError } from "../core/errors.ts";
import { md5Response, md5Secret } from "./password.ts";
import type { ServerSecret } from "./proven-keys.ts";
import { SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramDerivations } from "./scram.ts";
import { ScramClient, type ScramClientBinding, type ScramClientStep, type ScramProof } from "./scram-client.ts";
import { localChannel, refusedRequest, type ServerAuthRules, type ServerChannel, usualRules } from "./server-rules.ts";

export interface ServerAuthenticationOptions {
  readonly user: string;
  /** Null: there is none; only servers that ask for nothing let us in. */
  readonly secret: ServerSecret | null;
  /** What the login goes over; this machine's own when it is not given. */
  readonly channel?: ServerChannel;
  readonly rules?: ServerAuthRules;
  /** Cryptographically secure bytes. */
  readonly random: (length: number) => Buffer;
  /** The process's derivations; without them every login derives anew. */
  readonly derivations?: ScramDerivations;
}

export type ServerAuthStep =
  /** Send a password message (`p`) with this body. */
  | { readonly kind: "send"; readonly body: Buffer }
  /** Nothing to send: another request follows. */
  | { readonly kind: "wait" }
  /** Authenticated. */
  | { readonly kind: "ok" }
  | { readonly kind: "failed"; readonly error: ProxyError };

type State =
  | { readonly kind: "start" }
  /** A password was sent; only AuthenticationOk can follow. */
  | { readonly kind: "answered" }
  | { readonly kind: "scram"; readonly scram: ScramClient; readonly next: 11 | 12 }
  | { readonly kind: "done" };

const unsupported: ReadonlyMap<number, string> = new Map([
  [2, "Kerberos V5"],
  [6, "SCM credential"],
  [7, "GSSAPI"],
  [8, "GSSAPI"],
  [9, "SSPI"],
]);

/** A SASL request lists few mechanisms with short names. */
const MECHANISMS_BYTES_MAX = 1024;

function refuse(message: string, hint?: string): ServerAuthStep {
  const error = new ProxyError("server_login_failed", message, hint === undefined ? {} : { hint });
  return { kind: "failed", error };
}

/** One login. Call `request` with each AuthenticationXXX until `ok` or `failed`. */
export class ServerAuthentication {
  readonly #options: ServerAuthenticationOptions;
  #state: State = { kind: "start" };

  constructor(options: ServerAuthenticationOptions) {
    this.#options = options;
  }

  /** `code` is the request's, `payload` what follows the code. */
  request(code: number, payload: Buffer): ServerAuthStep {
    const step = this.#step(code, payload);
    if (step.kind === "ok" || step.kind === "failed") this.#state = { kind: "done" };
    return step;
  }

  #step(code: number, payload: Buffer): ServerAuthStep {
    const state = this.#state;
    switch (state.kind) {
      case "start":
        return this.#first(code, payload);
      case "answered":
        return code === 0 ? { kind: "ok" } : this.#outOfOrder(code);
      case "scram":
        return this.#scram(state.scram, state.next, code, payload);
      case "done":
        return this.#outOfOrder(code);
      default:
        return unreachable(state);
    }
  }

  #outOfOrder(code: number): ServerAuthStep {
    return refuse(`server sent authentication request ${code} out of order`);
  }

  #first(code: number, payload: Buffer): ServerAuthStep {
    const { rules = usualRules, channel = localChannel } = this.#options;
    const refused = refusedRequest(rules, channel, code);
    if (refused !== null) return refuse(refused, "See server_tls, or the server's pg_hba.conf for pgsteer's address.");
    switch (code) {
      case 0:
        return { kind: "ok" };
      case 3:
        return this.#clearText();
      case 5:
        return this.#md5(payload);
      case 10:
        return this.#sasl(payload);
      case 11:
      case 12:
        return this.#outOfOrder(code);
      default: {
        const name = unsupported.get(code) ?? `authentication method ${code}`;
        const hint = "Use scram-sha-256, md5, password or trust for pgsteer's address in the server's pg_hba.conf.";
        return refuse(`server asks for ${name}, which pgsteer does not support`, hint);
      }
    }
  }

  #noSecret(method: string): ServerAuthStep {
    const { user, secret } = this.#options;
    const isMissing = secret === null || (secret.kind === "plain" && secret.password === "");
    if (isMissing) {
      const hint = "Add the user with its password to the userlist (auth.file).";
      return refuse(`server asks for the password of user "${user}", but none is known`, hint);
    }
    const passwordHint = "List the user with its password in clear in the userlist (auth.file).";
    const provenHint =
      "Let its clients log in by scram-sha-256 or password, not by trust or a certificate: what they prove then logs in to servers that keep the same secret. Or list its password in clear (auth.file).";
    const kept = { md5: "an md5 hash", scram: "a SCRAM verifier", proven: "SCRAM keys", plain: "a password" }[
      secret.kind
    ];
    const hint = secret.kind === "scram" && method === SCRAM_SHA_256 ? provenHint : passwordHint;
    return refuse(`server asks for ${method} authentication, but only ${kept} of user "${user}" is known`, hint);
  }

  #clearText(): ServerAuthStep {
    const { secret } = this.#options;
    if (secret?.kind !== "plain" || secret.password === "") return this.#noSecret("password");
    this.#state = { kind: "answered" };
    return { kind: "send", body: Buffer.from(`${secret.password}\0`, "utf8") };
  }

  #md5(payload: Buffer): ServerAuthStep {
    const { user, secret } = this.#options;
    const isHash = secret?.kind === "md5" || (secret?.kind === "plain" && secret.password !== "");
    if (!isHash) return this.#noSecret("md5");
    if (payload.length !== 4) return refuse("server sent a malformed md5 authentication request");
    const hash = secret.kind === "md5" ? secret.hash : md5Secret(secret.password, user);
    this.#state = { kind: "answered" };
    return { kind: "send", body: Buffer.from(`${md5Response(hash, payload)}\0`, "latin1") };
  }

  #sasl(payload: Buffer): ServerAuthStep {
    const proof = this.#proof();
    if (proof === null) return this.#noSecret(SCRAM_SHA_256);
    const isList =
      payload.length <= MECHANISMS_BYTES_MAX && payload.length > 1 && payload.toString("latin1").endsWith("\0\0");
    if (!isList) return refuse("server sent a malformed SASL authentication request");
    const choice = this.#choose(payload.toString("latin1").split("\0"));
    if ("kind" in choice) return choice;
    const { mechanism, binding } = choice;
    const scram = new ScramClient(proof, this.#options.random, binding);
    const first = scram.first();
    if (first.kind !== "send") return this.#outOfOrder(10);
    this.#state = { kind: "scram", scram, next: 11 };
    const header = Buffer.alloc(mechanism.length + 5);
    header.write(mechanism, "latin1");
    header.writeInt32BE(first.message.length, mechanism.length + 1);
    return { kind: "send", body: Buffer.concat([header, first.message]) };
  }

  #proof(): ScramProof | null {
    const { secret, derivations = new ScramDerivations() } = this.#options;
    if (secret?.kind === "proven") return { kind: "keys", keys: secret };
    if (secret?.kind !== "plain" || secret.password === "") return null;
    return { kind: "password", password: secret.password, derivations };
  }

  /** As libpq chooses. That we could bind is told to a server that does not offer it: somebody between may have taken the offer away. */
  #choose(offered: readonly string[]): { mechanism: string; binding: ScramClientBinding } | ServerAuthStep {
    const { rules = usualRules, channel = localChannel } = this.#options;
    const { channelBinding } = rules;
    const offersBinding = offered.includes(SCRAM_SHA_256_PLUS);
    if (offersBinding && !channel.tls) {
      const hint = "Something between pgsteer and the server may have taken TLS away.";
      return refuse("server offers SCRAM-SHA-256-PLUS over a connection without TLS", hint);
    }
    const data = channelBinding === "disable" ? null : channel.binding;
    if (offersBinding && data !== null) return { mechanism: SCRAM_SHA_256_PLUS, binding: { flag: "p", data } };
    if (channelBinding === "require") {
      const why = offersBinding ? "the server's certificate cannot be bound to" : "the server does not offer it";
      return refuse(`channel_binding is require, but ${why}`);
    }
    if (!offered.includes(SCRAM_SHA_256)) return refuse("server offers no SASL mechanism that pgsteer supports");
    return { mechanism: SCRAM_SHA_256, binding: { flag: data === null ? "n" : "y" } };
  }

  #scram(scram: ScramClient, next: 11 | 12, code: number, payload: Buffer): ServerAuthStep {
    if (code === 0) {
      const hint = "Something between pgsteer and the server may be pretending to be it.";
      return refuse("server said that authentication is complete before it proved that it knows the password", hint);
    }
    if (code !== next) return this.#outOfOrder(code);
    const step: ScramClientStep = next === 11 ? scram.serverFirst(payload) : scram.serverFinal(payload);
    switch (step.kind) {
      case "send":
        this.#state = { kind: "scram", scram, next: 12 };
        return { kind: "send", body: step.message };
      case "verified":
        this.#state = { kind: "answered" };
        return { kind: "wait" };
      case "other-secret": {
        const { user } = this.#options;
        const hint =
          "A replica may not have replayed a change of the password yet. Otherwise copy the server's secret (pg_authid.rolpassword) to the userlist, list the password in clear, or use auth_query.";
        return refuse(`server keeps another SCRAM secret of user "${user}" than pgsteer knows`, hint);
      }
      case "failed":
        return refuse(`server's SCRAM message is refused: ${step.reason}`);
      default:
        return unreachable(step);
    }
  }
}
