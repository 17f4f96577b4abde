// The client_tls section: our certificates, whose certificates we believe, versions and ciphers, in PgBouncer's terms
// (https://www.pgbouncer.org/config.html#tls-settings). What OpenSSL will not take is a problem of the key that names it.

import { type CertificatePair, type ClientTlsOptions, clientTlsContext, plainClientTls } from "../auth/client-tls.ts";
import type { Report } from "./decode.ts";
import type { Path } from "./document.ts";
import { readNamedFile, readPems, type Surroundings } from "./files.ts";
import type { FileClientTls } from "./schema-access.ts";

const SECTION = "client_tls";
const CRL_REMEDY = "write the list that the authority signed, PEM: -----BEGIN X509 CRL-----";

/** Names of PgBouncer's for what OpenSSL, or here Node.js, has anyway. */
const usualCiphers: ReadonlySet<string> = new Set(["default", "secure", "fast", "normal"]);
const olderVersions = new Set(["tlsv1.0", "tlsv1.1"]);
const versions = new Map([
  ["tlsv1.2", "TLSv1.2"],
  ["tlsv1.3", "TLSv1.3"],
] as const);

/** Null, reported, when it cannot be used. */
export function resolveClientTls(file: FileClientTls, around: Surroundings): ClientTlsOptions | null {
  const { report } = around;
  if (file.mode === "disable") {
    const set = Object.entries(file).filter(([key, value]) => key !== "mode" && value !== undefined);
    for (const [key] of set) report.warning([SECTION, key], "is not used: mode is disable", "set mode: allow");
    return plainClientTls("disable", null);
  }
  const bounds = versionsOf(file.protocols ?? "secure", report);
  if (file.cert_file === undefined && file.key_file === undefined) {
    report.problem([SECTION, "mode"], `is ${file.mode}, but there is no certificate`, "add cert_file and key_file");
    return null;
  }
  const demanded = file.mode === "verify-ca" || file.mode === "verify-full";
  if (demanded && file.ca_file === undefined) {
    const message = `is ${file.mode}, but there is no authority to vouch for clients`;
    report.problem([SECTION, "mode"], message, "add ca_file");
    return null;
  }
  if (file.crl_file !== undefined && file.ca_file === undefined) {
    report.warning([SECTION, "crl_file"], "is not used: without ca_file clients show no certificate", "add ca_file");
  }
  const pems = readPems(file, [SECTION], around);
  const crl = file.crl_file === undefined ? null : readNamedFile(file.crl_file, [SECTION, "crl_file"], around);
  const sni = readNamed(file, around);
  if (pems?.cert == null || pems.key === null || bounds === null || sni === null) return null;
  if (file.crl_file !== undefined && crl === null) return null;
  const options: ClientTlsOptions = {
    ...plainClientTls(file.mode, { cert: pems.cert, key: pems.key }),
    ...bounds,
    sni,
    ca: pems.ca,
    crl,
    ciphers: ciphersOf(file.ciphers),
    tls13Ciphers: file.tls13_ciphers ?? null,
    ecdhCurve: file.ecdhcurve === undefined || file.ecdhcurve === "auto" ? null : file.ecdhcurve,
  };
  return optionsWork(options, report) ? options : null;
}

/** What OpenSSL calls a list of ciphers; null for its own choice. */
export function ciphersOf(written: string | undefined): string | null {
  if (written === undefined || usualCiphers.has(written)) return null;
  return written === "all" ? "ALL:!aNULL:!eNULL" : written;
}

/** PgBouncer's list of versions, or one of its names for such a list. */
export function versionsOf(
  written: string,
  report: Report,
  path: Path = [SECTION, "protocols"],
): Pick<ClientTlsOptions, "minVersion" | "maxVersion"> | null {
  const both = { minVersion: "TLSv1.2", maxVersion: "TLSv1.3" } as const;
  if (written === "secure") return both;
  const remedy = "write secure, tlsv1.2, tlsv1.3, or tlsv1.2,tlsv1.3";
  const names = written.split(/[\s,:]+/).filter((name) => name !== "");
  const older =
    written === "all" || written === "legacy" || names.some((name) => olderVersions.has(name.toLowerCase()));
  if (older) {
    report.problem(path, `is ${written}: versions before TLS 1.2 can be broken, and are not spoken`, remedy);
    return null;
  }
  const known = names.map((name) => [...versions].find(([theirs]) => theirs === name.toLowerCase())?.[1]);
  const [first] = known;
  if (first === undefined || known.includes(undefined)) {
    report.problem(path, `"${written}" is not a list of TLS versions`, remedy);
    return null;
  }
  return known.every((version) => version === first) ? { minVersion: first, maxVersion: first } : both;
}

/** The certificates for other names. */
function readNamed(file: FileClientTls, around: Surroundings): ReadonlyMap<string, CertificatePair> | null {
  const pairs = new Map<string, CertificatePair>();
  let complete = true;
  for (const [name, files] of Object.entries(file.sni ?? {})) {
    const path: Path = [SECTION, "sni", name];
    const pems = readPems(files, path, around);
    if (pems?.cert != null && pems.key !== null) pairs.set(name.toLowerCase(), { cert: pems.cert, key: pems.key });
    else complete = false;
  }
  return complete ? pairs : null;
}

/** Tries each setting that only OpenSSL can judge, alone, so that the right key is named. */
function optionsWork(options: ClientTlsOptions, report: Report): boolean {
  const plain = { ...options, sni: new Map(), crl: null, ciphers: null, tls13Ciphers: null, ecdhCurve: null };
  const cases = [
    ["crl_file", { crl: options.crl }, "holds no usable list of revoked certificates", CRL_REMEDY],
    ["ciphers", { ciphers: options.ciphers }, "is not a list of ciphers", "write it as OpenSSL does: openssl ciphers"],
    [
      "tls13_ciphers",
      { tls13Ciphers: options.tls13Ciphers },
      "is not a list of TLS 1.3 ciphers",
      "write such as TLS_AES_256_GCM_SHA384",
    ],
    ["ecdhcurve", { ecdhCurve: options.ecdhCurve }, "is not a curve", "write auto, or such as X25519:prime256v1"],
  ] as const;
  for (const [key, part, message, remedy] of cases) {
    try {
      clientTlsContext({ ...plain, ...part });
    } catch (error) {
      report.problem([SECTION, key], `${message} (${error instanceof Error ? error.message : String(error)})`, remedy);
      return false;
    }
  }
  return true;
}
