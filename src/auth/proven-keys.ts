// SCRAM pass-through: the keys that a user's own login has shown, kept in memory alone, so that pgsteer can log in to servers that keep
// the very same secret (salt, iterations, stored key), as PgBouncer does. RFC 5802, section 3: who has the ClientKey can log in
// under this secret and no other; the password does not follow from it.

import { timingSafeEqual } from "node:crypto";
import { PROVEN_KEYS_MAX } from "../core/limits.ts";
import type { Secret } from "./secret.ts";

type Verifier = Secret & { readonly kind: "scram" };

/** One user's. The client key is in no field that a log or JSON would show. */
export class ProvenKeys {
  readonly kind = "proven";
  readonly iterations: number;
  readonly salt: Buffer;
  readonly storedKey: Buffer;
  readonly serverKey: Buffer;
  #clientKey: Buffer | null;

  /** Takes the client key's bytes for its own. */
  constructor({ iterations, salt, storedKey, serverKey }: Verifier, clientKey: Buffer) {
    this.iterations = iterations;
    this.salt = salt;
    this.storedKey = storedKey;
    this.serverKey = serverKey;
    this.#clientKey = clientKey;
  }

  /** Null once it was wiped. */
  get clientKey(): Buffer | null {
    return this.#clientKey;
  }

  /** Whether they still prove something where `secret` is kept, or prove the same as these. */
  belongTo(secret: ServerSecret | null): boolean {
    return (
      (secret?.kind === "scram" || secret?.kind === "proven") &&
      secret.iterations === this.iterations &&
      secret.salt.equals(this.salt) &&
      timingSafeEqual(secret.storedKey, this.storedKey)
    );
  }

  wipe(): void {
    this.#clientKey?.fill(0);
    this.#clientKey = null;
  }
}

/** What pgsteer logs in to servers with. */
export type ServerSecret = Secret | ProvenKeys;

/** The keys of a cluster's users by name; those that were not used for longest go first. */
export class KeyRing {
  readonly #keys = new Map<string, ProvenKeys>();

  get size(): number {
    return this.#keys.size;
  }

  /** Replaces what was known of this user. The same keys again leave those in place that a login may be at work with. */
  add(user: string, added: ProvenKeys): void {
    const known = this.#keys.get(user);
    const keys = known?.belongTo(added) === true ? known : added;
    if (known !== keys) this.drop(user);
    else if (known !== added) added.wipe();
    this.#keys.delete(user);
    this.#keys.set(user, keys);
    const [oldest] = this.#keys.keys();
    if (this.#keys.size > PROVEN_KEYS_MAX && oldest !== undefined) this.drop(oldest);
  }

  /** The keys that belong to `secret`. Others are dropped: the secret has changed. */
  find(user: string, secret: Secret | null): ProvenKeys | null {
    const keys = this.#keys.get(user);
    if (keys === undefined) return null;
    if (!keys.belongTo(secret)) {
      this.drop(user);
      return null;
    }
    this.#keys.delete(user);
    this.#keys.set(user, keys);
    return keys;
  }

  /** Forgets a user's keys; only where they are these, if they are given. */
  drop(user: string, which?: ServerSecret): void {
    const keys = this.#keys.get(user);
    if (keys === undefined || (which !== undefined && which !== keys)) return;
    keys.wipe();
    this.#keys.delete(user);
  }

  /** Forgets all that `keeps` does not keep. */
  review(keeps: (user: string, keys: ProvenKeys) => boolean): void {
    for (const [user, keys] of this.#keys) if (!keeps(user, keys)) this.drop(user);
  }
}
