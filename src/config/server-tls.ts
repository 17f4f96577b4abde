// TLS towards PostgreSQL, and what a server may ask of pgsteer: the section server_tls of a cluster, in libpq's words.

import { parseRequireAuth, type ServerAuthRules } from "../auth/server-rules.ts";
import { type ServerTlsOptions, serverTls } from "../auth/tls-options.ts";
import { ciphersOf, versionsOf } from "./client-tls.ts";
import type { Path } from "./document.ts";
import { readNamedFile, readPems, type Surroundings } from "./files.ts";
import type { FileCluster } from "./schema-cluster.ts";

type FileServerTls = FileCluster["server_tls"];

/** Checks the section at `path`; mistakes are reported. */
export function resolveServerTls(file: FileServerTls, path: Path, around: Surroundings): ServerTlsOptions {
  const { sslmode, ca_file } = file;
  reportAuthority(file, path, around);
  const { ca_file: _system, ...rest } = file;
  const pems = readPems(ca_file === "system" ? rest : file, path, around) ?? { ca: null, cert: null, key: null };
  const crl = file.crl_file === undefined ? null : readNamedFile(file.crl_file, [...path, "crl_file"], around);
  const options: ServerTlsOptions = {
    sslmode,
    ...pems,
    crl,
    ...versionsOf(file.protocols ?? "secure", around.report, [...path, "protocols"]),
    ciphers: ciphersOf(file.ciphers),
    tls13Ciphers: file.tls13_ciphers ?? null,
    negotiation: file.sslnegotiation,
    rules: rulesOf(file, path, around),
  };
  reportUnusable(options, path, around);
  return options;
}

function reportAuthority(
  { sslmode, ca_file, crl_file, sslnegotiation }: FileServerTls,
  path: Path,
  around: Surroundings,
): void {
  const { report } = around;
  const verifies = sslmode === "verify-ca" || sslmode === "verify-full";
  if (verifies && ca_file === undefined) {
    report.problem([...path, "sslmode"], `is ${sslmode}, but there is no ca_file`, "add ca_file, or ca_file: system");
  }
  if (ca_file === "system" && sslmode !== "verify-full") {
    report.problem([...path, "ca_file"], "is system, which proves nothing here", "set sslmode: verify-full");
  } else if (ca_file !== undefined && !verifies && sslmode !== "require") {
    report.warning([...path, "ca_file"], `is not used: sslmode is ${sslmode}`, "set sslmode: verify-full");
  }
  if (crl_file !== undefined && !(verifies || (sslmode === "require" && ca_file !== undefined))) {
    report.warning([...path, "crl_file"], "is not used: certificates are not verified", "set sslmode: verify-full");
  }
  if (sslnegotiation === "direct" && !verifies && sslmode !== "require") {
    const message = `is direct, which leaves no way back to a connection in clear, but sslmode is ${sslmode}`;
    report.problem([...path, "sslnegotiation"], message, "set sslmode: require or stronger");
  }
}

function rulesOf(file: FileServerTls, path: Path, { report }: Surroundings): ServerAuthRules {
  const { channel_binding, require_auth, allow_clear_text, sslmode } = file;
  const requireAuth = require_auth === undefined ? null : parseRequireAuth(require_auth);
  if (require_auth !== undefined && requireAuth === null) {
    const remedy =
      "list some of password, md5, gss, sspi, scram-sha-256, none; or each with ! in front, for all others";
    report.problem([...path, "require_auth"], "is not a list of methods", remedy);
  }
  if (channel_binding === "require" && sslmode === "disable") {
    report.problem([...path, "channel_binding"], "is require, but sslmode is disable", "set sslmode: require");
  }
  return { channelBinding: channel_binding, requireAuth, allowClearText: allow_clear_text };
}

/** What readPems has passed alone is tried together with what it does not know of. */
function reportUnusable(options: ServerTlsOptions, path: Path, { report }: Surroundings): void {
  for (const [key, part, remedy] of [
    ["crl_file", { crl: options.crl ?? null }, "check that it is a list of revoked certificates in PEM"],
    ["ciphers", { ciphers: options.ciphers ?? null }, "write what `openssl ciphers` takes"],
    ["tls13_ciphers", { tls13Ciphers: options.tls13Ciphers ?? null }, "write such as TLS_AES_256_GCM_SHA384"],
  ] as const) {
    try {
      serverTls({ sslmode: "require", ca: null, cert: null, key: null, ...part });
    } catch (error) {
      report.problem([...path, key], `cannot be used (${error instanceof Error ? error.message : error})`, remedy);
    }
  }
}
