// What clients are recognized by, for all listeners: rules, credentials of each cluster, our side of TLS. Outlives reloads, which
// bring new rules and new secrets for the logins to come.

import { randomBytes } from "node:crypto";
import type { AccessRules } from "../auth/access.ts";
import { AuthQuery, type AuthQueryCounters } from "../auth/auth-query.ts";
import { type AuthQuerySettings, authTerms } from "../auth/auth-query-settings.ts";
import type { ClientTls } from "../auth/client-tls.ts";
import { type AskedUsers, type Credentials, ListedCredentials } from "../auth/credentials.ts";
import { ScramDerivations } from "../auth/scram.ts";
import type { Secret } from "../auth/secret.ts";
import type { ServerTls } from "../auth/tls-options.ts";
import { assert } from "../core/assert.ts";
import type { Clock } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import type { TopologyFeed } from "../discovery/feed.ts";
import { type AskerOptions, AuthAsker } from "./auth-asker.ts";
import type { ClientLoginOptions } from "./client-login.ts";

export interface IdentificationOptions {
  readonly rules: AccessRules;
  /** Users of the userlist. */
  readonly users: ReadonlyMap<string, Secret>;
  /** How others are asked for. */
  readonly authQuery: AuthQuerySettings;
  readonly clientTls: ClientTls;
}

/** What of the other settings matters here. */
export interface IdentificationTerms {
  readonly options: IdentificationOptions;
  /** TLS towards the servers of each cluster. */
  readonly serverTls: ReadonlyMap<string, ServerTls>;
  /** The name in PostgreSQL of a database that clients ask for. */
  readonly dbnameOf: (database: string) => string;
}

/** What a listener adds for its own clients. */
type OwnLoginOptions = Pick<ClientLoginOptions, "startup" | "admit">;

/** One cluster's. */
interface Known {
  readonly credentials: ListedCredentials;
  readonly query: AuthQuery;
  readonly asker: AuthAsker;
}

const MOCK_KEY_BYTES = 32;

export class Identification {
  readonly derivations = new ScramDerivations();
  readonly #mockKey = randomBytes(MOCK_KEY_BYTES);
  readonly #clusters = new Map<string, Known>();
  #terms: IdentificationTerms;

  constructor(clock: Clock, logger: Logger, feeds: ReadonlyMap<string, TopologyFeed>, terms: IdentificationTerms) {
    this.#terms = terms;
    for (const [cluster, feed] of feeds) {
      const asker = new AuthAsker(clock, logger.child({ cluster }), feed, this.#askerOptions(cluster));
      const query = new AuthQuery(clock, asker, terms.options.authQuery);
      const credentials = new ListedCredentials(terms.options.users, this.#asked(query));
      this.#clusters.set(cluster, { credentials, query, asker });
    }
  }

  reconfigure(terms: IdentificationTerms): void {
    this.#terms = terms;
    this.derivations.clear();
    for (const [cluster, { credentials, query, asker }] of this.#clusters) {
      asker.reconfigure(this.#askerOptions(cluster));
      query.reconfigure(terms.options.authQuery);
      credentials.reconfigure(terms.options.users, this.#asked(query));
    }
  }

  close(): void {
    for (const { asker } of this.#clusters.values()) asker.close();
  }

  credentials(cluster: string): Credentials {
    return this.#known(cluster).credentials;
  }

  /** What auth_query has come to since the start. */
  counters(cluster: string): Readonly<AuthQueryCounters> {
    return this.#known(cluster).query.counters;
  }

  /** How clients of `cluster` log in. */
  login(cluster: string, own: OwnLoginOptions): ClientLoginOptions {
    const { rules, clientTls } = this.#terms.options;
    return {
      ...own,
      rules,
      credentials: this.credentials(cluster),
      tls: clientTls,
      random: randomBytes,
      mockKey: this.#mockKey,
      derivations: this.derivations,
    };
  }

  #known(cluster: string): Known {
    const known = this.#clusters.get(cluster);
    assert(known !== undefined, `cluster ${cluster} has no credentials`);
    return known;
  }

  #askerOptions(cluster: string): AskerOptions {
    const tls = this.#terms.serverTls.get(cluster);
    assert(tls !== undefined, `cluster ${cluster} has no TLS options`);
    return { tls, random: randomBytes, derivations: this.derivations };
  }

  #asked(query: AuthQuery): AskedUsers {
    const { options, dbnameOf } = this.#terms;
    const { authQuery, users } = options;
    return { query, termsOf: (database) => authTerms(authQuery, database, users, dbnameOf) };
  }
}
