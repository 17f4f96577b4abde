// Settings of who may come in: how clients prove who they are, TLS towards them, what strangers may do, HTTP.

import { z } from "zod";
import { certFile, count, countOrNone, flag, keyFile, passwordRows } from "./schema-rows.ts";
import { duration, listenAddress, listenPort, network, text } from "./values.ts";

/** How clients prove who they are. */
export const authSchema = z.strictObject({
  type: z
    .enum(["scram-sha-256", "md5", "password", "trust", "cert", "hba"])
    .default("scram-sha-256")
    .describe("how clients log in; cert: by a certificate that names its user; hba: as the rules of hba_file say"),
  hba_file: text.optional().describe("file with rules who may log in and how, as PostgreSQL's pg_hba.conf"),
  ident_file: text
    .optional()
    .describe("file with maps from certificates' names to users, as PostgreSQL's pg_ident.conf"),
  file: text.optional().describe('file with one `"user" "password or secret"` per line, as PgBouncer\'s userlist.txt'),
  query: text
    .optional()
    .describe(
      "SQL that returns name and secret of the user $1, whom file does not list (default: PgBouncer's, from pg_authid)",
    ),
  user: text.optional().describe("role that runs query; without it nobody is asked for"),
  ...passwordRows,
  dbname: text.optional().describe("database in which query runs, as clients name it; the client's own when omitted"),
  query_age_max: duration
    .prefault(0)
    .describe("an answer to query serves other logins of its user for so long; 0: each login asks"),
  query_stale_max: duration
    .prefault("1h")
    .describe("while no server can be asked, the last answer to query counts for so long; 0: it does not"),
  allow_clear_text: flag.default(false).describe("let type password send passwords over connections without TLS"),
  admin_users: z
    .array(text)
    .max(1_000)
    .default([])
    .describe("users who may do over HTTP what changes something, and look at everything"),
  stats_users: z.array(text).max(1_000).default([]).describe("users who may look at everything over HTTP"),
});

/** TLS towards clients. */
export const clientTlsSchema = z.strictObject({
  mode: z
    .enum(["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
    .default("disable")
    .describe("disable, allow or prefer (if the client asks), require, verify-ca or verify-full (a certificate, too)"),
  cert_file: certFile,
  key_file: keyFile,
  ca_file: text
    .optional()
    .describe("file with the certificates, PEM, that clients' must descend from; without it they are asked for none"),
  crl_file: text
    .optional()
    .describe("file with the certificates of clients that are revoked, PEM, as the authority lists them"),
  protocols: text.optional().describe("versions of TLS: secure (default; 1.2 and 1.3), tlsv1.2, tlsv1.3"),
  ciphers: text.optional().describe("ciphers for TLS 1.2 as OpenSSL writes them; default: Node.js's"),
  tls13_ciphers: text.optional().describe("ciphers for TLS 1.3, parted by colons; all when omitted"),
  ecdhcurve: text.optional().describe("curves for the key exchange, parted by colons; auto when omitted"),
  sni: z
    .record(text, z.strictObject({ cert_file: certFile, key_file: keyFile }))
    .optional()
    .describe("other certificates by the name that a client asks for, *.name for all names below it"),
});

/** What strangers may do. No honest client meets the defaults. */
export const limitsSchema = z.strictObject({
  max_connections_per_address: countOrNone
    .default(0)
    .describe("connections at once from one address, or one /64 of IPv6; 0: no limit but max_client_conn"),
  max_half_open: count
    .optional()
    .describe("connections that have not logged in yet; when omitted max_client_conn, but at least 1000"),
  max_half_open_per_address: count.optional().describe("of these, from one address; max_half_open when omitted"),
  tls_handshakes_per_second: countOrNone
    .default(500)
    .describe("TLS handshakes that are begun in a second, more wait for their turn; 0: any number"),
  auth_failures_per_minute: countOrNone
    .default(300)
    .describe("failed logins from one address after which its connections are refused for a while; 0: any number"),
  cancels_per_second: countOrNone
    .default(100)
    .describe("cancel requests from one address, ten seconds' worth at once; more are closed unheard; 0: any number"),
  unlimited_networks: z
    .array(network)
    .max(64)
    .prefault(["127.0.0.1", "::1"])
    .describe("networks to which no limit per address applies, but cancels_per_second"),
});

/** The HTTP endpoints: health checks, metrics, topology, status page. */
export const httpSchema = z.strictObject({
  enabled: flag.default(true).describe("whether to serve HTTP at all"),
  address: listenAddress.prefault("127.0.0.1").describe("address to listen on"),
  port: listenPort.default(7000).describe("TCP port"),
  token: text.optional().describe("an administrator's Bearer token in clear; prefer token_file or token_env"),
  token_file: text.optional().describe("file whose content is the token"),
  token_env: text.optional().describe("name of the environment variable that holds the token"),
  cert_file: certFile,
  key_file: keyFile,
  ca_file: text
    .optional()
    .describe(
      "file with certificates, PEM: clients have to show one that descends from them, but for /livez and /readyz",
    ),
});

export type FileAuth = z.output<typeof authSchema>;
export type FileClientTls = z.output<typeof clientTlsSchema>;
export type FileLimits = z.output<typeof limitsSchema>;
export type FileHttp = z.output<typeof httpSchema>;
