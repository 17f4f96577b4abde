// The listeners of the file, checked against each other and against the clusters; and the three that there are by
// default.

import { formatAddress, isSocketDirectory, socketPath } from "../core/addresses.ts";
import { SOCKET_PATH_BYTES_MAX } from "../core/limits.ts";
import type { PoolMode } from "../core/pool-mode.ts";
import { type Bytes, bytes } from "../core/units.ts";
import type { ListenerConfig, OnSessionState } from "./config.ts";
import { keyRemedy, type Report } from "./decode.ts";
import type { Path } from "./document.ts";
import type { FileListener } from "./schema.ts";

/** One WAL segment: what a healthy replica is rarely behind. */
export const LAG_BYTES_DEFAULT: Bytes = bytes(16 * 1024 * 1024);

/** As PgBouncer's: whoever may enter its directory may connect, and has still to log in. */
const SOCKET_MODE_DEFAULT = 0o777;

/** The listeners that there are when the file names none: auto on 6432, write on 5000, read on 5001. */
export function defaultListeners(
  cluster: string,
  pool: { readonly poolMode: PoolMode; readonly onSessionState: OnSessionState },
): readonly ListenerConfig[] {
  const { poolMode, onSessionState } = pool;
  const common = {
    address: "127.0.0.1",
    unixSocketMode: SOCKET_MODE_DEFAULT,
    proxyProtocol: null,
    poolMode,
    onSessionState,
    cluster,
  };
  const reads = { lagBytesMax: LAG_BYTES_DEFAULT, fallback: "primary" } as const;
  return [
    { ...common, name: "auto", port: 6432, route: "auto", replication: true, ...reads },
    { ...common, name: "write", port: 5000, route: "write", replication: true },
    { ...common, name: "read", port: 5001, route: "read", replication: false, ...reads },
  ];
}

/** Something that listens, for comparison with its neighbours. */
export interface Endpoint {
  readonly address: string;
  readonly port: number;
  /** What to call it in a message. */
  readonly label: string;
  /** Where to report a clash: its port. */
  readonly path: Path;
}

const everyAddress: ReadonlySet<string> = new Set(["0.0.0.0", "::"]);

function clashes(one: Endpoint, other: Endpoint): boolean {
  if (one.port === 0 || one.port !== other.port) return false;
  if (formatAddress(one.address, one.port) === formatAddress(other.address, other.port)) return true;
  if (isSocketDirectory(one.address) || isSocketDirectory(other.address)) return false;
  return everyAddress.has(one.address) || everyAddress.has(other.address);
}

/** Reports every endpoint that an earlier one keeps from listening. */
export function reportClashes(endpoints: readonly Endpoint[], report: Report): void {
  for (const [index, endpoint] of endpoints.entries()) {
    const earlier = endpoints.slice(0, index).find((candidate) => clashes(candidate, endpoint));
    if (earlier === undefined) continue;
    const message = `is taken: ${earlier.label} listens on ${formatAddress(earlier.address, earlier.port)} already`;
    report.problem(endpoint.path, message, "choose another port or address");
  }
}

/** What a listener needs to know of the rest of the file. */
export interface ListenerContext {
  /** Names of all clusters of the file, valid or not. */
  readonly clusters: readonly string[];
  readonly poolMode: PoolMode;
  readonly onSessionState: OnSessionState;
  readonly report: Report;
}

function clusterOf(file: FileListener, path: Path, context: ListenerContext): string | null {
  const { clusters, report } = context;
  if (file.cluster === undefined) {
    const [only] = clusters;
    if (only !== undefined && clusters.length === 1) return only;
    // Without any cluster there is a problem already.
    if (clusters.length > 1) {
      const remedy = `add cluster: one of ${clusters.join(", ")}`;
      report.problem([...path, "cluster"], "is missing, and there are several clusters", remedy);
    }
    return null;
  }
  if (clusters.includes(file.cluster)) return file.cluster;
  const remedy = clusters.length === 0 ? "add it under clusters" : keyRemedy(file.cluster, clusters);
  report.problem([...path, "cluster"], `names "${file.cluster}", which is not under clusters`, remedy);
  return null;
}

/** What a Unix-domain socket demands, and what only it can have. */
function checkSocket(file: FileListener, path: Path, report: Report): void {
  if (!isSocketDirectory(file.address)) {
    if (file.unix_socket_mode === undefined) return;
    const message = "is only for a Unix-domain socket";
    report.problem([...path, "unix_socket_mode"], message, "remove it, or write a directory as address");
    return;
  }
  const where = socketPath(file.address, file.port);
  if (file.port === 0) {
    report.problem([...path, "port"], "is 0, and gives its name to a Unix-domain socket", "write a port from 1 on");
  }
  if (Buffer.byteLength(where) > SOCKET_PATH_BYTES_MAX) {
    const message = `makes a path of more than ${SOCKET_PATH_BYTES_MAX} bytes, the system's limit: ${where}`;
    report.problem([...path, "address"], message, "use a directory with a shorter name");
  }
  if (file.proxy_protocol === "require") {
    const message = "is require, and a Unix-domain socket has no peer's address to replace";
    report.problem([...path, "proxy_protocol"], message, "remove it");
  }
}

/** Checks one listener. Null, reported, when it cannot be served. */
export function resolveListener(file: FileListener, path: Path, context: ListenerContext): ListenerConfig | null {
  const cluster = clusterOf(file, path, context);
  checkSocket(file, path, context.report);
  if (file.proxy_protocol === "off" && file.proxy_protocol_from !== undefined) {
    const message = "is not used: proxy_protocol is off";
    context.report.warning([...path, "proxy_protocol_from"], message, "set proxy_protocol: require, or remove it");
  }
  if (file.route === "read" && file.replication === "allow") {
    const message = "is allow, but replication connections go to the leader, and route is read";
    context.report.problem([...path, "replication"], message, "remove it, or use another listener");
  }
  if (file.route === "write") {
    for (const key of ["lag_bytes_max", "fallback"] as const) {
      if (file[key] === undefined) continue;
      context.report.problem([...path, key], "has no meaning for route write", "remove it, or set route: read");
    }
  }
  if (cluster === null) return null;
  const { name, address, port } = file;
  const common = {
    name,
    address,
    port,
    unixSocketMode: file.unix_socket_mode ?? SOCKET_MODE_DEFAULT,
    proxyProtocol: file.proxy_protocol === "off" ? null : { from: file.proxy_protocol_from ?? null },
    replication: file.route !== "read" && file.replication !== "refuse",
    poolMode: file.pool_mode ?? context.poolMode,
    onSessionState: file.on_session_state ?? context.onSessionState,
    cluster,
  };
  if (file.route === "write") return { ...common, route: "write" };
  return {
    ...common,
    route: file.route,
    lagBytesMax: file.lag_bytes_max ?? LAG_BYTES_DEFAULT,
    fallback: file.fallback ?? "primary",
  };
}

/** Reports listeners that share a name. */
export function reportSameNames(listeners: readonly { name: string; path: Path }[], report: Report): void {
  for (const [index, { name, path }] of listeners.entries()) {
    if (!listeners.slice(0, index).some((earlier) => earlier.name === name)) continue;
    report.problem([...path, "name"], `is "${name}", as of an earlier listener`, "give each listener its own name");
  }
}
