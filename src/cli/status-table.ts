// The status as text: what Patroni's own `patronictl list` shows, and what pgsteer makes of it.

import Table from "cli-table3";
import type {
  ClusterDocument,
  ListenerDocument,
  MemberDocument,
  TopologyDocument,
} from "../admin/topology-document.ts";
import { formatAddress } from "../core/addresses.ts";

const ascii = {
  top: "-",
  "top-mid": "+",
  "top-left": "+",
  "top-right": "+",
  bottom: "-",
  "bottom-mid": "+",
  "bottom-left": "+",
  "bottom-right": "+",
  left: "|",
  "left-mid": "+",
  mid: "-",
  "mid-mid": "+",
  right: "|",
  "right-mid": "+",
  middle: "|",
};

type Cell = string | number;

function table(head: readonly string[], rightAligned: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const grid = new Table({
    head: [...head],
    chars: ascii,
    style: { head: [], border: [], compact: true },
    colAligns: head.map((title) => (rightAligned.includes(title) ? "right" : "left")),
  });
  for (const row of rows) grid.push([...row]);
  return grid.toString();
}

/** `0`, `812 B`, `24 kB`, `3.1 MB`. */
export function formatBytes(count: number | null): string {
  if (count === null) return "unknown";
  if (count === 0) return "0";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 10 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** `0.4 s`, `12 s`, `5 min`, `3 h`, `2 d`. */
export function formatAge(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}

function leaderLine({ leader, writable, held_clients, source }: ClusterDocument): string {
  const held = held_clients === 0 ? "" : `; ${held_clients} clients wait for a member that can serve them`;
  // What is wrong with the source has a line of its own.
  if (leader.member === null && leader.reason === source.reason) return `no leader is known${held}`;
  if (leader.member === null) return `no leader: ${leader.reason}${held}`;
  const timeline = leader.timeline === null ? "" : `, timeline ${leader.timeline}`;
  const where = `leader ${leader.member} (epoch ${leader.epoch}${timeline})`;
  if (writable) return `${where} takes writes${held}`;
  const verb = leader.state === "draining" ? "is held back" : "takes no writes";
  return `${where} ${verb}: ${leader.reason}${held}`;
}

function sourceLine({ source }: ClusterDocument): string {
  const age = formatAge(source.age_seconds);
  if (source.kind === "static") return "static list of hosts";
  return source.connected
    ? `${source.kind} answers (last proof ${age} ago)`
    : `${source.kind} DOES NOT ANSWER (for ${age}): ${source.reason}`;
}

/** Whether routers hold transactions back on request, and how far they are. */
function coordinationLines({ coordination }: ClusterDocument): readonly string[] {
  if (coordination === null) return [];
  const { state, request, reason, open, sessions, routers } = coordination;
  const known = `${routers} announced`;
  if (request === null) return [`Routers: ${known}`];
  const counts = [open > 0 ? `${open} transactions open` : "", sessions > 0 ? `${sessions} clients keep a server` : ""];
  const parts = [known, `this one is ${state.toUpperCase()}${reason === "" ? "" : `: ${reason}`}`, ...counts];
  return [`Routers: ${parts.filter((part) => part !== "").join("; ")}`];
}

function servesCell({ serves, not_serving }: MemberDocument): string {
  if (serves.length === 0) return not_serving === "" ? "nothing" : `nothing: ${not_serving}`;
  const routes = new Map<string, Set<string>>();
  for (const { route, purpose } of serves) routes.set(route, (routes.get(route) ?? new Set<string>()).add(purpose));
  const order = ["write", "read", "auto"].filter((route) => routes.has(route));
  return order
    .map((route) => (route === "auto" ? `auto (${[...(routes.get(route) ?? [])].join("s, ")}s)` : route))
    .join(", ");
}

function roleCell({ role }: MemberDocument): string {
  const words: Readonly<Record<string, string>> = {
    leader: "Leader",
    standby_leader: "Standby Leader",
    replica: "Replica",
  };
  return words[role] ?? role;
}

function connectionsCell({ servers, waiting_clients }: MemberDocument): string {
  const { active, idle, login, tested } = servers;
  const parts = [`${active} active`, `${idle} idle`];
  if (login > 0) parts.push(`${login} logging in`);
  if (tested > 0) parts.push(`${tested} being prepared`);
  if (waiting_clients > 0) parts.push(`${waiting_clients} waiting`);
  return parts.join(", ");
}

/** Why a member gets writes and reads, or why not: a table has no room for sentences. */
function whyLine({ name, why }: MemberDocument): string {
  return `${name}: writes: ${why.writes}; reads: ${why.reads}`;
}

function clusterBlock(cluster: ClusterDocument): string {
  const head = ["Member", "Host", "Role", "State", "TL", "Lag", "Serves", "Connections"];
  const rows = cluster.members.map((member) => [
    member.name,
    formatAddress(member.host, member.port),
    roleCell(member),
    member.state,
    member.timeline ?? "",
    member.role === "leader" ? "" : formatBytes(member.lag_bytes),
    servesCell(member),
    connectionsCell(member),
  ]);
  const lines = [
    `Cluster ${cluster.name}: ${leaderLine(cluster)}`,
    `Source: ${sourceLine(cluster)}${cluster.paused ? "; automatic failover is PAUSED" : ""}`,
    ...coordinationLines(cluster),
    rows.length === 0 ? "(no member is known)" : table(head, ["TL", "Lag"], rows),
    ...cluster.members.map(whyLine),
  ];
  return lines.join("\n");
}

function listenersBlock(listeners: readonly ListenerDocument[], several: boolean, maxClients: number): string {
  const counts = ["idle", "active", "waiting", "settling", "failed", "login"] as const;
  const numbers = ["Idle", "Active", "Waiting", "Settling", "Failed", "Login"];
  const head = ["Listener", "Address", "Route", "Mode", ...(several ? ["Cluster"] : []), ...numbers, "Ready"];
  const rows = listeners.map((listener) => [
    listener.name,
    formatAddress(listener.address, listener.port),
    listener.route,
    listener.pool_mode,
    ...(several ? [listener.cluster] : []),
    ...counts.map((state) => listener.clients[state]),
    listener.obstacle === null ? "yes" : "no",
  ]);
  const connected = listeners.reduce(
    (total, { clients }) => total + counts.reduce((sum, state) => sum + clients[state], 0),
    0,
  );
  const obstacles = listeners
    .filter(({ obstacle }) => obstacle !== null)
    .map(({ name, obstacle }) => `${name} is not ready: ${obstacle}`);
  const pinned = listeners
    .map(({ name, pinned }) => ({ name, causes: Object.entries(pinned).map(([cause, count]) => `${count} ${cause}`) }))
    .filter(({ causes }) => causes.length > 0)
    .map(({ name, causes }) => `${name} has clients that keep their server: ${causes.join(", ")}`);
  const first = `Clients: ${connected} of at most ${maxClients}`;
  return [first, table(head, numbers, rows), ...pinned, ...obstacles].join("\n");
}

/** The whole picture. */
export function renderStatus(document: TopologyDocument): string {
  const { version, uptime_seconds, draining, clusters, listeners, max_client_conn } = document;
  const first = `pgsteer ${version}, up ${formatAge(uptime_seconds)}${draining ? ", SHUTTING DOWN: draining its clients" : ""}`;
  const blocks = clusters.map(clusterBlock);
  return [first, ...blocks, listenersBlock(listeners, clusters.length > 1, max_client_conn)].join("\n\n");
}
