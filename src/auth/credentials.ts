// Where the secrets of a cluster's users come from: those that clients are checked against, and those that pgsteer logs in to
// servers with.

import type { ProxyError } from "../core/errors.ts";
import type { AuthQuery, AuthTerms } from "./auth-query.ts";
import { KeyRing, type ProvenKeys, type ServerSecret } from "./proven-keys.ts";
import type { Secret } from "./secret.ts";
import { type Pretence, SecretTally } from "./secret-tally.ts";

/** Where a secret comes from that may be out of date. */
export type SecretOrigin =
  /** It was asked for a short while ago. Who fails by it may be judged by a new answer. */
  | { readonly kind: "recent" }
  /** Nobody can be asked now, and there may be no secret. A login that fails by it gets this error. */
  | { readonly kind: "stale"; readonly error: ProxyError };

/** How a lookup ends: one of the two, once, at once or later. */
export interface LookupSink {
  /** Null: nobody of that name has a password. */
  found(secret: Secret | null, origin?: SecretOrigin): void;
  /** It cannot be known now. */
  unknown(error: ProxyError): void;
}

/** One for each cluster. */
export interface Credentials {
  /** What a client has to prove. The function returned gives the lookup up; nothing is heard of it then. */
  lookup(user: string, database: string, sink: LookupSink): () => void;
  /** What users of this database are made out to have who do not exist. */
  pretence(database: string): Pretence;
  /** A client has logged in as this user, and shown these keys. */
  proven(user: string, keys: ProvenKeys): void;
  /** A login as this user has failed: what it was judged by may be out of date. */
  failed(user: string, database: string): void;
  /** What pgsteer logs in with as this user; null: nothing is known. */
  forServer(user: string, database: string): ServerSecret | null;
  /** A server did not take what `forServer` gave. */
  refused(user: string, secret: ServerSecret): void;
}

/** How users are asked for whom the userlist does not know. */
export interface AskedUsers {
  readonly query: AuthQuery;
  /** How those are asked for who want this database; null: they are not. */
  readonly termsOf: (database: string) => AuthTerms | null;
}

/** Users of the userlist first, then those who are asked for. */
export class ListedCredentials implements Credentials {
  #users: ReadonlyMap<string, Secret>;
  #asked: AskedUsers | null;
  #tally: SecretTally;
  readonly #ring = new KeyRing();

  constructor(users: ReadonlyMap<string, Secret>, asked: AskedUsers | null = null) {
    this.#users = users;
    this.#asked = asked;
    this.#tally = new SecretTally(users.values());
  }

  /** Proven keys of users whose secret has changed are forgotten. */
  reconfigure(users: ReadonlyMap<string, Secret>, asked: AskedUsers | null = null): void {
    this.#ring.review((user, keys) => {
      const listed = users.get(user);
      return listed === undefined ? !this.#users.has(user) : keys.belongTo(listed);
    });
    this.#users = users;
    this.#asked = asked;
    this.#tally = new SecretTally(users.values());
  }

  pretence(database: string): Pretence {
    const asked = this.#termsOf(database) === null ? null : this.#asked;
    return asked === null ? this.#tally.pretence : asked.query.tally.pretence;
  }

  lookup(user: string, database: string, sink: LookupSink): () => void {
    const listed = this.#users.get(user);
    const terms = listed === undefined ? this.#termsOf(database) : null;
    if (terms !== null && this.#asked !== null) return this.#asked.query.lookup(user, terms, sink);
    sink.found(listed ?? null);
    return () => {};
  }

  proven(user: string, keys: ProvenKeys): void {
    this.#ring.add(user, keys);
  }

  failed(user: string, database: string): void {
    const terms = this.#users.has(user) ? null : this.#termsOf(database);
    if (terms !== null) this.#asked?.query.doubt(user, terms);
  }

  forServer(user: string, database: string): ServerSecret | null {
    const secret = this.#users.get(user) ?? this.#remembered(user, database);
    return this.#ring.find(user, secret) ?? secret;
  }

  refused(user: string, secret: ServerSecret): void {
    this.#ring.drop(user, secret);
  }

  #termsOf(database: string): AuthTerms | null {
    return this.#asked?.termsOf(database) ?? null;
  }

  #remembered(user: string, database: string): Secret | null {
    const terms = this.#termsOf(database);
    return terms === null ? null : (this.#asked?.query.remembered(user, terms) ?? null);
  }
}
