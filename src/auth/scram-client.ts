// The client's side of SCRAM-SHA-256(-PLUS), which pgsteer plays towards PostgreSQL: with a password, or with the keys that follow
// from one. The exchange is only over once the server has proved that it knows the secret too. The flag in front says what
// became of channel binding (RFC 5802, section 6): `p` bound, `y` we could and the server did not offer it, `n` we cannot.

import { timingSafeEqual } from "node:crypto";
import { END_POINT } from "./channel-binding.ts";
import type { ProvenKeys } from "./proven-keys.ts";
import {
  authMessage,
  hmacSha256,
  isNonce,
  KEY_BYTES,
  NONCE_BYTES,
  SCRAM_ITERATIONS_MAX,
  SCRAM_ITERATIONS_MIN,
  type ScramDerivations,
  type ScramKeys,
  scramText,
  xorKeys,
} from "./scram.ts";
import { decodeBase64 } from "./secret.ts";

/** What the proof is made of. */
export type ScramProof =
  | { readonly kind: "password"; readonly password: string; readonly derivations: ScramDerivations }
  | { readonly kind: "keys"; readonly keys: ProvenKeys };

/** What becomes of channel binding; `data` of END_POINT. */
export type ScramClientBinding =
  | { readonly flag: "n" }
  | { readonly flag: "y" }
  | { readonly flag: "p"; readonly data: Buffer };

/** `reason` reads on after "server's SCRAM message is refused: ". */
export type ScramClientStep =
  | { readonly kind: "send"; readonly message: Buffer }
  | { readonly kind: "verified" }
  /** The server keeps another secret of this user than the keys belong to. */
  | { readonly kind: "other-secret" }
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
  readonly #proof: ScramProof;
  readonly #random: (length: number) => Buffer;
  readonly #header: string;
  /** What `c=` says: the header, and the binding's data. */
  readonly #bindingAttribute: string;
  #state: State = { kind: "start" };

  constructor(proof: ScramProof, random: (length: number) => Buffer, binding: ScramClientBinding = { flag: "n" }) {
    this.#proof = proof;
    this.#random = random;
    this.#header = binding.flag === "p" ? `p=${END_POINT},,` : `${binding.flag},,`;
    const data = binding.flag === "p" ? binding.data : Buffer.alloc(0);
    this.#bindingAttribute = Buffer.concat([Buffer.from(this.#header), data]).toString("base64");
  }

  /** The client-first-message. The user is left out, as libpq does: the server goes by the startup packet. */
  first(): ScramClientStep {
    if (this.#state.kind !== "start") return this.#fail("the exchange has begun already");
    const nonce = this.#random(NONCE_BYTES).toString("base64");
    const firstBare = `n=,r=${nonce}`;
    this.#state = { kind: "first-sent", nonce, firstBare };
    return { kind: "send", message: Buffer.from(this.#header + firstBare) };
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
    const keys = this.#keysFor(salt, iterations);
    if (!("clientKey" in keys)) {
      this.#state = { kind: "done" };
      return keys;
    }
    const withoutProof = `c=${this.#bindingAttribute},r=${nonce}`;
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

  /** Keys belong to one salt: to another they prove nothing, and are not shown to whoever asks with it. */
  #keysFor(salt: Buffer, iterations: number): ScramKeys | ScramClientStep {
    if (this.#proof.kind === "keys") {
      const { keys } = this.#proof;
      const { clientKey, storedKey, serverKey } = keys;
      const isSame = keys.iterations === iterations && keys.salt.equals(salt);
      return isSame && clientKey !== null ? { clientKey, storedKey, serverKey } : { kind: "other-secret" };
    }
    if (iterations < SCRAM_ITERATIONS_MIN || iterations > SCRAM_ITERATIONS_MAX) {
      const bounds = `${SCRAM_ITERATIONS_MIN} and ${SCRAM_ITERATIONS_MAX}`;
      return this.#fail(`its ${iterations} iterations are not between ${bounds}`);
    }
    const { password, derivations } = this.#proof;
    return derivations.derive(password, salt, iterations);
  }

  #fail(reason: string): ScramClientStep {
    this.#state = { kind: "done" };
    return { kind: "failed", reason };
  }
}
