// What is measured: one PostgreSQL under Patroni, and the four ways to it. Everything belongs to the cluster's process
// group, which stops it by pid, whatever becomes of this process.

import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { APPLICATION, type Cluster, startCluster } from "../test/support/cluster.ts";
import { startPgsteer } from "../test/support/pgsteer.ts";
import { HARNESS_VARIABLE } from "../test/support/procfs.ts";
import type { Login } from "../test/support/sql.ts";
import { type Peer, type Pooling, startHaproxy, startPgBouncer } from "./peers.ts";

/** In the order of the tables; PgBouncer is what the others are compared with. */
export const PATH_NAMES = ["direct", "pgbouncer", "haproxy", "pgsteer"] as const;

export type PathName = (typeof PATH_NAMES)[number];

/** One way to PostgreSQL. `pid` is the process in between, null where there is none. */
export interface Path {
  readonly name: PathName;
  readonly login: Login;
  readonly pid: number | null;
}

/** For all pools and direct clients together, so that PostgreSQL itself refuses nobody. */
export const SERVER_CONNECTIONS_MAX = 600;

export const PGBENCH = "/usr/lib/postgresql/15/bin/pgbench";

/** An output of a program that did not succeed, or the wish to stop. */
export class BenchError extends Error {
  override readonly name = "BenchError";
}

export class Testbed {
  readonly cluster: Cluster;
  readonly #direct: Login;
  /** Where pgsteer leaves a profile of its processor time; null: no profile is taken. */
  readonly #profiles: string | null;
  readonly #peers = new Map<string, Promise<Peer>>();

  private constructor(cluster: Cluster, direct: Login, profiles: string | null) {
    this.cluster = cluster;
    this.#direct = direct;
    this.#profiles = profiles;
  }

  /** Starts PostgreSQL and, where `scale` is not 0, fills pgbench's tables. */
  static async start(scale: number, profiles: string | null, signal: AbortSignal): Promise<Testbed> {
    const parameters = { shared_buffers: "512MB", max_connections: SERVER_CONNECTIONS_MAX };
    const cluster = await startCluster({ members: 1, postgres: { parameters } });
    try {
      const testbed = new Testbed(cluster, cluster.login(await cluster.requireLeader(), APPLICATION), profiles);
      const filling = ["-i", "-q", "-s", String(scale)];
      if (scale > 0) await testbed.pgbench({ name: "direct", login: testbed.#direct, pid: null }, filling, signal);
      return testbed;
    } catch (error) {
      await (signal.aborted ? cluster.remove() : cluster.stop());
      throw error;
    }
  }

  /** A way to PostgreSQL; what it needs is started at the first call with that pooling and then stays. */
  async path(name: PathName, pooling: Pooling): Promise<Path> {
    if (name === "direct") return { name, login: this.#direct, pid: null };
    const { process, port } = await this.#peer(name, pooling);
    return { name, login: { ...this.#direct, port }, pid: process.pid };
  }

  /** Runs pgbench through a path until its end and returns what it printed. */
  async pgbench(path: Path, args: readonly string[], signal: AbortSignal): Promise<string> {
    const { host, port, user, password, database } = path.login;
    const child = spawn(PGBENCH, ["-h", host, "-p", String(port), "-U", user, ...args, database], {
      cwd: this.cluster.directory,
      env: {
        ...process.env,
        PGPASSWORD: password,
        PGSSLMODE: "disable",
        PGGSSENCMODE: "disable",
        [HARNESS_VARIABLE]: this.cluster.directory,
      },
      stdio: ["ignore", "pipe", "pipe"],
      signal,
    });
    const output: string[] = [];
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text) => output.push(text));
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once("close", resolve);
      child.once("error", reject);
    });
    if (code !== 0) throw new BenchError(`pgbench ${args.join(" ")} through ${path.name} failed:\n${output.join("")}`);
    return output.join("");
  }

  /** SIGTERM to what is in between: a profile is written at an orderly end. */
  async stopPeers(): Promise<void> {
    for (const peer of await Promise.all(this.#peers.values())) await peer.process.stop();
  }

  stop(): Promise<void> {
    return this.cluster.stop();
  }

  remove(): Promise<void> {
    return this.cluster.remove();
  }

  #peer(name: Exclude<PathName, "direct">, pooling: Pooling): Promise<Peer> {
    const key = name === "haproxy" ? name : `${name}-${pooling.poolMode}-${pooling.poolSize}`;
    const known = this.#peers.get(key);
    if (known !== undefined) return known;
    const started = this.#start(name, key, pooling);
    this.#peers.set(key, started);
    return started;
  }

  async #start(name: Exclude<PathName, "direct">, key: string, pooling: Pooling): Promise<Peer> {
    if (name === "haproxy") return startHaproxy(this.cluster, pooling.maxClients);
    if (name === "pgbouncer") return startPgBouncer(this.cluster, key, pooling);
    const pgsteer = await startPgsteer(this.cluster, {
      name: key,
      ready: "sql",
      ...(this.#profiles === null ? {} : { env: { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${this.#profiles}` } }),
      configure: (configuration) => {
        configuration.pool = { default_pool_size: pooling.poolSize, max_client_conn: pooling.maxClients };
        for (const listener of configuration.listeners) listener["pool_mode"] = pooling.poolMode;
      },
    });
    return { process: pgsteer.process, port: pgsteer.ports.write };
  }
}

/** Threads of pgbench: as many as help, no more than clients. */
export function pgbenchThreads(clients: number): number {
  return Math.max(1, Math.min(availableParallelism(), clients));
}
