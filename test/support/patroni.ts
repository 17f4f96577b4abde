// One member of a Patroni cluster in tests: its configuration, its Patroni process, and the PostgreSQL that Patroni runs.
// Configuration as in https://patroni.readthedocs.io/en/latest/yaml_configuration.html; free of callbacks.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { type Host, LOCAL_HOST } from "./host.ts";
import { makeServerDirectory, type ProcessGroup, type RunningProcess } from "./processes.ts";
import { childrenOf, isAlive, signal, titleOf } from "./procfs.ts";
import { waitFor } from "./time.ts";

export const SUPERUSER = { user: "postgres", password: "postgres-secret" } as const;
const REPLICATION = { username: "replicator", password: "replicator-secret" } as const;

/** How Patroni is set up, in seconds where Patroni counts in seconds. */
export interface PatroniSettings {
  /** The program; `patroni` by default. */
  readonly command?: string;
  /** Patroni's minimum, 20, by default. */
  readonly ttl?: number;
  readonly loopWait?: number;
  readonly retryTimeout?: number;
  /** Anything else for `bootstrap.dcs`, such as `synchronous_mode`, `failsafe_mode`, `primary_start_timeout`. */
  readonly dcs?: Readonly<Record<string, unknown>>;
  /** `tags` by member name. */
  readonly tags?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

export interface PostgresSettings {
  readonly binaries?: string;
  /** Off by default: a killed process loses nothing that the kernel has, and only the machine's power failure would. */
  readonly fsync?: boolean;
  readonly parameters?: Readonly<Record<string, string | number>>;
  /** Lines of pg_hba.conf that come before the harness's own. */
  readonly hba?: readonly string[];
}

/** What is the same for all members of a cluster. */
export interface MemberSurroundings {
  readonly scope: string;
  readonly namespace: string;
  readonly etcdEndpoints: readonly string[];
  readonly patroni: PatroniSettings;
  readonly postgres: PostgresSettings;
  readonly hosts?: (name: string) => Host;
}

interface MemberPorts {
  readonly postgres: number;
  readonly api: number;
}

const DEFAULT_BINARIES = "/usr/lib/postgresql/15/bin";

/** A member by name; its processes come and go. */
export class PatroniMember {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly apiUrl: string;
  readonly directory: string;
  readonly dataDirectory: string;
  readonly #place: Host;
  /** Patroni's own, written at each start; also what patronictl needs. */
  readonly configurationFile: string;
  readonly #group: ProcessGroup;
  readonly #surroundings: MemberSurroundings;
  #patroni: RunningProcess | null = null;

  constructor(name: string, ports: MemberPorts, group: ProcessGroup, surroundings: MemberSurroundings) {
    this.name = name;
    this.#place = surroundings.hosts?.(name) ?? LOCAL_HOST;
    this.host = this.#place.address;
    this.port = ports.postgres;
    this.apiUrl = `http://${this.host}:${ports.api}`;
    this.directory = makeServerDirectory(join(group.directory, name));
    this.dataDirectory = join(this.directory, "data");
    this.configurationFile = join(this.directory, "patroni.yml");
    this.#group = group;
    this.#surroundings = surroundings;
  }

  /** Pids of Patroni and of the postmaster; null where it does not run. */
  pids(): { readonly patroni: number | null; readonly postmaster: number | null } {
    return { patroni: this.#patroni?.alive() === true ? this.#patroni.pid : null, postmaster: this.#postmaster() };
  }

  /** Starts Patroni, which starts or adopts PostgreSQL. Nothing when it runs already. */
  async start(): Promise<void> {
    if (this.#patroni?.alive() === true) return;
    const file = this.configurationFile;
    writeFileSync(file, stringify(this.#configuration()), { mode: 0o644 });
    const command = this.#surroundings.patroni.command ?? "patroni";
    const { namespaceOf } = this.#place;
    const options = { name: this.name, cwd: this.directory, asPostgres: true, namespaceOf };
    this.#patroni = await this.#group.start(command, [file], options);
  }

  /** SIGTERM to Patroni: it stops PostgreSQL and gives its keys back, as on `systemctl stop patroni`. */
  async stop(graceMs = 20_000): Promise<void> {
    this.thawPostgres();
    await this.#patroni?.stop(graceMs);
    this.#patroni = null;
  }

  /** kill -9 of Patroni and of all of PostgreSQL, as when the machine goes away. */
  async kill(): Promise<void> {
    await this.#patroni?.kill();
    this.#patroni = null;
    const pids = this.#postgresPids();
    for (const pid of pids) signal(pid, "SIGKILL");
    await gone(pids);
  }

  /**
   * kill -9 of the postmaster; its children notice and leave, waited for only `withChildren`: until then one may still answer. Patroni lives
   * on and will start it again in place.
   */
  async killPostgres(withChildren = false): Promise<void> {
    const pid = this.#postmaster();
    if (pid === null) throw new Error(`${this.name} has no running PostgreSQL`);
    const children = withChildren ? childrenOf(pid) : [];
    signal(pid, "SIGKILL");
    await gone([pid, ...children]);
  }

  /** kill -9 of Patroni alone: PostgreSQL lives on, unsupervised. */
  async killPatroni(): Promise<void> {
    await this.#patroni?.kill();
    this.#patroni = null;
  }

  freezePatroni(): void {
    this.#patroni?.signal("SIGSTOP");
  }

  thawPatroni(): void {
    this.#patroni?.signal("SIGCONT");
  }

  freezePostgres(): void {
    for (const pid of this.#postgresPids()) signal(pid, "SIGSTOP");
  }

  thawPostgres(): void {
    for (const pid of this.#postgresPids()) signal(pid, "SIGCONT");
  }

  /** Replay stands still while WAL still arrives. Not by pg_wal_replay_pause: Patroni resumes that within a loop. */
  freezeReplay(): void {
    signal(this.#startupProcess(), "SIGSTOP");
  }

  thawReplay(): void {
    signal(this.#startupProcess(), "SIGCONT");
  }

  tail(lines = 30): string {
    return this.#patroni?.tail(lines) ?? "(Patroni was never started)";
  }

  #startupProcess(): number {
    const pid = this.#postgresPids().find((candidate) => /^postgres: (\S+: )?startup\b/.test(titleOf(candidate)));
    if (pid === undefined) throw new Error(`${this.name} has no startup process: it is not a replica`);
    return pid;
  }

  #postmaster(): number | null {
    let text: string;
    try {
      text = readFileSync(join(this.dataDirectory, "postmaster.pid"), "utf8");
    } catch {
      return null;
    }
    const pid = Number(text.split("\n")[0]);
    // A file left behind by a killed postmaster may name a pid that now belongs to something else.
    return Number.isInteger(pid) && isAlive(pid) && titleOf(pid).includes(this.dataDirectory) ? pid : null;
  }

  #postgresPids(): number[] {
    const postmaster = this.#postmaster();
    return postmaster === null ? [] : [postmaster, ...childrenOf(postmaster)];
  }

  #configuration(): object {
    const { scope, namespace, etcdEndpoints, patroni } = this.#surroundings;
    const tags = patroni.tags?.[this.name];
    return {
      scope,
      namespace,
      name: this.name,
      restapi: { listen: new URL(this.apiUrl).host, connect_address: new URL(this.apiUrl).host },
      etcd3: { hosts: etcdEndpoints.map((endpoint) => new URL(endpoint).host) },
      bootstrap: { dcs: this.#dcs(), initdb: [{ encoding: "UTF8" }, { locale: "C" }, "no-sync"] },
      postgresql: this.#postgresql(),
      ...(tags === undefined ? {} : { tags }),
    };
  }

  #dcs(): object {
    const { patroni, postgres } = this.#surroundings;
    return {
      ttl: patroni.ttl ?? 20,
      loop_wait: patroni.loopWait ?? 1,
      retry_timeout: patroni.retryTimeout ?? 3,
      maximum_lag_on_failover: 1_048_576,
      ...patroni.dcs,
      postgresql: {
        use_pg_rewind: true,
        parameters: {
          max_connections: 200,
          shared_buffers: "32MB",
          wal_keep_size: "256MB",
          wal_receiver_status_interval: "1s",
          log_line_prefix: "%m [%p] %q%u@%d/%a ",
          ...postgres.parameters,
        },
      },
    };
  }

  #postgresql(): object {
    const { postgres } = this.#surroundings;
    const fsync = postgres.fsync === true ? "on" : "off";
    return {
      listen: `${this.host}:${this.port}`,
      connect_address: `${this.host}:${this.port}`,
      data_dir: this.dataDirectory,
      bin_dir: postgres.binaries ?? DEFAULT_BINARIES,
      pgpass: join(this.directory, "pgpass"),
      authentication: {
        superuser: { username: SUPERUSER.user, password: SUPERUSER.password },
        replication: REPLICATION,
      },
      // Former leaders come back by themselves, with whatever it takes.
      remove_data_directory_on_rewind_failure: true,
      remove_data_directory_on_diverged_timelines: true,
      basebackup: [{ checkpoint: "fast" }, "no-sync"],
      // TCP alone: the path of a socket below a deep directory would be too long for the kernel.
      parameters: { fsync, unix_socket_directories: "", password_encryption: "scram-sha-256" },
      pg_hba: [
        ...(postgres.hba ?? []),
        "host all all 127.0.0.0/8 scram-sha-256",
        `host replication ${REPLICATION.username} 127.0.0.0/8 scram-sha-256`,
      ],
    };
  }
}

async function gone(pids: readonly number[]): Promise<void> {
  await waitFor(() => !pids.some(isAlive), { timeoutMs: 5000, intervalMs: 5, what: `processes ${pids} are gone` });
}
