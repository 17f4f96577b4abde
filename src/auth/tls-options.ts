// From certificates to what node:tls wants towards servers, with libpq's meaning of the modes
// (https://www.postgresql.org/docs/current/libpq-ssl.html). Pure: file contents come in, nothing is read or connected here. Towards
// clients: client-tls.ts.

import { isIP } from "node:net";
import { type ConnectionOptions, createSecureContext } from "node:tls";
import { cipherList } from "./client-tls.ts";
import type { ServerAuthRules } from "./server-rules.ts";

/** The protocol name of direct TLS connections (PostgreSQL 17 on), for `ALPNProtocols` on either side. */
export const ALPN_POSTGRESQL = "postgresql";

const MIN_VERSION = "TLSv1.2";
const MAX_VERSION = "TLSv1.3";

/** TLS towards PostgreSQL. PEM texts; `ca: null` means the system's trusted certificates. */
export interface ServerTlsOptions {
  readonly sslmode: "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full";
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  /** Certificates that count no more, PEM. Each authority of the chain needs a list then, as with libpq. */
  readonly crl?: string | null;
  readonly minVersion?: "TLSv1.2" | "TLSv1.3";
  readonly maxVersion?: "TLSv1.2" | "TLSv1.3";
  /** As OpenSSL writes lists of ciphers, for TLS 1.2; null: Node.js's. */
  readonly ciphers?: string | null;
  /** The same for TLS 1.3. */
  readonly tls13Ciphers?: string | null;
  /** `direct`: TLS at once, without asking, as servers from PostgreSQL 17 on take it. */
  readonly negotiation?: "postgres" | "direct";
  readonly rules?: ServerAuthRules;
}

/**
 * How to ask a server for TLS. `plain` says what an unencrypted connection is to this mode: the `first` choice (TLS only after a
 * refusal), the `fallback` when the server answers `N`, or `never` allowed. `rules`: what it may ask of us then; libpq's when absent.
 */
export type ServerTls =
  | { readonly kind: "off"; readonly rules?: ServerAuthRules }
  | {
      readonly kind: "on";
      readonly rules?: ServerAuthRules;
      /** TLS at once; the server has to choose ALPN_POSTGRESQL. */
      readonly direct?: boolean;
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
  const { sslmode, ca, cert, key, crl = null, ciphers = null, tls13Ciphers = null } = options;
  const rules = options.rules === undefined ? {} : { rules: options.rules };
  if (sslmode === "disable") return { kind: "off", ...rules };
  const secureContext = createSecureContext({
    minVersion: options.minVersion ?? MIN_VERSION,
    maxVersion: options.maxVersion ?? MAX_VERSION,
    ciphers: cipherList({ ciphers, tls13Ciphers }),
    ...(crl === null ? {} : { crl }),
    ...(ca === null ? {} : { ca }),
    ...(cert === null ? {} : { cert }),
    ...(key === null ? {} : { key }),
  });
  const checksChain = sslmode === "verify-ca" || sslmode === "verify-full" || (sslmode === "require" && ca !== null);
  const checksHost = sslmode === "verify-full";
  return {
    kind: "on",
    ...rules,
    direct: options.negotiation === "direct",
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
