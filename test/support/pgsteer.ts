// pgsteer itself as a process in tests: writes a configuration for a cluster, starts the command line with this very
// runtime, and waits until it says over HTTP that it is ready.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { APPLICATION, type Cluster, PROBE } from "./cluster.ts";
import { SUPERUSER } from "./patroni.ts";
import { preferredPort } from "./ports.ts";
import type { RunningProcess } from "./processes.ts";
import { type Login, queryOnce } from "./sql.ts";
import { waitFor } from "./time.ts";

type Route = "auto" | "write" | "read";

/** Ports of the three listeners and of HTTP. */
export type PgsteerPorts = Readonly<Record<Route | "http", number>>;

type Settings = Record<string, unknown>;

/** The configuration as an object, before it is written; a test changes what it needs. */
export interface PgsteerConfiguration extends Settings {
  clusters: Record<string, Settings>;
  listeners: Settings[];
  auth: Settings;
  pool: Settings;
  http: Settings;
  log: Settings;
}

export interface PgsteerOverrides {
  /** Names the files and the log; `pgsteer` by default. A second one beside the first needs another name. */
  readonly name?: string;
  /** The configuration as it will be written; to be changed in place. */
  readonly configure?: (configuration: PgsteerConfiguration) => void;
  /** More lines for the userlist: `"user" "secret"`. */
  readonly users?: Readonly<Record<string, string>>;
  /** Ports to take if they are free. */
  readonly ports?: Partial<PgsteerPorts>;
  readonly env?: Readonly<Record<string, string>>;
  /** More words for the command line of `pgsteer run`. */
  readonly args?: readonly string[];
  /**
   * When the start counts as done: `http` (default) when /readyz?route=write answers 200, `sql` when the application's query
   * through the write listener is answered (which leaves a server connection in the pool), `none` at once.
   */
  readonly ready?: "http" | "sql" | "none";
}

/** The checkout's root. */
export const projectRoot = join(import.meta.dirname, "..", "..");

/** A running pgsteer. */
export interface Pgsteer {
  readonly process: RunningProcess;
  readonly pid: number;
  readonly log: string;
  readonly configurationFile: string;
  readonly ports: PgsteerPorts;
  readonly httpUrl: string;
  /** Where the application, or `as`, connects for a route. */
  login(route: Route, as?: Omit<Login, "host" | "port">): Login;
  /** SIGTERM, then SIGKILL after `graceMs`. */
  stop(graceMs?: number): Promise<void>;
}

/** What pgsteer stands in front of. Without etcd the test's `configure` says where its servers are. */
export type Surroundings = Pick<Cluster, "directory" | "processes"> &
  Partial<Pick<Cluster, "scope" | "namespace" | "etcdEndpoints">>;

function configurationFor(cluster: Surroundings, ports: PgsteerPorts, userlist: string): PgsteerConfiguration {
  const address = "127.0.0.1";
  const listener = (route: Route) => ({ name: route, address, port: ports[route], route, pool_mode: "transaction" });
  return {
    clusters: {
      demo: {
        source: "etcd",
        scope: cluster.scope,
        namespace: cluster.namespace,
        etcd: { endpoints: [...(cluster.etcdEndpoints ?? [])] },
        probe: { user: PROBE.user, password: PROBE.password, database: PROBE.database },
      },
    },
    listeners: [
      listener("auto"),
      listener("write"),
      { ...listener("read"), lag_bytes_max: 16_777_216, fallback: "primary" },
    ],
    auth: { type: "scram-sha-256", file: userlist },
    pool: { default_pool_size: 20, max_client_conn: 100 },
    http: { address, port: ports.http },
    log: { level: "info" },
  };
}

async function choosePorts(wanted: Partial<PgsteerPorts>): Promise<PgsteerPorts> {
  return {
    auto: await preferredPort(wanted.auto),
    write: await preferredPort(wanted.write),
    read: await preferredPort(wanted.read),
    http: await preferredPort(wanted.http),
  };
}

/** Writes `<name>.yaml` and its userlist into the cluster's directory and runs pgsteer with them. It ends with the cluster. */
export async function startPgsteer(cluster: Surroundings, overrides: PgsteerOverrides = {}): Promise<Pgsteer> {
  const name = overrides.name ?? "pgsteer";
  const ports = await choosePorts(overrides.ports ?? {});
  const users = {
    [APPLICATION.user]: APPLICATION.password,
    [PROBE.user]: PROBE.password,
    [SUPERUSER.user]: SUPERUSER.password,
    ...overrides.users,
  };
  const quote = (text: string) => `"${text.replaceAll('"', '""')}"`;
  const lines = Object.entries(users).map(([user, secret]) => `${quote(user)} ${quote(secret)}\n`);
  const userlist = `${name}-userlist.txt`;
  writeFileSync(join(cluster.directory, userlist), lines.join(""), { mode: 0o600 });

  const configuration = configurationFor(cluster, ports, userlist);
  overrides.configure?.(configuration);
  const configurationFile = join(cluster.directory, `${name}.yaml`);
  writeFileSync(configurationFile, stringify(configuration), { mode: 0o600 });

  // The built program can be tried in place of the sources.
  const main = process.env["PGSTEER_MAIN"] ?? join(projectRoot, "src", "cli", "main.ts");
  const running = await cluster.processes.start(
    process.execPath,
    [main, "run", "-c", configurationFile, ...(overrides.args ?? [])],
    {
      name,
      ...(overrides.env === undefined ? {} : { env: overrides.env }),
    },
  );
  const httpUrl = `http://127.0.0.1:${ports.http}`;
  const write = { host: "127.0.0.1", port: ports.write, ...APPLICATION };
  try {
    await untilReady(running, overrides.ready ?? "http", httpUrl, write);
  } catch (error) {
    await running.kill();
    throw error;
  }
  return {
    process: running,
    pid: running.pid,
    log: running.log,
    configurationFile,
    ports,
    httpUrl,
    login: (route, as = APPLICATION) => ({ host: "127.0.0.1", port: ports[route], ...as }),
    stop: (graceMs) => running.stop(graceMs),
  };
}

async function untilReady(
  running: RunningProcess,
  how: NonNullable<PgsteerOverrides["ready"]>,
  httpUrl: string,
  write: Login,
): Promise<void> {
  if (how === "none") return;
  const isReady = async (): Promise<boolean> => {
    if (how === "sql") return (await queryOnce(write, "SELECT 1", [], 2000)).rows.length === 1;
    return (await fetch(`${httpUrl}/readyz?route=write`, { signal: AbortSignal.timeout(2000) })).status === 200;
  };
  let ended = false;
  const look = async (): Promise<boolean> => {
    ended = !running.alive();
    return ended || (await isReady());
  };
  const what = how === "sql" ? "the write listener answers" : `${httpUrl}/readyz?route=write answers 200`;
  await waitFor(look, { timeoutMs: 60_000, intervalMs: 20, what }).catch((cause) => {
    throw new Error(`pgsteer is not ready; its log ends:\n${running.tail()}`, { cause });
  });
  if (ended) throw new Error(`pgsteer ended at its start; its log ends:\n${running.tail()}`);
}
