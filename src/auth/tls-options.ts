// From certificates to what node:tls wants, in both directions, with libpq's meaning of the modes
// (https://www.postgresql.org/docs/current/libpq-ssl.html) towards servers and PgBouncer's (client_tls_sslmode) towards
// clients. Pure: file contents come in, nothing is read or connected here.

import { isIP } from "node:net";
import { type ConnectionOptions, createSecureContext, type SecureContext } from "node:tls";

/** TLS towards clients. `cert` and `key` are PEM texts; both are needed unless the mode is `disable`. */
export interface ClientTlsOptions {
  readonly mode: "disable" | "allow" | "prefer" | "require";
  readonly cert: string | null;
  readonly key: string | null;
}

/** `off`: answer an SSLRequest with `N`. `required`: refuse a startup packet in clear. */
export type ClientTls =
  | { readonly kind: "off" }
  | { readonly kind: "on"; readonly required: boolean; readonly context: SecureContext };

/** The protocol name of direct TLS connections (PostgreSQL 17 on), for `ALPNProtocols` on either side. */
export const ALPN_POSTGRESQL = "postgresql";

const MIN_VERSION = "TLSv1.2";

/** Throws OpenSSL's error when the certificate or the key cannot be used, or do not belong together. */
export function clientTlsContext(options: ClientTlsOptions): ClientTls {
  if (options.mode === "disable") return { kind: "off" };
  if (options.cert === null || options.key === null) throw new Error("a certificate and its key are needed");
  const context = createSecureContext({ cert: options.cert, key: options.key, minVersion: MIN_VERSION });
  return { kind: "on", required: options.mode === "require", context };
}

/** TLS towards PostgreSQL. PEM texts; `ca: null` means the system's trusted certificates. */
export interface ServerTlsOptions {
  readonly sslmode: "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full";
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

/**
 * How to ask a server for TLS. `plain` says what an unencrypted connection is to this mode: the `first` choice (TLS only after a
 * refusal), the `fallback` when the server answers `N`, or `never` allowed.
 */
export type ServerTls =
  | { readonly kind: "off" }
  | {
      readonly kind: "on";
      readonly plain: "first" | "fallback" | "never";
      /** For `tls.connect({ socket, ...connectionOptions(host) })`. */
      connectionOptions(host: string): ConnectionOptions;
    };

const plainRule = {
  allow: "first",
  prefer: "fallback",
  require: "never",
  "verify-ca": "never",
  "verify-full": "never",
} as const;

/** Throws OpenSSL's error when a certificate or the key cannot be used. */
export function serverTls(options: ServerTlsOptions): ServerTls {
  const { sslmode, ca, cert, key } = options;
  if (sslmode === "disable") return { kind: "off" };
  const secureContext = createSecureContext({
    minVersion: MIN_VERSION,
    ...(ca === null ? {} : { ca }),
    ...(cert === null ? {} : { cert }),
    ...(key === null ? {} : { key }),
  });
  const checksChain = sslmode === "verify-ca" || sslmode === "verify-full" || (sslmode === "require" && ca !== null);
  const checksHost = sslmode === "verify-full";
  return {
    kind: "on",
    plain: plainRule[sslmode],
    connectionOptions: (host) => ({
      secureContext,
      host,
      rejectUnauthorized: checksChain,
      ALPNProtocols: [ALPN_POSTGRESQL],
      // As libpq does: a name for SNI only where there is one.
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...(checksHost ? {} : { checkServerIdentity: () => undefined }),
    }),
  };
}
