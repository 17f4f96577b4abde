// The server's side of SCRAM-SHA-256, which pgsteer plays towards clients. Checks, and the words of what is refused,
// follow PostgreSQL's backend/libpq/auth-scram.c. Without SCRAM-SHA-256-PLUS the flag `y` (the client could bind, and
// believes that we cannot) is right, and `p` (the client binds) is not.

import { timingSafeEqual } from "node:crypto";
import { ProxyError } from "../core/errors.ts";
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

export type ScramServerStep =
  /** The server-first-message. */
  | { readonly kind: "continue"; readonly message: Buffer }
  /** The server-final-message; the client has proved itself. */
  | { readonly kind: "verified"; readonly message: Buffer }
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
  /** What `c=` has to say in the final message: the base64 of the header. */
  readonly bindingAttribute: string;
}

function malformed(detail: string): ProxyError {
  return new ProxyError("protocol_violation", "malformed SCRAM message", { detail });
}

function parseClientFirst(text: string): ClientFirst | ProxyError {
  const flag = text.charAt(0);
  if (flag === "p") {
    return malformed(
      "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.",
    );
  }
  if (flag !== "n" && flag !== "y") return malformed("Unexpected channel-binding flag.");
  if (text.charAt(1) !== ",") return malformed("Comma expected behind the channel-binding flag.");
  if (text.charAt(2) === "a") {
    return new ProxyError("unsupported_protocol", "client uses authorization identity, but it is not supported");
  }
  if (text.charAt(2) !== ",") return malformed("Unexpected attribute in client-first-message.");
  const firstBare = text.slice(3);
  if (firstBare.startsWith("m=")) {
    return new ProxyError("unsupported_protocol", "client requires an unsupported SCRAM extension");
  }
  // The name is ignored, as PostgreSQL does: the startup packet has said it. Further attributes are optional extensions.
  const nonce = /^n=[^,]*,r=([^,]+)(?:,[A-Za-z]=[^,]*)*$/.exec(firstBare)?.[1];
  if (nonce === undefined) return malformed("Attributes missing or out of order in client-first-message.");
  if (!isNonce(nonce)) {
    return new ProxyError("protocol_violation", "non-printable characters in SCRAM nonce");
  }
  return { firstBare, nonce, bindingAttribute: Buffer.from(`${flag},,`).toString("base64") };
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
  #state: State = { kind: "start" };

  constructor(verifier: ScramVerifier, random: (length: number) => Buffer) {
    this.#verifier = verifier;
    this.#random = random;
  }

  clientFirst(payload: Buffer): ScramServerStep {
    if (this.#state.kind !== "start") return this.#fail(malformed("The message came out of order."));
    const text = scramText(payload);
    if (text === null) return this.#fail(malformed("The message contains a zero byte."));
    const first = parseClientFirst(text);
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
    return { kind: "verified", message: Buffer.from(`v=${signature}`) };
  }

  #fail(error: ProxyError): ScramServerStep {
    this.#state = { kind: "done" };
    return { kind: "failed", error };
  }
}
