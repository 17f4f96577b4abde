// One of the two pgsteers of a run: started, killed and started again on the same configuration and ports, in its own place.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { APPLICATION, type Cluster, PROBE } from "../support/cluster.ts";
import type { Host } from "../support/host.ts";
import { projectRoot } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import type { RunningProcess } from "../support/processes.ts";
import type { Login } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

const routes = ["auto", "write", "read", "session"] as const;
export type Route = (typeof routes)[number];
type Ports = Readonly<Record<Route | "http", number>>;

export class Router {
  readonly name: string;
  readonly log: string;
  readonly #cluster: Cluster;
  readonly #host: Host;
  readonly #ports: Ports;
  #process: RunningProcess | null = null;

  private constructor(name: string, cluster: Cluster, host: Host, ports: Ports) {
    this.name = name;
    this.log = join(cluster.directory, `${name}.log`);
    this.#cluster = cluster;
    this.#host = host;
    this.#ports = ports;
  }

  /** Chooses ports and writes the configuration; `start` runs it. */
  static async make(name: string, cluster: Cluster, host: Host): Promise<Router> {
    const ports = {
      auto: await freePort(),
      write: await freePort(),
      read: await freePort(),
      session: await freePort(),
      http: await freePort(),
    };
    const router = new Router(name, cluster, host, ports);
    const users = `"${APPLICATION.user}" "${APPLICATION.password}"\n`;
    writeFileSync(join(cluster.directory, `${name}-userlist.txt`), users, { mode: 0o600 });
    writeFileSync(router.#file, stringify(router.#configuration()), { mode: 0o600 });
    return router;
  }

  login(route: Route): Login {
    return { host: this.#host.address, port: this.#ports[route], ...APPLICATION };
  }

  /** Runs it, and waits until it serves writes or half a minute has passed: a cluster in trouble is no reason to stop. */
  async start(): Promise<void> {
    if (this.#process?.alive() === true) return;
    const main = process.env["PGSTEER_MAIN"] ?? join(projectRoot, "src", "cli", "main.ts");
    const { namespaceOf } = this.#host;
    this.#process = await this.#cluster.processes.start(process.execPath, [main, "run", "-c", this.#file], {
      name: this.name,
      namespaceOf,
    });
    const url = `http://${this.#host.address}:${this.#ports.http}/readyz?route=write`;
    const ready = async () => (await fetch(url, { signal: AbortSignal.timeout(2000) })).status === 200;
    await waitFor(ready, { timeoutMs: 30_000, what: `${this.name} is ready` }).catch(() => {});
  }

  async kill(): Promise<void> {
    await this.#process?.kill();
  }

  freeze(): void {
    this.#process?.signal("SIGSTOP");
  }

  thaw(): void {
    this.#process?.signal("SIGCONT");
  }

  /** False after it ended by itself: that is a bug, and its log says which. */
  get runs(): boolean {
    return this.#process?.alive() === true;
  }

  get #file(): string {
    return join(this.#cluster.directory, `${this.name}.yaml`);
  }

  #configuration(): object {
    const { scope, namespace, etcdEndpoints } = this.#cluster;
    const { address } = this.#host;
    return {
      clusters: {
        demo: { source: "etcd", scope, namespace, etcd: { endpoints: [...etcdEndpoints] }, probe: { ...PROBE } },
      },
      listeners: routes.map((route) => ({
        name: route,
        address,
        port: this.#ports[route],
        route: route === "session" ? "write" : route,
        pool_mode: route === "session" ? "session" : "transaction",
        ...(route === "read" ? { lag_bytes_max: 16_777_216, fallback: "primary" } : {}),
      })),
      auth: { type: "scram-sha-256", file: `${this.name}-userlist.txt` },
      // Small enough that clients wait for each other.
      pool: { default_pool_size: 8, max_client_conn: 200, query_wait_timeout: "40s", server_connect_timeout: "5s" },
      http: { address, port: this.#ports.http },
      log: { level: "info", format: "json" },
    };
  }
}
