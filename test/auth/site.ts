// Where logins are compared: PostgreSQL with TLS and without it that clients ask directly, PostgreSQL behind the router, and routers:
// one process with a listener for each way of TLS towards servers.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Authority, type CertificateFiles } from "../support/authority.ts";
import { type Pgsteer, type PgsteerConfiguration, startPgsteer } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { handToServers, ProcessGroup, temporaryServerDirectory } from "../support/processes.ts";
import { queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";
import { type Account, clientMap, clientRecords, rolesOf, serverMap, serverRecords, userlistOf } from "./accounts.ts";
import { type Cell, dimensions } from "./cell.ts";
import type { Target } from "./target.ts";

/** Asks the servers behind for secrets (auth_query). */
export const ASKER = { user: "asker", password: "asker-secret" } as const;
export const PROBE = { user: "prober", password: "prober-secret", database: "postgres" } as const;
const SUPERUSER = "host all postgres 127.0.0.1/32 trust";

/** A router with a listener for each way to its servers. */
export interface Router {
  readonly pgsteer: Pgsteer;
  portOf(cell: Pick<Cell, "server" | "serverTls">): number;
}

/** What all servers of a site are made of. */
interface Papers {
  readonly authority: Authority;
  readonly stranger: Authority;
  readonly server: CertificateFiles;
  /** What the router shows to servers. */
  readonly router: CertificateFiles;
}

async function makePapers(directory: string): Promise<Papers> {
  const authority = await Authority.found(join(directory, "authority"));
  const stranger = await Authority.found(join(directory, "stranger"), "/CN=stranger");
  const server = await authority.issue({ name: "server", names: "IP:127.0.0.1" });
  // PostgreSQL wants its key for itself; root, as whom the router may run here, can read it all the same.
  handToServers(server.key);
  const router = await authority.issue({ name: "router", subject: "/CN=pgsteer" });
  return { authority, stranger, server, router };
}

/** The name of the cluster, and of its listener, by which a cell's user reaches the server behind. */
const wayOf = ({ server, serverTls }: Pick<Cell, "server" | "serverTls">): string =>
  server === "bound" ? `${serverTls}-bound` : serverTls;

/** What is read by the router, and by PgBouncer. */
export interface RouterFiles {
  readonly userlist: string;
  readonly hba: string;
  readonly ident: string;
}

/** A way of TLS towards servers: a cluster of the router, and the listener that leads to it. */
export interface Way {
  readonly name: string;
  readonly settings: Readonly<Record<string, unknown>>;
  /** Where the server is; the site's own by default. */
  readonly port?: number;
}

export class Site {
  readonly directory: string;
  readonly processes: ProcessGroup;
  readonly papers: Papers;
  readonly asked: Postgres;
  readonly askedPlain: Postgres;
  readonly behind: Postgres;
  readonly #shown = new Map<string, CertificateFiles>();
  #accounts: readonly Account[] = [];

  private constructor(processes: ProcessGroup, papers: Papers, servers: readonly [Postgres, Postgres, Postgres]) {
    this.directory = processes.directory;
    this.processes = processes;
    this.papers = papers;
    [this.asked, this.askedPlain, this.behind] = servers;
  }

  static async start(name: string): Promise<Site> {
    const processes = new ProcessGroup(temporaryServerDirectory(name));
    try {
      const papers = await makePapers(processes.directory);
      const { authority, server } = papers;
      const files = { ssl_cert_file: server.cert, ssl_key_file: server.key, ssl_ca_file: authority.ca };
      const parameters = { ssl: "on", ...files, ssl_crl_file: authority.crl, max_connections: 300 };
      const options = { processes, parameters };
      const servers = await Promise.all([
        startPostgres("asked", [SUPERUSER], options),
        startPostgres("asked-plain", [SUPERUSER], { processes }),
        startPostgres("behind", [SUPERUSER], options),
      ]);
      for (const { login } of servers) await queryOnce(login, "CREATE DATABASE app");
      const helpers = `CREATE ROLE ${PROBE.user} LOGIN PASSWORD '${PROBE.password}' IN ROLE pg_monitor;
        CREATE ROLE ${ASKER.user} LOGIN SUPERUSER PASSWORD '${ASKER.password}'`;
      await queryOnce(servers[2].login, helpers);
      return new Site(processes, papers, servers);
    } catch (error) {
      await processes.close();
      throw error;
    }
  }

  /** Makes these users and no others known to all three servers, and their certificates. */
  async admit(accounts: readonly Account[]): Promise<void> {
    this.#accounts = accounts;
    // Before PostgreSQL reloads, for it reads the list of revoked ones then.
    for (const { cell } of accounts) if (cell.shown !== "none") await this.#certify(cell);
    for (const each of [this.asked, this.askedPlain])
      await queryOnce(each.login, rolesOf(accounts, "storedAsked"), [], 30_000);
    await queryOnce(this.behind.login, rolesOf(accounts, "storedBehind"), [], 30_000);
    await this.asked.admit([SUPERUSER, ...clientRecords(accounts)], clientMap(accounts));
    await this.askedPlain.admit([SUPERUSER, ...clientRecords(accounts.filter(({ cell }) => !cell.offered))]);
    const helpers = [PROBE.user, ASKER.user, "pgbouncer"].map((user) => `host all ${user} 127.0.0.1/32 scram-sha-256`);
    await this.behind.admit([SUPERUSER, ...helpers, ...serverRecords(accounts)], serverMap(accounts));
  }

  /**
   * The files that a router reads: userlist, with `more` users and their passwords, access rules and map, of those accounts that it
   * is for.
   */
  writeFiles(
    name: string,
    isFor: (account: Account) => boolean = () => true,
    more: Readonly<Record<string, string>> = {},
  ): RouterFiles {
    const accounts = this.#accounts.filter(isFor);
    const write = (kind: string, text: string): string => {
      const file = join(this.directory, `${name}-${kind}`);
      writeFileSync(file, text, { mode: 0o600 });
      // PgBouncer runs as an ordinary user.
      handToServers(file);
      return file;
    };
    const others = Object.entries(more).map(([user, secret]) => `"${user}" "${secret}"\n`);
    return {
      userlist: write("accounts.txt", `${userlistOf(accounts)}${others.join("")}`),
      hba: write("hba.conf", `${clientRecords(accounts).join("\n")}\n`),
      ident: write("ident.conf", `${clientMap(accounts).join("\n")}\n`),
    };
  }

  /** A router with a cluster and a listener per way. `configure` says how its clients log in. */
  async router(
    name: string,
    ways: readonly Way[],
    configure: (configuration: PgsteerConfiguration) => void,
  ): Promise<Router> {
    const ports = new Map<string, number>();
    for (const way of ways) ports.set(way.name, await freePort());
    const pgsteer = await startPgsteer(
      { directory: this.directory, processes: this.processes },
      {
        name,
        ready: "none",
        configure: (configuration) => {
          configuration.clusters = {};
          configuration.listeners = [];
          for (const { name: cluster, settings, port = this.behind.port } of ways) {
            const hosts = [`127.0.0.1:${port}`];
            configuration.clusters[cluster] = {
              source: "static",
              static: { hosts },
              probe: PROBE,
              server_tls: settings,
            };
            const door = { address: "127.0.0.1", port: ports.get(cluster), route: "write", pool_mode: "session" };
            configuration.listeners.push({ name: cluster, cluster, ...door });
          }
          const patience = { server_idle_timeout: "2s", query_wait_timeout: "15s" };
          Object.assign(configuration.pool, { ...patience, max_client_conn: 2000 });
          configure(configuration);
        },
      },
    );
    const readiness = [...ports.keys()].map((cluster) => `${pgsteer.httpUrl}/readyz?route=write&cluster=${cluster}`);
    for (const url of readiness) {
      const ready = async () => !pgsteer.process.alive() || (await fetch(url)).status === 200;
      await waitFor(ready, { timeoutMs: 30_000, intervalMs: 20, what: `${url} answers 200` });
    }
    if (!pgsteer.process.alive()) throw new Error(`pgsteer has ended:\n${pgsteer.process.tail()}`);
    return { pgsteer, portOf: (cell) => ports.get(wayOf(cell)) ?? 0 };
  }

  /** What the router shows servers, and whom it believes, for each way that cells ask for. */
  ways(): Way[] {
    const { authority, router } = this.papers;
    const files = { cert_file: router.cert, key_file: router.key };
    return dimensions.serverTls.flatMap((sslmode): Way[] => {
      const clear = { allow_clear_text: true };
      if (sslmode === "disable") return [{ name: sslmode, settings: { sslmode, ...clear } }];
      const settings = { sslmode, ...clear, ...files, ...(/^verify/.test(sslmode) ? { ca_file: authority.ca } : {}) };
      const bound = { name: `${sslmode}-bound`, settings: { ...settings, channel_binding: "require" } };
      return sslmode === "allow" ? [{ name: sslmode, settings }] : [{ name: sslmode, settings }, bound];
    });
  }

  /** How a cell's client logs in, at this port. */
  target({ cell, password }: Account, port: number): Target {
    const { user, host, database, sslmode } = cell;
    const { authority, stranger } = this.papers;
    const said = { right: password, wrong: `${password}?`, empty: "" }[cell.password];
    return {
      host,
      port,
      user,
      database,
      sslmode,
      password: said,
      bound: cell.method === "bound",
      ca: cell.trusts ? authority.ca : stranger.ca,
      certificate: this.#shown.get(user) ?? null,
    };
  }

  /** Ends everything. */
  async remove(): Promise<void> {
    await this.processes.close();
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #certify(cell: Cell): Promise<void> {
    const { authority, stranger } = this.papers;
    const { user, shown, method } = cell;
    const own = method === "cert-map" ? `Staff of ${user}` : user;
    const subject = `/CN=${shown === "of another name" ? `not ${own}` : own}`;
    const issuer = shown === "of a stranger" ? stranger : authority;
    this.#shown.set(user, await issuer.issue({ name: user, subject, over: shown === "over" }));
    if (shown === "revoked") await authority.revoke(user);
  }
}
