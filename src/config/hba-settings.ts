// The HBA file and the ident file of the auth section: read with all that they include, and held against the TLS that there is. Their
// own problems are told by file and line, as problems of the key that names the file.

import { readHbaFile } from "../auth/hba.ts";
import type { AccessFiles, FileProblem } from "../auth/hba-tokens.ts";
import { IdentMaps, readIdentFile } from "../auth/ident-map.ts";
import type { AuthConfig, HbaConfig } from "./config.ts";
import type { Report } from "./decode.ts";
import { fullName, type Surroundings } from "./files.ts";
import type { FileAuth, FileClientTls } from "./schema-access.ts";

/** Problems of one file that are shown; more would bury the rest. */
const FILE_PROBLEMS_MAX = 20;

const passwordMethods: ReadonlySet<string> = new Set(["scram-sha-256", "md5", "password"]);

/** Whether clients that log in by this method have a password. */
export const asksPasswords = (method: string): boolean => passwordMethods.has(method);

function reportFile(key: string, problems: readonly FileProblem[], report: Report): void {
  const inOrder = problems.toSorted((a, b) => a.file.localeCompare(b.file) || a.line - b.line);
  for (const { file, line, message, remedy } of inOrder.slice(0, FILE_PROBLEMS_MAX)) {
    report.problem(
      ["auth", key],
      line === 0 ? `${message}` : `names a file with a problem: ${file}:${line} ${message}`,
      remedy,
    );
  }
}

/** Null where the type is another, or, reported, where the files cannot be used. */
export function resolveHba(file: FileAuth, around: Surroundings): HbaConfig | null {
  const { report } = around;
  if (file.type !== "hba") {
    for (const key of ["hba_file", "ident_file"] as const) {
      if (file[key] !== undefined) report.warning(["auth", key], `is not used: type is ${file.type}`, "set type: hba");
    }
    return null;
  }
  if (file.hba_file === undefined) {
    report.problem(["auth", "hba_file"], "is missing, and type is hba", "add hba_file: the name of a file with rules");
    return null;
  }
  const files: AccessFiles = { readFile: around.readFile, listFiles: around.listFiles };
  const hba = readHbaFile(fullName(file.hba_file, around), files);
  if (!hba.ok) reportFile("hba_file", hba.problems, report);
  const ident = file.ident_file === undefined ? null : readIdentFile(fullName(file.ident_file, around), files);
  if (ident?.ok === false) reportFile("ident_file", ident.problems, report);
  if (!hba.ok || ident?.ok === false) return null;
  const maps = ident?.maps ?? new IdentMaps([]);
  return { rules: hba.rules, maps, asksPasswords: hba.rules.some(({ method }) => asksPasswords(method)) };
}

/** Holds the rules against the TLS that clients are offered. */
export function checkAccess({ type, hba }: AuthConfig, tls: FileClientTls, report: Report): void {
  const path = ["auth", type === "hba" ? "hba_file" : "type"];
  const remedy = "add client_tls.ca_file: the authorities that vouch for clients";
  if (type === "cert" && (tls.mode === "disable" || tls.ca_file === undefined)) {
    report.problem(path, "is cert, and clients are asked for no certificate", remedy);
  }
  for (const { file, line, origin, certificate } of hba?.rules ?? []) {
    const where = `${file}:${line}`;
    if (origin.kind === "never") {
      report.warning(
        path,
        `names rules of which one fits nobody: ${where} is for GSSAPI encryption`,
        "remove the line",
      );
    } else if (origin.kind === "host" && origin.tls === true && tls.mode === "disable") {
      report.warning(
        path,
        `names rules of which one fits nobody: ${where} is for TLS, and client_tls.mode is disable`,
        "set client_tls.mode",
      );
    } else if (certificate !== null && tls.ca_file === undefined) {
      report.problem(
        path,
        `names rules of which one demands a certificate, and clients are asked for none: ${where}`,
        remedy,
      );
    }
    const map = certificate?.map ?? null;
    if (map !== null && hba?.maps.has(map) === false) {
      report.warning(
        path,
        `names rules of which one lets nobody in: ${where} has the map ${map}, which is empty`,
        "add its lines to auth.ident_file",
      );
    }
  }
}
