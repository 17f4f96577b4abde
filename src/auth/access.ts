// Who may log in at all, and how: the question that a login asks first, before anything is known about its user. The answer says
// nothing about whether the user exists.

import { ProxyError } from "../core/errors.ts";

/** How clients prove who they are. */
export type ClientAuthenticationMethod = "trust" | "password" | "md5" | "scram-sha-256";

/** What a login is judged by. */
export interface AccessRequest {
  /** The client's IP address; null over a Unix-domain socket. */
  readonly address: string | null;
  readonly tls: boolean;
  readonly user: string;
  readonly database: string;
  /** What it asked to replicate; null for an ordinary session. */
  readonly replication: "physical" | "database" | null;
}

export type AccessDecision =
  | { readonly kind: "method"; readonly method: ClientAuthenticationMethod }
  | { readonly kind: "refused"; readonly error: ProxyError };

/** A value; a reload makes a new one. */
export interface AccessRules {
  decide(request: AccessRequest): AccessDecision;
}

/** One method for everybody (auth.type). */
export class OneMethod implements AccessRules {
  readonly #decision: AccessDecision;
  readonly #allowClearText: boolean;

  /** `allowClearText`: method `password` may be used without TLS. */
  constructor(method: ClientAuthenticationMethod, allowClearText: boolean) {
    this.#decision = { kind: "method", method };
    this.#allowClearText = allowClearText;
  }

  decide(request: AccessRequest): AccessDecision {
    return clearTextRefusal(this.#decision, request, this.#allowClearText) ?? this.#decision;
  }
}

/** Why a password may not cross this connection, where it would in clear; null when it may. */
export function clearTextRefusal(
  decision: AccessDecision,
  { tls, address }: AccessRequest,
  allowClearText: boolean,
): AccessDecision | null {
  if (decision.kind !== "method" || decision.method !== "password") return null;
  if (tls || allowClearText || address === null) return null;
  const error = new ProxyError("invalid_authorization", "password authentication requires an encrypted connection", {
    hint: "Connect with sslmode=require.",
  });
  return { kind: "refused", error };
}
