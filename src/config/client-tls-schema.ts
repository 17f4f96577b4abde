// The rows of the section client_tls, which client-tls.ts resolves.

import { z } from "zod";
import { text } from "./values.ts";

const certFile = text.optional().describe("file with our certificate, PEM, followed by its intermediates");
const keyFile = text.optional().describe("file with the private key of cert_file, PEM");

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

export type FileClientTls = z.output<typeof clientTlsSchema>;
