// One cluster of the file, checked as a whole: its source has what it needs, its credentials and certificates are
// complete.

import type { Secret } from "../auth/secret.ts";
import { formatAddress } from "../core/addresses.ts";
import type {
  BasicCredentials,
  ClusterConfig,
  EtcdConfig,
  PatroniConfig,
  ProbeConfig,
  SourceConfig,
} from "./config.ts";
import type { Path } from "./document.ts";
import { givesPassword, type PasswordSettings, readPassword, readPems, type Surroundings } from "./files.ts";
import type { FileCluster } from "./schema-cluster.ts";
import { resolveServerTls } from "./server-tls.ts";

function credentials(
  settings: PasswordSettings & { readonly user?: string | undefined },
  path: Path,
  around: Surroundings,
): BasicCredentials | null {
  const password = readPassword(settings, path, around);
  if (settings.user === undefined) {
    if (givesPassword(settings)) around.report.problem(path, "gives a password without a user", "add user");
    return null;
  }
  if (!givesPassword(settings)) {
    around.report.problem([...path, "user"], "is set without a password", "add password_file or password_env");
  }
  return password === null ? null : { user: settings.user, password };
}

function reportRepeated(values: readonly string[], path: Path, around: Surroundings): void {
  for (const [index, value] of values.entries()) {
    if (values.indexOf(value) < index) around.report.problem([...path, index], "is listed twice", "remove one of them");
  }
}

function resolveEtcd(file: NonNullable<FileCluster["etcd"]>, path: Path, around: Surroundings): EtcdConfig {
  const { report } = around;
  reportRepeated(file.endpoints, [...path, "endpoints"], around);
  const secure = file.endpoints.filter((endpoint) => endpoint.startsWith("https:")).length;
  if (secure > 0 && secure < file.endpoints.length) {
    report.problem([...path, "endpoints"], "mixes http and https", "use one of them for all endpoints");
  }
  if (secure === 0) {
    for (const key of ["ca_file", "cert_file", "key_file"] as const) {
      if (file[key] === undefined) continue;
      report.problem([...path, key], "is set, but the endpoints are http", "write https:// in endpoints, or remove it");
    }
  }
  const pems = secure === 0 ? null : readPems(file, path, around);
  return { endpoints: file.endpoints, credentials: credentials(file, path, around), tls: pems };
}

function resolvePatroni(file: FileCluster["patroni"], path: Path, around: Surroundings): PatroniConfig {
  const none = { ca: null, cert: null, key: null };
  if (file === undefined) return { urls: [], credentials: null, tls: none };
  reportRepeated(file.urls, [...path, "urls"], around);
  return {
    urls: file.urls,
    credentials: credentials(file, path, around),
    tls: readPems(file, path, around) ?? none,
  };
}

function resolveSource(file: FileCluster, path: Path, around: Surroundings): SourceConfig | null {
  const { report } = around;
  const missing = (section: string, remedy: string) => {
    report.problem([...path, "source"], `is ${file.source}, but there is no section ${section}`, remedy);
    return null;
  };
  const unused = (section: "etcd" | "patroni" | "static") => {
    if (file[section] === undefined) return;
    report.warning([...path, section], `is not used: source is ${file.source}`, "remove it, or change source");
  };
  switch (file.source) {
    case "etcd": {
      unused("static");
      if (file.etcd === undefined) return missing("etcd", 'add etcd: { endpoints: ["http://host:2379"] }');
      const etcd = resolveEtcd(file.etcd, [...path, "etcd"], around);
      return { kind: "etcd", etcd, patroni: resolvePatroni(file.patroni, [...path, "patroni"], around) };
    }
    case "patroni": {
      unused("etcd");
      unused("static");
      if (file.patroni === undefined) return missing("patroni", 'add patroni: { urls: ["http://host:8008"] }');
      const patroni = resolvePatroni(file.patroni, [...path, "patroni"], around);
      if (patroni.urls.length === 0) {
        report.problem([...path, "patroni"], "has no urls, and source is patroni", 'add urls: ["http://host:8008"]');
      }
      return { kind: "patroni", patroni };
    }
    case "static": {
      unused("etcd");
      unused("patroni");
      if (file.static === undefined) return missing("static", 'add static: { hosts: ["host:5432"] }');
      const names = file.static.hosts.map(({ host, port }) => formatAddress(host, port));
      reportRepeated(names, [...path, "static", "hosts"], around);
      return { kind: "static", hosts: file.static.hosts };
    }
  }
}

function resolveProbe(
  file: FileCluster["probe"],
  path: Path,
  users: ReadonlyMap<string, Secret>,
  around: Surroundings,
): ProbeConfig {
  const password = readPassword(file, path, around);
  const listed = users.get(file.user);
  // A SCRAM verifier proves nothing to a server: only what logs in is worth taking from the userlist.
  const usable = listed === undefined || listed.kind === "scram" ? null : listed;
  const secret: Secret | null = password === null ? usable : { kind: "plain", password };
  if (secret === null && !givesPassword(file)) {
    const remedy = "add password_file or password_env, or list the user in the userlist with a password";
    around.report.warning(path, `has no password for user "${file.user}"`, remedy);
  }
  return {
    user: file.user,
    secret,
    database: file.database,
    intervalMs: file.interval,
    timeoutMs: file.timeout,
  };
}

/** Checks one cluster. Null, reported, when its source is not known; other mistakes are reported only. */
export function resolveCluster(
  name: string,
  file: FileCluster,
  users: ReadonlyMap<string, Secret>,
  around: Surroundings,
): ClusterConfig | null {
  const path = ["clusters", name];
  const source = resolveSource(file, path, around);
  const probe = resolveProbe(file.probe, [...path, "probe"], users, around);
  const serverTls = resolveServerTls(file.server_tls, [...path, "server_tls"], around);
  const trimmed = file.namespace.replaceAll(/^\/+|\/+$/g, "");
  const namespace = trimmed === "" ? "" : `/${trimmed}`;
  return source === null ? null : { name, source, scope: file.scope ?? name, namespace, probe, serverTls };
}
