// Settings of a cluster: where its topology comes from, how its members are probed, how its servers are reached.

import { z } from "zod";
import { caFile, certFile, flag, keyFile, passwordRows } from "./schema-rows.ts";
import { hostPort, httpUrl, positiveDuration, text } from "./values.ts";

const etcdSection = z.strictObject({
  endpoints: z.array(httpUrl).min(1).max(64).describe("URLs of etcd's members, such as http://127.0.0.1:2379"),
  user: text.optional().describe("etcd user, where etcd asks for one"),
  ...passwordRows,
  ca_file: caFile,
  cert_file: certFile,
  key_file: keyFile,
});

const patroniSection = z.strictObject({
  urls: z
    .array(httpUrl)
    .max(64)
    .prefault([])
    .describe("Patroni REST URLs of some or all members, such as http://127.0.0.1:8008"),
  user: text.optional().describe("user of Patroni's REST API, where it asks for one"),
  ...passwordRows,
  ca_file: caFile,
  cert_file: certFile,
  key_file: keyFile,
});

const staticSection = z.strictObject({
  hosts: z
    .array(hostPort)
    .min(1)
    .max(64)
    .describe("the PostgreSQL servers, host:port or /directory/of/socket:port; roles are found by asking them"),
});

const probeSection = z.strictObject({
  user: text
    .prefault("pgsteer")
    .describe("role that asks each member whether it is in recovery and how far it has replayed"),
  ...passwordRows,
  database: text.prefault("postgres").describe("database to which the probes connect"),
  interval: positiveDuration.prefault("1s").describe("time between two probes of a member"),
  timeout: positiveDuration.prefault("2s").describe("a probe that takes longer counts as unreachable"),
});

const serverTlsSection = z.strictObject({
  sslmode: z
    .enum(["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
    .default("prefer")
    .describe("TLS towards PostgreSQL, as libpq's sslmode"),
  ca_file: text
    .optional()
    .describe("file with the certificates, PEM, that the servers' must descend from, or `system` for the system's"),
  cert_file: certFile,
  key_file: keyFile,
  crl_file: text
    .optional()
    .describe("file with the lists of revoked certificates, PEM, one of each authority in the servers' chains"),
  protocols: text.optional().describe("versions of TLS: secure (default; 1.2 and 1.3), tlsv1.2, tlsv1.3"),
  ciphers: text.optional().describe("ciphers for TLS 1.2 as OpenSSL writes them; default: Node.js's"),
  tls13_ciphers: text.optional().describe("ciphers for TLS 1.3, parted by colons; all when omitted"),
  sslnegotiation: z
    .enum(["postgres", "direct"])
    .default("postgres")
    .describe("direct: TLS at once, without asking first; servers from PostgreSQL 17 on"),
  channel_binding: z
    .enum(["disable", "prefer", "require"])
    .default("prefer")
    .describe("whether SCRAM logins are bound to the server's certificate, as libpq's channel_binding"),
  require_auth: text
    .optional()
    .describe("methods by which servers may ask for proof, such as `scram-sha-256` or `!password,!none`; as libpq's"),
  allow_clear_text: flag
    .default(false)
    .describe("send passwords in clear over a network without TLS, where a server asks for that"),
});

/** One cluster: where its topology comes from, how it is probed, how its servers are reached. */
export const clusterSchema = z.strictObject({
  source: z
    .enum(["etcd", "patroni", "static"])
    .describe("where the topology comes from: etcd, patroni (REST) or static"),
  scope: text.optional().describe("Patroni's scope, its name for the cluster; the cluster's name here when omitted"),
  namespace: text.prefault("/service").describe("Patroni's namespace in the DCS"),
  etcd: etcdSection.optional().describe("how to reach etcd"),
  patroni: patroniSection.optional().describe("how to reach Patroni's REST API"),
  static: staticSection.optional().describe("the servers of a static cluster"),
  probe: probeSection.prefault({}).describe("SQL probes of each member"),
  server_tls: serverTlsSection.prefault({}).describe("TLS towards PostgreSQL"),
});

export type FileCluster = z.output<typeof clusterSchema>;
