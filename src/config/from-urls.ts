// A configuration without a file: `pgsteer run postgres://user:password@host1:5432/db …`. The hosts are a static
// cluster, clients log in as the URLs' user with its password, and the three default listeners are served.

import { plainClientTls } from "../auth/client-tls.ts";
import type { Secret } from "../auth/secret.ts";
import { formatAddress } from "../core/addresses.ts";
import { millis } from "../core/units.ts";
import { noAuthQuery } from "./auth-query.ts";
import type { ClusterConfig, LoadedConfig, Problem } from "./config.ts";
import { nearest } from "./decode.ts";
import { defaultHttp } from "./http-settings.ts";
import { defaultLimits } from "./limits-settings.ts";
import { defaultListeners } from "./listeners.ts";
import { defaultPoolSettings } from "./pool-settings.ts";
import { logSchema } from "./schema.ts";
import { httpSchema } from "./schema-access.ts";
import { type HostPort, parseHostPort } from "./values.ts";

const CLUSTER_NAME = "main";
const HOSTS_MAX = 64;
const probeTimes = { intervalMs: millis(1000), timeoutMs: millis(2000) };
const URL_REMEDY = "write postgres://user:password@host:port/database";

interface ParsedUrl {
  readonly user: string;
  readonly password: string;
  readonly hosts: readonly HostPort[];
  readonly database: string;
  readonly sslmode: ClusterConfig["serverTls"]["sslmode"];
}

type Complaint = Pick<Problem, "message" | "remedy">;

function decoded(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

const urlPattern = /^postgres(?:ql)?:\/\/(?:([^:@/?#]*)(?::([^@/?#]*))?@)?([^@/?#]*)(?:\/([^/?#]*))?(?:\?([^#]*))?$/;
const sslmodes = ["disable", "allow", "prefer", "require", "verify-full"] as const;

function parseSslmode(query: string): ParsedUrl["sslmode"] | Complaint {
  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys()) {
    if (name !== "sslmode")
      return { message: `has the parameter ${name.slice(0, 63)}`, remedy: "use a configuration file" };
  }
  const written = parameters.get("sslmode") ?? "prefer";
  const sslmode = sslmodes.find((mode) => mode === written);
  if (sslmode !== undefined) return sslmode;
  if (written === "verify-ca")
    return { message: "has sslmode verify-ca", remedy: "use a configuration file with ca_file" };
  const guess = nearest(written, sslmodes);
  return {
    message: "has an unknown sslmode",
    remedy: guess === null ? `use one of: ${sslmodes.join(", ")}` : `write ${guess}`,
  };
}

function parseUrl(written: string): ParsedUrl | Complaint {
  const match = urlPattern.exec(written);
  if (match === null)
    return { message: "is not a PostgreSQL URL", remedy: `${URL_REMEDY}; encode special characters as %XX` };
  const [, userPart = "", passwordPart = "", hostPart = "", databasePart = "", query = ""] = match;
  const [user, password, database] = [decoded(userPart), decoded(passwordPart), decoded(databasePart)];
  if (user === null || password === null || database === null) {
    return { message: "has a % that is not followed by two hexadecimal digits", remedy: "write %25 for a % sign" };
  }
  if (user === "") return { message: "has no user", remedy: URL_REMEDY };
  if (password === "") return { message: "has no password", remedy: URL_REMEDY };
  const hosts = hostPart.split(",").map((host) => parseHostPort(host, 5432));
  const known = hosts.filter((host) => host !== null);
  if (known.length < hosts.length) return { message: "has no valid host and port", remedy: URL_REMEDY };
  const sslmode = parseSslmode(query);
  if (typeof sslmode !== "string") return sslmode;
  return { user, password, hosts: known, database: database === "" ? user : database, sslmode };
}

/** The URL without its password, for messages. */
function redacted(written: string): string {
  const match = urlPattern.exec(written);
  return match === null ? "" : `postgres://${match[1] ?? ""}@${match[3] ?? ""}/${match[4] ?? ""}`;
}

function disagreement(first: ParsedUrl, other: ParsedUrl): string | null {
  if (first.user !== other.user || first.password !== other.password)
    return "has another user or password than the first URL";
  if (first.database !== other.database) return "has another database than the first URL";
  if (first.sslmode !== other.sslmode) return "has another sslmode than the first URL";
  return null;
}

/**
 * Composes the configuration for `urls`, each naming one host or several with commas. Problems have no line; their key
 * is `url 1`, `url 2`, …, and no message shows a password.
 */
export function configFromUrls(urls: readonly string[]): LoadedConfig {
  const problems: Problem[] = [];
  const parsed: ParsedUrl[] = [];
  const hosts: HostPort[] = [];
  const report = (index: number, message: string, remedy: string) => {
    const shown = redacted(urls[index] ?? "");
    const text = shown === "" ? message : `${message}: ${shown}`;
    problems.push({ line: 0, column: 0, key: `url ${index + 1}`, message: text, remedy });
  };
  for (const [index, written] of urls.entries()) {
    const url = parseUrl(written);
    if ("message" in url) {
      report(index, url.message, url.remedy);
      continue;
    }
    const difference = disagreement(parsed[0] ?? url, url);
    if (difference !== null) report(index, difference, "make them the same, or use a configuration file");
    parsed.push(url);
    for (const host of url.hosts) {
      const known = hosts.some((earlier) => earlier.host === host.host && earlier.port === host.port);
      if (known) report(index, `repeats ${formatAddress(host.host, host.port)}`, "name each server once");
      else hosts.push(host);
    }
  }
  if (hosts.length > HOSTS_MAX) report(urls.length - 1, `makes more than ${HOSTS_MAX} servers`, "remove some");
  const [first] = parsed;
  if (first === undefined && problems.length === 0) {
    problems.push({ line: 0, column: 0, key: "urls", message: "there is no URL", remedy: URL_REMEDY });
  }
  if (first === undefined || problems.length > 0) return { ok: false, problems };
  return compose(first, hosts);
}

function compose(url: ParsedUrl, hosts: readonly HostPort[]): LoadedConfig {
  const secret: Secret = { kind: "plain", password: url.password };
  const pool = defaultPoolSettings();
  const probe = { user: url.user, secret, database: url.database, ...probeTimes };
  const cluster: ClusterConfig = {
    name: CLUSTER_NAME,
    source: { kind: "static", hosts },
    scope: CLUSTER_NAME,
    namespace: "/service",
    probe,
    serverTls: { sslmode: url.sslmode, ca: null, cert: null, key: null },
  };
  return {
    ok: true,
    config: {
      clusters: new Map([[CLUSTER_NAME, cluster]]),
      listeners: defaultListeners(CLUSTER_NAME, pool),
      authQuery: noAuthQuery,
      auth: {
        type: "scram-sha-256",
        users: new Map([[url.user, secret]]),
        allowClearText: false,
        hba: null,
        adminUsers: [],
        statsUsers: [],
      },
      clientTls: plainClientTls("disable", null),
      pool,
      limits: defaultLimits(pool.maxClientConn),
      databases: null,
      users: new Map(),
      http: defaultHttp(httpSchema.parse({})),
      log: logSchema.parse({}),
    },
    warnings: [],
  };
}
