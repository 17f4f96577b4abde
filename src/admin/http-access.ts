// Who may do what over HTTP: a Bearer token is an administrator's; users log in by basic auth with their PostgreSQL password (RFC 7617),
// of whom some may change things and others look. Without a token and users everybody may look, and nobody may change anything.

import { randomBytes } from "node:crypto";
import { ClientAuthentication } from "../auth/client-authentication.ts";
import { equalSecrets } from "../auth/password.ts";
import { SALT_BYTES } from "../auth/scram.ts";
import type { Secret } from "../auth/secret.ts";
import type { Clock } from "../core/clock.ts";
import type { Millis } from "../core/units.ts";
import { FailedLogins, type FailureLimits } from "../proxy/failed-logins.ts";

/** What a request may do. */
export type Right = "read" | "administer";

export interface HttpAccessOptions {
  readonly token: string | null;
  readonly adminUsers: readonly string[];
  readonly statsUsers: readonly string[];
  /** Their secrets. */
  readonly users: ReadonlyMap<string, Secret>;
  readonly failures: FailureLimits;
}

export type Judgement =
  /** `who` is for the log. */
  | { readonly kind: "granted"; readonly who: string }
  /** It has not said who it is, or not rightly: answered after `delay`. `user` as it said. */
  | { readonly kind: "unknown"; readonly user: string | null; readonly delay: Millis }
  /** It is known, or nobody has to be, and may not do this. */
  | { readonly kind: "forbidden" }
  /** Too many from its address have failed. */
  | { readonly kind: "blocked" };

interface Person {
  readonly who: string;
  readonly administers: boolean;
}

export class HttpAccess {
  #options: HttpAccessOptions;
  readonly #failures: FailedLogins;
  readonly #mockKey = randomBytes(SALT_BYTES);

  constructor(clock: Clock, options: HttpAccessOptions) {
    this.#options = options;
    this.#failures = new FailedLogins(clock, options.failures);
  }

  /** Takes new secrets and limits. */
  reconfigure(options: HttpAccessOptions): void {
    this.#options = options;
    this.#failures.reconfigure(options.failures);
  }

  /** Whether nobody has to log in. */
  get open(): boolean {
    const { token, adminUsers, statsUsers } = this.#options;
    return token === null && adminUsers.length === 0 && statsUsers.length === 0;
  }

  /** Ways to log in, as a WWW-Authenticate header names them. */
  get challenge(): string {
    const { token, adminUsers, statsUsers } = this.#options;
    const bearer = token === null ? [] : ['Bearer realm="pgsteer"'];
    const basic = adminUsers.length + statsUsers.length === 0 ? [] : ['Basic realm="pgsteer", charset="UTF-8"'];
    return [...bearer, ...basic].join(", ");
  }

  /** `authorization`: the header of that name; `address`: of the peer. */
  judge(right: Right, authorization: string | undefined, address: string): Judgement {
    if (this.open) return right === "read" ? { kind: "granted", who: "anybody" } : { kind: "forbidden" };
    if (this.#failures.blocked(address)) return { kind: "blocked" };
    const person = authorization === undefined ? null : this.#recognize(authorization);
    if (person === null) {
      const user = authorization === undefined ? null : userOf(authorization);
      // Who has said nothing has tried nothing: people and browsers ask like that first.
      const delay = this.#failures.failed(authorization === undefined ? null : address);
      return { kind: "unknown", user, delay };
    }
    return right === "administer" && !person.administers ? { kind: "forbidden" } : { kind: "granted", who: person.who };
  }

  #recognize(authorization: string): Person | null {
    const { token } = this.#options;
    const bearer = /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
    if (bearer !== undefined) {
      return token !== null && equalSecrets(bearer, token) ? { who: "token", administers: true } : null;
    }
    const written = credentialsOf(authorization);
    return written === null ? null : this.#checkPassword(written.user, written.password);
  }

  #checkPassword(user: string, password: string): Person | null {
    const { users, adminUsers, statsUsers } = this.#options;
    const administers = adminUsers.includes(user);
    const listed = administers || statsUsers.includes(user);
    const secret = listed ? (users.get(user) ?? null) : null;
    // Derives once, whatever is kept of whomever: its time does not tell who exists.
    const options = { method: "password", user, secret, random: randomBytes, mockKey: this.#mockKey } as const;
    const login = new ClientAuthentication(options);
    login.start();
    const right = login.answer(Buffer.from(`${password}\0`)).kind === "ok";
    return right && secret !== null ? { who: user, administers } : null;
  }
}

/** User and password of a Basic header; null where it is none. */
function credentialsOf(authorization: string): { readonly user: string; readonly password: string } | null {
  const encoded = /^Basic +([A-Za-z0-9+/=]+) *$/i.exec(authorization)?.[1];
  if (encoded === undefined) return null;
  const text = Buffer.from(encoded, "base64").toString("utf8");
  const colon = text.indexOf(":");
  if (colon < 0 || text.includes("\0")) return null;
  return { user: text.slice(0, colon), password: text.slice(colon + 1) };
}

const userOf = (authorization: string): string | null => credentialsOf(authorization)?.user ?? null;
