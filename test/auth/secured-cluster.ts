// A cluster that trusts nobody: etcd with TLS, client certificates, users and tokens that live for two seconds; Patroni's REST API with
// TLS, client certificates and a password. Two members, as documented in
// https://etcd.io/docs/v3.4/op-guide/security/ and https://patroni.readthedocs.io/en/latest/yaml_configuration.html.

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { Authority, type CertificateFiles } from "../support/authority.ts";
import { APPLICATION, PROBE } from "../support/cluster.ts";
import { SUPERUSER } from "../support/patroni.ts";
import { freePort } from "../support/ports.ts";
import {
  handToServers,
  makeServerDirectory,
  ProcessGroup,
  type RunningProcess,
  temporaryServerDirectory,
} from "../support/processes.ts";
import { runProgram } from "../support/programs.ts";
import { type Login, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

const BINARIES = "/usr/lib/postgresql/15/bin";
const TOKEN_SECONDS = 2;
const ROOT = { user: "root", password: "etcd-root-secret" } as const;
/** Patroni's user of etcd, and pgsteer's. */
const PATRONI = { user: "patroni", password: "etcd-patroni-secret" } as const;
export const ROUTER = { user: "pgsteer", password: "etcd-router-secret" } as const;
/** User of Patroni's REST API for what changes anything. */
export const REST = { user: "operator", password: "rest-secret" } as const;

interface Member {
  readonly name: string;
  readonly port: number;
  readonly api: string;
}

/** All of it, running. */
export class SecuredCluster {
  readonly processes: ProcessGroup;
  readonly authority: Authority;
  readonly stranger: Authority;
  /** pgsteer's certificate for etcd and Patroni. */
  readonly router: CertificateFiles;
  readonly etcd: string;
  readonly members: readonly Member[];
  readonly #server: CertificateFiles;
  readonly #peerPort: number;
  #etcdProcess: RunningProcess | null = null;

  private constructor(
    processes: ProcessGroup,
    authorities: readonly [Authority, Authority],
    certificates: { readonly server: CertificateFiles; readonly router: CertificateFiles },
    etcd: string,
    peerPort: number,
    members: readonly Member[],
  ) {
    this.#peerPort = peerPort;
    this.processes = processes;
    [this.authority, this.stranger] = authorities;
    this.router = certificates.router;
    this.#server = certificates.server;
    this.etcd = etcd;
    this.members = members;
  }

  static async start(name: string): Promise<SecuredCluster> {
    const processes = new ProcessGroup(temporaryServerDirectory(name));
    try {
      const authority = await Authority.found(join(processes.directory, "authority"));
      const stranger = await Authority.found(join(processes.directory, "stranger"), "/CN=stranger");
      // Patroni speaks to etcd's JSON gateway, which refuses clients with a common name, and is a client itself.
      const server = await authority.issue({ name: "server", subject: "/O=servers", names: "IP:127.0.0.1" });
      const router = await authority.issue({ name: "router", subject: "/CN=router" });
      handToServers(server.key);
      const members: Member[] = [];
      for (const member of ["node1", "node2"]) {
        members.push({ name: member, port: await freePort(), api: `127.0.0.1:${await freePort()}` });
      }
      const etcd = `https://127.0.0.1:${await freePort()}`;
      const parts = [processes, [authority, stranger], { server, router }, etcd, await freePort(), members] as const;
      const cluster = new SecuredCluster(...parts);
      await cluster.#startEtcd();
      for (const member of members) await cluster.#startMember(member);
      await cluster.replicates(await cluster.primary());
      return cluster;
    } catch (error) {
      await processes.close();
      throw error;
    }
  }

  login(member: Member, as: Omit<Login, "host" | "port"> = { ...SUPERUSER, database: "postgres" }): Login {
    return { host: "127.0.0.1", port: member.port, ...as };
  }

  /** The member that takes writes. */
  async primary(): Promise<Member> {
    const found = async (): Promise<Member | null> => {
      for (const member of this.members) {
        const { rows } = await queryOnce(this.login(member), "SELECT pg_is_in_recovery() AS r").catch(() => ({
          rows: [],
        }));
        if (rows[0]?.["r"] === false) return member;
      }
      return null;
    };
    return waitFor(found, { timeoutMs: 60_000, what: "a member takes writes" });
  }

  /** Waits until the other member streams from this one. */
  async replicates(member: Member): Promise<void> {
    const question = "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'";
    const streams = async () => (await queryOnce(this.login(member), question)).rows.length === 1;
    await waitFor(streams, { timeoutMs: 60_000, what: `${member.name} has a replica` });
  }

  /** etcdctl as root; its output. Rejects when it fails. */
  async etcdctl(...words: readonly string[]): Promise<string> {
    const { cert, key } = this.router;
    const how = ["--endpoints", this.etcd, "--cacert", this.authority.ca, "--cert", cert, "--key", key];
    const { code, stdout, stderr } = await runProgram("etcdctl", [...how, ...words], { env: { ETCDCTL_API: "3" } });
    if (code !== 0) throw new Error(`etcdctl ${words[0]} ${words[1]}: ${stderr}`);
    return stdout;
  }

  /** Stops etcd and starts it again: all tokens that it gave are void. */
  async restartEtcd(): Promise<void> {
    await this.#etcdProcess?.stop();
    await this.#launchEtcd();
    await waitFor(() => this.etcdctl("endpoint", "health", "--user", `${ROOT.user}:${ROOT.password}`), {
      timeoutMs: 30_000,
      what: "etcd answers again",
    });
  }

  /** Ends everything. */
  async remove(): Promise<void> {
    await this.processes.close();
    rmSync(this.processes.directory, { recursive: true, force: true });
  }

  async #startEtcd(): Promise<void> {
    await this.#launchEtcd();
    await waitFor(() => this.etcdctl("endpoint", "health"), { timeoutMs: 30_000, what: "etcd answers" });
    await this.etcdctl("user", "add", `${ROOT.user}:${ROOT.password}`);
    await this.etcdctl("user", "grant-role", ROOT.user, "root");
    for (const [{ user, password }, prefixes] of [
      [PATRONI, ["/service/"]],
      [ROUTER, ["/service/", "/pgsteer/"]],
    ] as const) {
      await this.etcdctl("role", "add", user);
      for (const prefix of prefixes)
        await this.etcdctl("role", "grant-permission", user, "--prefix=true", "readwrite", prefix);
      await this.etcdctl("user", "add", `${user}:${password}`);
      await this.etcdctl("user", "grant-role", user, user);
    }
    await this.etcdctl("auth", "enable");
  }

  async #launchEtcd(): Promise<void> {
    const peer = `http://127.0.0.1:${this.#peerPort}`;
    const directory = makeServerDirectory(join(this.processes.directory, "etcd"));
    const args = ["--name", "etcd1", "--data-dir", join(directory, "data"), "--logger", "zap"];
    args.push("--listen-client-urls", this.etcd, "--advertise-client-urls", this.etcd);
    args.push("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", `etcd1=${peer}`);
    args.push("--cert-file", this.#server.cert, "--key-file", this.#server.key);
    args.push("--client-cert-auth", "--trusted-ca-file", this.authority.ca, "--auth-token-ttl", String(TOKEN_SECONDS));
    this.#etcdProcess = await this.processes.start("etcd", args, { name: "etcd1", cwd: directory, asPostgres: true });
  }

  async #startMember(member: Member): Promise<void> {
    const directory = makeServerDirectory(join(this.processes.directory, member.name));
    const file = join(directory, "patroni.yml");
    writeFileSync(file, stringify(this.#configuration(member, directory)));
    handToServers(file);
    const running = await this.processes.start("patroni", [file], {
      name: member.name,
      cwd: directory,
      asPostgres: true,
    });
    const answers = async () => (await queryOnce(this.login(member), "SELECT 1")).rows.length === 1;
    await waitFor(answers, { timeoutMs: 60_000, what: `${member.name} answers` }).catch((cause) => {
      throw new Error(`${member.name} does not answer:\n${running.tail()}`, { cause });
    });
    if (member !== this.members[0]) return;
    await this.primary();
    const { user, password, database } = APPLICATION;
    const roles = `CREATE ROLE ${user} LOGIN PASSWORD '${password}';
      CREATE ROLE ${PROBE.user} LOGIN PASSWORD '${PROBE.password}' IN ROLE pg_monitor`;
    await queryOnce(this.login(member), roles);
    await queryOnce(this.login(member), `CREATE DATABASE ${database} OWNER ${user}`);
  }

  #configuration({ name, port, api }: Member, directory: string): object {
    const { cert, key } = this.#server;
    const host = new URL(this.etcd).host;
    return {
      scope: "demo",
      namespace: "/service",
      name,
      restapi: {
        listen: api,
        connect_address: api,
        certfile: cert,
        keyfile: key,
        cafile: this.authority.ca,
        verify_client: "required",
        authentication: { username: REST.user, password: REST.password },
      },
      // With which members ask each other.
      ctl: { cacert: this.authority.ca, certfile: cert, keyfile: key },
      etcd3: {
        hosts: [host],
        protocol: "https",
        cacert: this.authority.ca,
        cert,
        key,
        username: PATRONI.user,
        password: PATRONI.password,
      },
      bootstrap: {
        // A moment without etcd shall cost no leader.
        dcs: { ttl: 30, loop_wait: 1, retry_timeout: 10, postgresql: { use_pg_rewind: true } },
        initdb: [{ encoding: "UTF8" }, { locale: "C" }, "no-sync"],
      },
      postgresql: {
        listen: `127.0.0.1:${port}`,
        connect_address: `127.0.0.1:${port}`,
        data_dir: join(directory, "data"),
        bin_dir: BINARIES,
        pgpass: join(directory, "pgpass"),
        authentication: {
          superuser: { username: SUPERUSER.user, password: SUPERUSER.password },
          replication: { username: "replicator", password: "replicator-secret" },
        },
        basebackup: [{ checkpoint: "fast" }, "no-sync"],
        parameters: { fsync: "off", unix_socket_directories: "", wal_keep_size: "256MB" },
        pg_hba: ["host all all 127.0.0.0/8 scram-sha-256", "host replication replicator 127.0.0.0/8 scram-sha-256"],
      },
    };
  }
}
