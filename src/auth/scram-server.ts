// The server's side of SCRAM-SHA-256, which pgsteer plays towards clients. Checks, and the words of what is refused,
// follow PostgreSQL's backend/libpq/auth-scram.c. With SCRAM-SHA-256-PLUS the flag has to be `p` (the client binds), without it
// `n` (it cannot), or `y` (it could, and believes that we cannot), which is wrong where we offered it.

import { timingSafeEqual } from "node:crypto";
import { ProxyError } from "../core/errors.ts";
import { END_POINT } from "./channel-binding.ts";
import { authMessage, hmacSha256, isNonce, KEY_BYTES, NONCE_BYTES, scramText, sha256, xorKeys } from "./scram.ts";
import { decodeBase64 } from "./secret.ts";

/** What the exchange is checked against. `doomed` marks a mock one: it runs to its end and then fails. */
export interface ScramVerifier {
  readonly iterations: number;
  readonly salt: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
  readonly doomed: boolean;
}

/** Channel binding that was offered: its data, and whether the client chose the mechanism with it. */
export interface ScramBinding {
  readonly data: Buffer;
  readonly chosen: boolean;
}

export type ScramServerStep =
  /** The server-first-message. */
  | { readonly kind: "continue"; readonly message: Buffer }
  /** The server-final-message; the client has proved itself, and thereby shown its key. */
  | { readonly kind: "verified"; readonly message: Buffer; readonly clientKey: Buffer }
  | { readonly kind: "wrong-password" }
  | { readonly kind: "failed"; readonly error: ProxyError };

type State =
  | { readonly kind: "start" }
  | {
      readonly kind: "first-received";
      readonly firstBare: string;
      readonly serverFirst: string;
      readonly nonce: string;
      readonly bindingAttribute: string;
    }
  | { readonly kind: "done" };

interface ClientFirst {
  readonly firstBare: string;
  readonly nonce: string;
  /** What `c=` has to say in the final message: the base64 of the header, and of the binding's data. */
  readonly bindingAttribute: string;
}

function malformed(detail: string): ProxyError {
  return new ProxyError("protocol_violation", "malformed SCRAM message", { detail });
}

/** The flag of channel binding, as far as the comma behind it; or what is wrong with it. */
function parseFlag(text: string, binding: ScramBinding | null): string | ProxyError {
  const chosen = binding?.chosen === true;
  switch (text.charAt(0)) {
    case "p": {
      if (!chosen) return malformed(`${selected("without")} includes channel binding data.`);
      const type = /^p=([^,]*),/.exec(text)?.[1] ?? "";
      if (type === END_POINT) return `p=${type}`;
      return new ProxyError("protocol_violation", `unsupported SCRAM channel-binding type "${type}"`);
    }
    case "y":
    case "n": {
      const flag = text.charAt(0);
      if (chosen) return malformed(`${selected("with")} does not include channel binding data.`);
      if (flag === "y" && binding !== null) return downgraded();
      return text.charAt(1) === "," ? flag : malformed("Comma expected behind the channel-binding flag.");
    }
    default:
      return malformed("Unexpected channel-binding flag.");
  }
}

const selected = (how: "with" | "without"): string =>
  `The client selected SCRAM-SHA-256 ${how} channel binding, but the SCRAM message`;

function downgraded(): ProxyError {
  return new ProxyError("invalid_authorization", "SCRAM channel binding negotiation error", {
    detail:
      "The client supports SCRAM channel binding but thinks the server does not. However, this server does support channel binding.",
  });
}

function parseClientFirst(text: string, binding: ScramBinding | null): ClientFirst | ProxyError {
  const flag = parseFlag(text, binding);
  if (flag instanceof ProxyError) return flag;
  const rest = text.slice(flag.length + 1);
  if (rest.startsWith("a")) {
    return new ProxyError("unsupported_protocol", "client uses authorization identity, but it is not supported");
  }
  if (!rest.startsWith(",")) return malformed("Unexpected attribute in client-first-message.");
  const firstBare = rest.slice(1);
  if (firstBare.startsWith("m=")) {
    return new ProxyError("unsupported_protocol", "client requires an unsupported SCRAM extension");
  }
  // The name is ignored, as PostgreSQL does: the startup packet has said it. Further attributes are optional extensions.
  const nonce = /^n=[^,]*,r=([^,]+)(?:,[A-Za-z]=[^,]*)*$/.exec(firstBare)?.[1];
  if (nonce === undefined) return malformed("Attributes missing or out of order in client-first-message.");
  if (!isNonce(nonce)) {
    return new ProxyError("protocol_violation", "non-printable characters in SCRAM nonce");
  }
  const data = binding?.chosen === true ? binding.data : Buffer.alloc(0);
  return { firstBare, nonce, bindingAttribute: Buffer.concat([Buffer.from(`${flag},,`), data]).toString("base64") };
}

function parseClientFinal(
  text: string,
): { binding: string; nonce: string; proof: Buffer; withoutProof: string } | null {
  const match = /^(c=([^,]+),r=([^,]+)(?:,[A-Za-oq-z]=[^,]*)*),p=([^,]+)$/.exec(text);
  const [, withoutProof, binding, nonce, writtenProof] = match ?? [];
  if (withoutProof === undefined || binding === undefined || nonce === undefined || writtenProof === undefined)
    return null;
  const proof = decodeBase64(writtenProof);
  return proof?.length === KEY_BYTES ? { binding, nonce, proof, withoutProof } : null;
}

/** One exchange. Call `clientFirst`, then `clientFinal`; anything out of this order fails. */
export class ScramServer {
  readonly #verifier: ScramVerifier;
  readonly #random: (length: number) => Buffer;
  readonly #binding: ScramBinding | null;
  #state: State = { kind: "start" };

  /** `binding`: null where none was offered. */
  constructor(verifier: ScramVerifier, random: (length: number) => Buffer, binding: ScramBinding | null = null) {
    this.#verifier = verifier;
    this.#random = random;
    this.#binding = binding;
  }

  clientFirst(payload: Buffer): ScramServerStep {
    if (this.#state.kind !== "start") return this.#fail(malformed("The message came out of order."));
    const text = scramText(payload);
    if (text === null) return this.#fail(malformed("The message contains a zero byte."));
    const first = parseClientFirst(text, this.#binding);
    if (first instanceof ProxyError) return this.#fail(first);
    const nonce = first.nonce + this.#random(NONCE_BYTES).toString("base64");
    const { salt, iterations } = this.#verifier;
    const serverFirst = `r=${nonce},s=${salt.toString("base64")},i=${iterations}`;
    const { firstBare, bindingAttribute } = first;
    this.#state = { kind: "first-received", firstBare, serverFirst, nonce, bindingAttribute };
    return { kind: "continue", message: Buffer.from(serverFirst, "latin1") };
  }

  clientFinal(payload: Buffer): ScramServerStep {
    const state = this.#state;
    if (state.kind !== "first-received") return this.#fail(malformed("The message came out of order."));
    const text = scramText(payload);
    const final = text === null ? null : parseClientFinal(text);
    if (final === null) return this.#fail(malformed("Malformed client-final-message."));
    if (final.binding !== state.bindingAttribute) {
      if (this.#binding?.chosen === true) {
        return this.#fail(new ProxyError("invalid_authorization", "SCRAM channel binding check failed"));
      }
      const message = "unexpected SCRAM channel-binding attribute in client-final-message";
      return this.#fail(new ProxyError("protocol_violation", message));
    }
    if (final.nonce !== state.nonce) {
      return this.#fail(
        new ProxyError("protocol_violation", "invalid SCRAM response", { detail: "Nonce does not match." }),
      );
    }
    this.#state = { kind: "done" };
    const message = authMessage(state.firstBare, state.serverFirst, final.withoutProof);
    const { storedKey, serverKey, doomed } = this.#verifier;
    const clientKey = xorKeys(final.proof, hmacSha256(storedKey, message));
    const isRight = timingSafeEqual(sha256(clientKey), storedKey);
    const signature = hmacSha256(serverKey, message).toString("base64");
    if (!isRight || doomed) return { kind: "wrong-password" };
    return { kind: "verified", message: Buffer.from(`v=${signature}`), clientKey };
  }

  #fail(error: ProxyError): ScramServerStep {
    this.#state = { kind: "done" };
    return { kind: "failed", error };
  }
}
