// TLS towards clients, with PgBouncer's meaning of the modes and settings (https://www.pgbouncer.org/config.html#tls-settings). Pure:
// file contents come in, nothing is read here. Sessions can be resumed by tickets, whose keys belong to one context: after a reload
// of certificates, authorities or lists of revoked ones nobody resumes what was agreed on before.

import { constants } from "node:crypto";
import { createSecureContext, DEFAULT_CIPHERS, type SecureContext } from "node:tls";

/** PEM texts. */
export interface CertificatePair {
  readonly cert: string;
  readonly key: string;
}

export interface ClientTlsOptions {
  readonly mode: "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full";
  /** Null exactly when the mode is `disable`. */
  readonly own: CertificatePair | null;
  /** Certificates by the name that a client asks for, in lower case; one that begins with `*.` for all names of one level below. */
  readonly sni: ReadonlyMap<string, CertificatePair>;
  /** Of the authorities that vouch for clients. Null: clients are not asked for a certificate. */
  readonly ca: string | null;
  /** Certificates that count no more; each authority of a chain needs its list then. */
  readonly crl: string | null;
  readonly minVersion: "TLSv1.2" | "TLSv1.3";
  readonly maxVersion: "TLSv1.2" | "TLSv1.3";
  /** As OpenSSL writes lists, for TLS 1.2; null: Node.js's. */
  readonly ciphers: string | null;
  /** The same for TLS 1.3. */
  readonly tls13Ciphers: string | null;
  /** Null: OpenSSL's choice. */
  readonly ecdhCurve: string | null;
}

/** `off`: answer an SSLRequest with `N`. */
export type ClientTls =
  | { readonly kind: "off" }
  | {
      readonly kind: "on";
      /** Refuse a startup packet in clear. */
      readonly required: boolean;
      /** What becomes of clients' certificates: not asked for; asked for, and whoever has none is let through; demanded. */
      readonly certificates: "ignored" | "asked" | "demanded";
      readonly context: SecureContext;
      /** Those for other names than the usual one; null: there are none. */
      contextFor: ((serverName: string) => SecureContext) | null;
    };

/** Names the application whose sessions are resumed: without it OpenSSL breaks off those that show a certificate. */
const SESSION_ID_CONTEXT = "pgsteer";
/** How long a session can be resumed, seconds; a certificate that runs out meanwhile counts for so long. */
const SESSION_TIMEOUT_S = 300;

/** TLS that asks for nothing but that one certificate. */
export const plainClientTls = (mode: ClientTlsOptions["mode"], own: CertificatePair | null): ClientTlsOptions => ({
  mode,
  own,
  sni: new Map(),
  ca: null,
  crl: null,
  minVersion: "TLSv1.2",
  maxVersion: "TLSv1.3",
  ciphers: null,
  tls13Ciphers: null,
  ecdhCurve: null,
});

/** Throws OpenSSL's error when a certificate, a key or a list of ciphers cannot be used, or do not belong together. */
export function clientTlsContext(options: ClientTlsOptions): ClientTls {
  const { mode, own, sni, ca } = options;
  if (mode === "disable") return { kind: "off" };
  if (own === null) throw new Error("a certificate and its key are needed");
  const context = contextOf(own, options);
  const named = new Map([...sni].map(([name, pair]) => [name, contextOf(pair, options)]));
  const demanded = mode === "verify-ca" || mode === "verify-full";
  return {
    kind: "on",
    required: mode === "require" || demanded,
    certificates: demanded ? "demanded" : ca === null ? "ignored" : "asked",
    context,
    contextFor: named.size === 0 ? null : (serverName) => contextNamed(serverName, named) ?? context,
  };
}

function contextNamed(serverName: string, contexts: ReadonlyMap<string, SecureContext>): SecureContext | undefined {
  const name = serverName.toLowerCase().replace(/\.$/, "");
  return contexts.get(name) ?? contexts.get(name.replace(/^[^.]*/, "*"));
}

function contextOf({ cert, key }: CertificatePair, options: ClientTlsOptions): SecureContext {
  const { ca, crl, minVersion, maxVersion, ecdhCurve } = options;
  return createSecureContext({
    cert,
    key,
    minVersion,
    maxVersion,
    ciphers: cipherList(options),
    ecdhCurve: ecdhCurve ?? "auto",
    honorCipherOrder: true,
    // A client that could have keys agreed on anew, as often as it likes, could keep us busy; TLS 1.3 has no such thing.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_COMPRESSION,
    sessionIdContext: SESSION_ID_CONTEXT,
    sessionTimeout: SESSION_TIMEOUT_S,
    ...(ca === null ? {} : { ca }),
    ...(crl === null ? {} : { crl }),
  });
}

/** One list for both versions, as Node.js wants it: a version without ciphers would be switched off, which throws. */
export function cipherList({ ciphers, tls13Ciphers }: Pick<ClientTlsOptions, "ciphers" | "tls13Ciphers">): string {
  const usual = DEFAULT_CIPHERS.split(":");
  const newer = tls13Ciphers ?? usual.filter((name) => name.startsWith("TLS_")).join(":");
  if (newer.split(":").some((name) => !name.startsWith("TLS_"))) throw new Error("names of TLS 1.3 begin with TLS_");
  const older = ciphers ?? usual.filter((name) => !name.startsWith("TLS_")).join(":");
  return `${newer}:${older}`;
}
