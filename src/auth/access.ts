// Who may log in at all, and how: the question that a login asks first, before anything is known about its user. The answer says
// nothing about whether the user exists.

import { ProxyError } from "../core/errors.ts";
import { cutName } from "./hba-names.ts";

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
  /** The client's certificate, if our authorities vouch for it; null when it has shown none. */
  readonly certificate: PeerCertificateFacts | null;
}

/** Who a certificate says that its owner is. */
export interface PeerCertificateFacts {
  /** Null when it has none. */
  readonly commonName: string | null;
  /** In the form of RFC 2253, as PostgreSQL compares it. */
  readonly distinguishedName: string;
}

export type AccessDecision =
  | {
      readonly kind: "method";
      readonly method: ClientAuthenticationMethod;
      /** What is said to a client that has proved its password, and may not come in all the same: its certificate is another's. */
      readonly afterwards: ProxyError | null;
    }
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
    this.#decision = { kind: "method", method, afterwards: null };
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

/** A certificate that names its user, from everybody (auth.type cert). */
export class CertificateOfUser implements AccessRules {
  decide({ user, certificate }: AccessRequest): AccessDecision {
    if (certificate === null) return { kind: "refused", error: certificateMissing() };
    if (certificate.commonName === cutName(user)) return { kind: "method", method: "trust", afterwards: null };
    return { kind: "refused", error: certificateFailed(user) };
  }
}

/** What PostgreSQL says to a client that has shown no certificate where one is demanded. */
export const certificateMissing = (): ProxyError =>
  new ProxyError("invalid_authorization", "connection requires a valid client certificate");

/** What PostgreSQL says to a certificate that is not its user's. */
export const certificateFailed = (user: string): ProxyError =>
  new ProxyError("invalid_authorization", `certificate authentication failed for user "${user}"`);
