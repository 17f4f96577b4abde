// What clients are recognized by, for all listeners: rules, credentials of each cluster, our side of TLS. Outlives reloads, which
// bring new rules and new secrets for the logins to come.

import { randomBytes } from "node:crypto";
import type { AccessRules } from "../auth/access.ts";
import type { ClientTls } from "../auth/client-tls.ts";
import { type Credentials, ListedCredentials } from "../auth/credentials.ts";
import { ScramDerivations } from "../auth/scram.ts";
import type { Secret } from "../auth/secret.ts";
import { assert } from "../core/assert.ts";
import type { ClientLoginOptions } from "./client-login.ts";

export interface IdentificationOptions {
  readonly rules: AccessRules;
  /** Users of the userlist. */
  readonly users: ReadonlyMap<string, Secret>;
  readonly clientTls: ClientTls;
}

/** What a listener adds for its own clients. */
type OwnLoginOptions = Pick<ClientLoginOptions, "startup" | "admit">;

const MOCK_KEY_BYTES = 32;

export class Identification {
  readonly derivations = new ScramDerivations();
  readonly #mockKey = randomBytes(MOCK_KEY_BYTES);
  readonly #credentials = new Map<string, ListedCredentials>();
  #options: IdentificationOptions;

  constructor(clusters: Iterable<string>, options: IdentificationOptions) {
    this.#options = options;
    for (const cluster of clusters) this.#credentials.set(cluster, new ListedCredentials(options.users));
  }

  reconfigure(options: IdentificationOptions): void {
    this.#options = options;
    for (const credentials of this.#credentials.values()) credentials.reconfigure(options.users);
  }

  credentials(cluster: string): Credentials {
    const known = this.#credentials.get(cluster);
    assert(known !== undefined, `cluster ${cluster} has no credentials`);
    return known;
  }

  /** How clients of `cluster` log in. */
  login(cluster: string, own: OwnLoginOptions): ClientLoginOptions {
    const { rules, clientTls } = this.#options;
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
}
