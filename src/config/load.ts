// One YAML text → the configuration, or every mistake in it at once, each with its line, its key and its remedy.
// Sections are decoded one by one, so that a mistake in one does not hide those of another; then they are checked
// against each other.

import type { Secret } from "../auth/secret.ts";
import { isLocalListener } from "../core/addresses.ts";
import { resolveAuthQuery } from "./auth-query.ts";
import { resolveClientTls } from "./client-tls.ts";
import { resolveCluster } from "./clusters.ts";
import type { AuthConfig, ClusterConfig, ListenerConfig, LoadedConfig, Problem } from "./config.ts";
import { loadDatabases, loadUsers } from "./databases.ts";
import { decodeSection, keyRemedy, type Report, valueAt } from "./decode.ts";
import { type ConfigDocument, keyOf, type Path, parseConfigDocument } from "./document.ts";
import { type Environment, type ListFiles, type ReadFile, readUserlist, type Surroundings } from "./files.ts";
import { foreignSettings } from "./foreign-settings.ts";
import { asksPasswords, checkAccess, resolveHba } from "./hba-settings.ts";
import { resolveHttp, warnAboutHttp } from "./http-settings.ts";
import { checkKeepAlive } from "./keepalive.ts";
import { resolveLimits } from "./limits-settings.ts";
import { defaultListeners, type Endpoint, reportClashes, reportSameNames, resolveListener } from "./listeners.ts";
import { resolvePool } from "./pool-settings.ts";
import { type FileListener, type FilePool, fileSchema, listenerSchema, poolSchema } from "./schema.ts";
import { authSchema, clientTlsSchema, type FileAuth, type FileHttp } from "./schema-access.ts";
import { clusterSchema } from "./schema-cluster.ts";
import { plainName } from "./values.ts";

/** Clusters of one file. */
const CLUSTERS_MAX = 64;

class Findings implements Report {
  readonly problems: Problem[] = [];
  readonly warnings: { line: number; text: string }[] = [];
  readonly #document: ConfigDocument;
  readonly #fileName: string;

  constructor(document: ConfigDocument, fileName: string) {
    this.#document = document;
    this.#fileName = fileName;
    this.problems.push(...document.problems);
  }

  problem(path: Path, message: string, remedy: string): void {
    this.problems.push({ ...this.#document.position(path), key: keyOf(path), message, remedy });
  }

  warning(path: Path, message: string, remedy: string): void {
    const { line } = this.#document.position(path);
    this.warnings.push({ line, text: `${this.#fileName}:${line}: ${keyOf(path)} ${message}; ${remedy}` });
  }
}

const sections = Object.keys(fileSchema.shape);

function checkTopLevel(root: unknown, report: Report): void {
  if (typeof root !== "object" || root === null || Array.isArray(root)) {
    const message = root === null ? "the file is empty" : "the file is not a map of settings";
    report.problem([], message, `start with one of: ${sections.join(", ")}`);
    return;
  }
  for (const key of Object.keys(root)) {
    if (sections.includes(key)) continue;
    const home = [
      ["pool", poolSchema],
      ["auth", authSchema],
      ["client_tls", clientTlsSchema],
    ] as const;
    const foreign = foreignSettings.get(key);
    if (foreign !== undefined) {
      report.problem([key], foreign.message, foreign.remedy);
      continue;
    }
    const owner = home.find(([, schema]) => Object.hasOwn(schema.shape, key));
    const remedy = owner === undefined ? keyRemedy(key, sections) : `move it under ${owner[0]}`;
    report.problem([key], "is not a setting of the file", remedy);
  }
}

function resolveAuth(file: FileAuth, around: Surroundings): AuthConfig {
  const { report } = around;
  const hba = resolveHba(file, around);
  const asks = hba === null ? asksPasswords(file.type) : hba.asksPasswords;
  if (file.file === undefined && file.user === undefined && asks) {
    const remedy = "add file: the name of a userlist, or user: the role that asks for others, or type: trust";
    report.problem(["auth", "file"], `is missing, and type ${file.type} needs secrets`, remedy);
  }
  if (file.allow_clear_text && file.type !== "password" && file.type !== "hba") {
    report.warning(["auth", "allow_clear_text"], `is not used: type is ${file.type}`, "remove it");
  }
  const users = file.file === undefined ? null : readUserlist(file.file, ["auth", "file"], around);
  if (users !== null) warnAboutSecrets(file.type, users, report);
  return {
    type: file.type,
    users: users ?? new Map(),
    allowClearText: file.allow_clear_text,
    hba,
    adminUsers: file.admin_users,
    statsUsers: file.stats_users,
  };
}

function warnAboutSecrets(type: AuthConfig["type"], users: ReadonlyMap<string, Secret>, report: Report): void {
  const count = (kind: Secret["kind"]) => [...users.values()].filter((secret) => secret.kind === kind).length;
  const [scram, md5] = [count("scram"), count("md5")];
  if (users.size === 0) report.warning(["auth", "file"], "names a file without users", "add them");
  if (scram > 0 && type === "trust") {
    const message = `lists ${scram} user(s) with a SCRAM verifier, which logs in to servers only with what clients prove, and here they prove nothing`;
    report.warning(["auth", "file"], message, "list them with their password in clear, or set type: scram-sha-256");
  }
  if (md5 > 0 && type === "scram-sha-256") {
    const message = `lists ${md5} user(s) with an md5 hash, who cannot log in by scram-sha-256`;
    report.warning(["auth", "file"], message, "list their password or SCRAM verifier");
  }
}

function loadClusters(
  root: unknown,
  users: ReadonlyMap<string, Secret>,
  around: Surroundings,
): { names: readonly string[]; clusters: ReadonlyMap<string, ClusterConfig> } {
  const clusters = new Map<string, ClusterConfig>();
  const written = valueAt(root, ["clusters"]);
  if (typeof written !== "object" || written === null || Array.isArray(written) || Object.keys(written).length === 0) {
    const remedy = "add clusters: with one name, and under it source: etcd, patroni or static";
    around.report.problem(["clusters"], written === undefined ? "is missing" : "names no cluster", remedy);
    return { names: [], clusters };
  }
  const names = Object.keys(written);
  if (names.length > CLUSTERS_MAX) {
    around.report.problem(["clusters"], `has more than ${CLUSTERS_MAX} clusters`, "run several pgsteer");
    return { names, clusters };
  }
  for (const name of names) {
    const path = ["clusters", name];
    if (!plainName.safeParse(name).success) {
      around.report.problem(path, "is not a name", "use 1 to 63 letters, digits, underscores, dots or hyphens");
    }
    const file = decodeSection(clusterSchema, root, path, around.report);
    const cluster = file === null ? null : resolveCluster(name, file, users, around);
    if (cluster !== null) clusters.set(name, cluster);
  }
  return { names, clusters };
}

function loadListeners(
  root: unknown,
  clusters: readonly string[],
  pool: FilePool | null,
  http: FileHttp | null,
  report: Report,
): readonly ListenerConfig[] {
  const written = valueAt(root, ["listeners"]);
  const poolMode = pool?.pool_mode ?? "transaction";
  const onSessionState = pool?.on_session_state ?? "pin";
  const httpEndpoint: Endpoint[] =
    http?.enabled === true ? [{ address: http.address, port: http.port, label: "http", path: ["http", "port"] }] : [];
  if (written === undefined) {
    const [only] = clusters;
    if (clusters.length > 1) {
      report.problem(
        ["listeners"],
        "is missing, and there are several clusters",
        "add listeners, each with its cluster",
      );
    }
    const defaults = defaultListeners(only ?? "", { poolMode, onSessionState });
    const endpoints = defaults.map(({ address, port, name }) => ({
      address,
      port,
      label: `the default listener ${name}`,
      path: ["listeners"],
    }));
    reportClashes([...endpoints, ...httpEndpoint], report);
    return defaults;
  }
  if (!Array.isArray(written) || written.length === 0) {
    report.problem(
      ["listeners"],
      "is not a list of listeners",
      "write one listener per line behind a hyphen, or remove it",
    );
    return [];
  }
  const decoded: { file: FileListener; path: Path }[] = [];
  for (const index of written.keys()) {
    const file = decodeSection(listenerSchema, root, ["listeners", index], report);
    if (file !== null) decoded.push({ file, path: ["listeners", index] });
  }
  const endpoints = decoded.map(({ file: { address, port, name }, path }) => ({
    address,
    port,
    label: `listener ${name}`,
    path: [...path, "port"],
  }));
  reportClashes([...endpoints, ...httpEndpoint], report);
  reportSameNames(
    decoded.map(({ file, path }) => ({ name: file.name, path })),
    report,
  );
  const context = { clusters, poolMode, onSessionState, report };
  const resolved = decoded.map(({ file, path }) => resolveListener(file, path, context));
  return resolved.filter((listener) => listener !== null);
}

/**
 * Loads a configuration. `fileName` serves messages and relative names; `readFile` and `env` are where secrets and
 * certificates come from, `listFiles` shows the directories that an HBA file includes. Problems are in the order of their lines.
 */
export function loadConfig(
  text: string,
  fileName: string,
  readFile: ReadFile,
  env: Environment,
  listFiles: ListFiles,
): LoadedConfig {
  const document = parseConfigDocument(text);
  const findings = new Findings(document, fileName);
  const { root } = document;
  const failed = (): LoadedConfig => ({
    ok: false,
    problems: findings.problems.toSorted((a, b) => a.line - b.line || a.column - b.column),
  });
  if (document.problems.length > 0) return failed();
  checkTopLevel(root, findings);
  if (typeof root !== "object" || root === null || Array.isArray(root)) return failed();

  const around: Surroundings = { fileName, readFile, listFiles, env, report: findings };
  const fileAuth = decodeSection(fileSchema.shape.auth, root, ["auth"], findings);
  const fileClientTls = decodeSection(fileSchema.shape.client_tls, root, ["client_tls"], findings);
  const filePool = decodeSection(fileSchema.shape.pool, root, ["pool"], findings);
  const fileLimits = decodeSection(fileSchema.shape.limits, root, ["limits"], findings);
  const fileHttp = decodeSection(fileSchema.shape.http, root, ["http"], findings);
  const http = fileHttp === null ? null : resolveHttp(fileHttp, around);
  const log = decodeSection(fileSchema.shape.log, root, ["log"], findings);

  if (filePool !== null) checkKeepAlive(filePool, findings);
  const auth = fileAuth === null ? null : resolveAuth(fileAuth, around);
  const clientTls = fileClientTls === null ? null : resolveClientTls(fileClientTls, around);
  if (auth !== null && fileClientTls !== null) checkAccess(auth, fileClientTls, findings);
  const { names, clusters } = loadClusters(root, auth?.users ?? new Map(), around);
  const databases = loadDatabases(root, auth?.users ?? new Map(), filePool, around);
  const authQuery = fileAuth && resolveAuthQuery(fileAuth, databases, auth?.users ?? new Map(), around);
  const users = loadUsers(root, around.report);
  const listeners = loadListeners(root, names, filePool, fileHttp, findings);
  if (auth?.type === "password" && !auth.allowClearText && clientTls?.mode === "disable") {
    const message = "is password, which needs TLS, but client_tls.mode is disable";
    findings.problem(["auth", "type"], message, "set client_tls, or type: scram-sha-256, or allow_clear_text: true");
  }
  if (http !== null && auth !== null) warnAboutHttp(http, auth, findings);
  if (auth?.type === "trust" && listeners.some(({ address }) => !isLocalListener(address))) {
    const message = "is trust, and a listener can be reached from other machines";
    findings.warning(["auth", "type"], message, "set type: scram-sha-256");
  }

  const incomplete = auth === null || clientTls === null || filePool === null || fileHttp === null || log === null;
  if (incomplete || authQuery === null || fileLimits === null || findings.problems.length > 0) return failed();
  const warnings = findings.warnings.toSorted((a, b) => a.line - b.line).map((warning) => warning.text);
  const limits = resolveLimits(fileLimits, filePool.max_client_conn);
  return {
    ok: true,
    config: {
      clusters,
      listeners,
      auth,
      authQuery,
      clientTls,
      pool: resolvePool(filePool),
      limits,
      databases,
      users,
      http,
      log,
    },
    warnings,
  };
}
