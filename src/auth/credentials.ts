// Where the secrets of a cluster's users come from: those that clients are checked against, and those that pgsteer logs in to
// servers with.

import type { ProxyError } from "../core/errors.ts";
import { KeyRing, type ProvenKeys, type ServerSecret } from "./proven-keys.ts";
import type { Secret } from "./secret.ts";

/** How a lookup ends: one of the two, once, at once or later. */
export interface LookupSink {
  /** Null: nobody of that name has a password. */
  found(secret: Secret | null): void;
  /** It cannot be known now. */
  unknown(error: ProxyError): void;
}

/** One for each cluster. */
export interface Credentials {
  /** What a client has to prove. The function returned gives the lookup up; nothing is heard of it then. */
  lookup(user: string, database: string, sink: LookupSink): () => void;
  /** A client has logged in as this user, and shown these keys. */
  proven(user: string, keys: ProvenKeys): void;
  /** What pgsteer logs in with as this user; null: nothing is known. */
  forServer(user: string, database: string): ServerSecret | null;
  /** A server did not take what `forServer` gave. */
  refused(user: string, secret: ServerSecret): void;
}

/** Users of the userlist. */
export class ListedCredentials implements Credentials {
  #users: ReadonlyMap<string, Secret>;
  readonly #ring = new KeyRing();

  constructor(users: ReadonlyMap<string, Secret>) {
    this.#users = users;
  }

  reconfigure(users: ReadonlyMap<string, Secret>): void {
    this.#users = users;
    this.#ring.review((user) => users.get(user) ?? null);
  }

  lookup(user: string, _database: string, sink: LookupSink): () => void {
    sink.found(this.#users.get(user) ?? null);
    return () => {};
  }

  proven(user: string, keys: ProvenKeys): void {
    this.#ring.add(user, keys);
  }

  forServer(user: string): ServerSecret | null {
    const secret = this.#users.get(user) ?? null;
    return this.#ring.find(user, secret) ?? secret;
  }

  refused(user: string, secret: ServerSecret): void {
    this.#ring.drop(user, secret);
  }
}
