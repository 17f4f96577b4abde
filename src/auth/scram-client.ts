// The client's side of SCRAM-SHA-256, which pgsteer plays towards PostgreSQL. The exchange is only over once the server
// has proved that it knows the password too.

import { timingSafeEqual } from "node:crypto";
import {
  authMessage,
  hmacSha256,
  isNonce,
  KEY_BYTES,
  NONCE_BYTES,
  SCRAM_ITERATIONS_MAX,
  SCRAM_ITERATIONS_MIN,
  type ScramDerivations,
  scramText,
  xorKeys,
} from "./scram.ts";
import { decodeBase64 } from "./secret.ts";

/** No channel binding: pgsteer does not support it on this side. */
const GS2_HEADER = "n,,";

/** `reason` reads on after "server's SCRAM message is refused: ". */
export type ScramClientStep =
  | { readonly kind: "send"; readonly message: Buffer }
  | { readonly kind: "verified" }
  | { readonly kind: "failed"; readonly reason: string };

type State =
  | { readonly kind: "start" }
  | { readonly kind: "first-sent"; readonly nonce: string; readonly firstBare: string }
  | { readonly kind: "final-sent"; readonly serverSignature: Buffer }
  | { readonly kind: "done" };

function parseServerFirst(text: string): { nonce: string; salt: Buffer; iterations: number } | null {
  const match = /^r=([^,]+),s=([^,]+),i=([1-9]\d{0,9})$/.exec(text);
  const [, nonce, writtenSalt, iterations] = match ?? [];
  if (nonce === undefined || writtenSalt === undefined || iterations === undefined || !isNonce(nonce)) return null;
  const salt = decodeBase64(writtenSalt);
  return salt === null ? null : { nonce, salt, iterations: Number(iterations) };
}

/** One exchange. Call `first`, then `serverFirst`, then `serverFinal`; anything out of this order fails. */
export class ScramClient {
  readonly #password: string;
  readonly #random: (length: number) => Buffer;
  readonly #derivations: ScramDerivations;
  #state: State = { kind: "start" };

  constructor(password: string, random: (length: number) => Buffer, derivations: ScramDerivations) {
    this.#password = password;
    this.#random = random;
    this.#derivations = derivations;
  }

  /** The client-first-message. The user is left out, as libpq does: the server goes by the startup packet. */
  first(): ScramClientStep {
    if (this.#state.kind !== "start") return this.#fail("the exchange has begun already");
    const nonce = this.#random(NONCE_BYTES).toString("base64");
    const firstBare = `n=,r=${nonce}`;
    this.#state = { kind: "first-sent", nonce, firstBare };
    return { kind: "send", message: Buffer.from(GS2_HEADER + firstBare) };
  }

  /** Takes the server-first-message, gives the client-final-message. */
  serverFirst(payload: Buffer): ScramClientStep {
    const state = this.#state;
    if (state.kind !== "first-sent") return this.#fail("it came out of order");
    const text = scramText(payload);
    const parsed = text === null ? null : parseServerFirst(text);
    if (text === null || parsed === null) return this.#fail("it is malformed");
    const { nonce, salt, iterations } = parsed;
    if (!nonce.startsWith(state.nonce) || nonce.length === state.nonce.length) {
      return this.#fail("its nonce does not continue ours");
    }
    if (iterations < SCRAM_ITERATIONS_MIN || iterations > SCRAM_ITERATIONS_MAX) {
      const bounds = `${SCRAM_ITERATIONS_MIN} and ${SCRAM_ITERATIONS_MAX}`;
      return this.#fail(`its ${iterations} iterations are not between ${bounds}`);
    }
    const keys = this.#derivations.derive(this.#password, salt, iterations);
    const withoutProof = `c=${Buffer.from(GS2_HEADER).toString("base64")},r=${nonce}`;
    const message = authMessage(state.firstBare, text, withoutProof);
    const proof = xorKeys(keys.clientKey, hmacSha256(keys.storedKey, message));
    this.#state = { kind: "final-sent", serverSignature: hmacSha256(keys.serverKey, message) };
    return { kind: "send", message: Buffer.from(`${withoutProof},p=${proof.toString("base64")}`) };
  }

  /** Takes the server-final-message and checks the server's own proof. */
  serverFinal(payload: Buffer): ScramClientStep {
    const state = this.#state;
    if (state.kind !== "final-sent") return this.#fail("it came out of order");
    const text = scramText(payload);
    if (text?.startsWith("e=") === true) return this.#fail("the server reports an error in the exchange");
    const signature = text?.startsWith("v=") === true ? decodeBase64(text.slice("v=".length)) : null;
    if (signature?.length !== KEY_BYTES) return this.#fail("it is malformed");
    if (!timingSafeEqual(signature, state.serverSignature)) {
      return this.#fail("its signature is wrong, so the server does not know the password");
    }
    this.#state = { kind: "done" };
    return { kind: "verified" };
  }

  #fail(reason: string): ScramClientStep {
    this.#state = { kind: "done" };
    return { kind: "failed", reason };
  }
}
