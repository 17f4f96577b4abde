// A primary and a streaming replica of one major version, without pg_basebackup: the replica is a copy of the cleanly stopped
// primary's data directory (https://www.postgresql.org/docs/current/warm-standby.html).

import { appendFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { APPLICATION, PROBE } from "../support/cluster.ts";
import { freePort } from "../support/ports.ts";
import { ProcessGroup, type RunningProcess, temporaryServerDirectory } from "../support/processes.ts";
import { type Login, queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";

/** A role whose password the servers keep as an md5 hash. */
export const LEGACY = { user: "legacy", password: "legacy-secret", database: APPLICATION.database } as const;

const HBA = [
  "host replication all 127.0.0.1/32 trust",
  "host all postgres 127.0.0.1/32 trust",
  `host all ${LEGACY.user} 127.0.0.1/32 md5`,
  "host all all 127.0.0.1/32 scram-sha-256",
];

const roles = `SET password_encryption = 'scram-sha-256';
  CREATE ROLE ${APPLICATION.user} LOGIN PASSWORD '${APPLICATION.password}';
  CREATE ROLE ${PROBE.user} LOGIN PASSWORD '${PROBE.password}' IN ROLE pg_monitor;
  SET password_encryption = 'md5';
  CREATE ROLE ${LEGACY.user} LOGIN PASSWORD '${LEGACY.password}'`;

/** One of the two servers. */
class Member {
  readonly name: string;
  readonly port: number;
  readonly directory: string;
  readonly #binaries: string;
  readonly #group: ProcessGroup;
  #server: RunningProcess | null = null;

  constructor(name: string, port: number, binaries: string, group: ProcessGroup) {
    this.name = name;
    this.port = port;
    this.directory = join(group.directory, name);
    this.#binaries = binaries;
    this.#group = group;
  }

  login(as: Omit<Login, "host" | "port"> = { user: "postgres", password: "", database: "postgres" }): Login {
    return { host: "127.0.0.1", port: this.port, ...as };
  }

  /** Runs one of the version's programs to its end. */
  async run(program: string, args: readonly string[]): Promise<void> {
    const command = program.includes("/") ? program : join(this.#binaries, program);
    const running = await this.#group.start(command, args, {
      name: `${this.name}-${basename(command)}`,
      asPostgres: true,
    });
    await waitFor(() => running.exitCode() !== null, { timeoutMs: 60_000, intervalMs: 20, what: `${program} is done` });
    if (running.exitCode() !== 0) throw new Error(`${program} ${args.join(" ")} failed:\n${running.tail()}`);
  }

  async start(): Promise<void> {
    const settings = [`port=${this.port}`, "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"];
    const more = ["wal_retrieve_retry_interval=100ms", `cluster_name=${this.name}`];
    const args = ["-D", this.directory, ...[...settings, ...more].flatMap((setting) => ["-c", setting])];
    const server = await this.#group.start(join(this.#binaries, "postgres"), args, {
      name: this.name,
      asPostgres: true,
    });
    this.#server = server;
    await waitFor(() => queryOnce(this.login(), "SELECT 1"), {
      timeoutMs: 30_000,
      what: `PostgreSQL answers: ${server.tail()}`,
    });
  }

  /** Fast shutdown. */
  async stop(): Promise<void> {
    this.#server?.signal("SIGINT");
    await waitFor(() => this.#server?.alive() !== true, { timeoutMs: 20_000, what: `${this.name} has stopped` });
  }
}

/** Two servers and what is started beside them; all end with `remove`. */
export interface Pair {
  readonly directory: string;
  readonly processes: ProcessGroup;
  readonly primary: Member;
  readonly replica: Member;
  remove(): Promise<void>;
}

/** Starts both; returns when the replica streams. */
export async function startPair(major: number, binaries: string): Promise<Pair> {
  const group = new ProcessGroup(temporaryServerDirectory(`version-${major}`));
  const primary = new Member("primary", await freePort(), binaries, group);
  const replica = new Member("replica", await freePort(), binaries, group);
  const remove = async (): Promise<void> => {
    await group.close();
    rmSync(group.directory, { recursive: true, force: true });
  };
  try {
    const initdb = ["-D", primary.directory, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"];
    await primary.run("initdb", initdb);
    writeFileSync(join(primary.directory, "pg_hba.conf"), [...HBA, ""].join("\n"));
    await primary.start();
    await queryOnce(primary.login(), roles);
    await queryOnce(primary.login(), `CREATE DATABASE ${APPLICATION.database} OWNER ${APPLICATION.user}`);
    await primary.stop();
    await replica.run("/bin/cp", ["-a", primary.directory, replica.directory]);
    writeFileSync(join(replica.directory, "standby.signal"), "");
    const upstream = `host=127.0.0.1 port=${primary.port} user=postgres application_name=${replica.name}`;
    appendFileSync(join(replica.directory, "postgresql.auto.conf"), `primary_conninfo = '${upstream}'\n`);
    await Promise.all([primary.start(), replica.start()]);
    const streams = "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'";
    const look = async () => (await queryOnce(primary.login(), streams)).rows.length === 1;
    await waitFor(look, { timeoutMs: 30_000, what: "the replica streams" });
  } catch (error) {
    await remove();
    throw error;
  }
  return { directory: group.directory, processes: group, primary, replica, remove };
}
