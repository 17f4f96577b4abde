// The poolers and balancers that pgsteer is measured beside, as their own documentation sets them up: PgBouncer
// (https://www.pgbouncer.org/config.html) straight in front of PostgreSQL, and HAProxy in TCP mode with Patroni's REST API
// as its health check (https://patroni.readthedocs.io/en/latest/rest_api.html).

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { APPLICATION, type Cluster } from "../test/support/cluster.ts";
import { freePort } from "../test/support/ports.ts";
import { makeServerDirectory, type RunningProcess } from "../test/support/processes.ts";
import { queryOnce } from "../test/support/sql.ts";
import { waitFor } from "../test/support/time.ts";

export type PoolMode = "transaction" | "session";

/** How a pooler is to pool. */
export interface Pooling {
  readonly poolMode: PoolMode;
  readonly poolSize: number;
  readonly maxClients: number;
}

/** Something that listens between pgbench and PostgreSQL. */
export interface Peer {
  readonly process: RunningProcess;
  readonly port: number;
}

const HOST = "127.0.0.1";
/** Debian keeps HAProxy and PgBouncer where the PATH of an ordinary user does not look. */
const SYSTEM_PATH = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;

/** Waits until the application can log in and query. */
async function untilServing(peer: Peer): Promise<Peer> {
  const login = { host: HOST, port: peer.port, ...APPLICATION };
  const look = async () => (await queryOnce(login, "SELECT 1", [], 2000)).rows.length === 1;
  await waitFor(look, { timeoutMs: 15_000, intervalMs: 50, what: `${peer.process.name} answers` }).catch((cause) => {
    throw new Error(`${peer.process.name} does not serve; its log ends:\n${peer.process.tail()}`, { cause });
  });
  return peer;
}

/** The stored SCRAM verifier: with it PgBouncer does not have to derive keys from a password at each login. */
async function verifierOf(cluster: Cluster, user: string): Promise<string> {
  const leader = await cluster.requireLeader();
  const { rows } = await cluster.sql(leader, "SELECT rolpassword FROM pg_authid WHERE rolname = $1", [user]);
  const verifier: unknown = rows[0]?.rolpassword;
  if (typeof verifier !== "string") throw new Error(`role ${user} has no password`);
  return verifier;
}

/** Debian's PgBouncer in front of the present leader, or of what listens on `behind` of this host; `name` distinguishes several. */
export async function startPgBouncer(
  cluster: Cluster,
  name: string,
  pooling: Pooling,
  behind: number | null = null,
): Promise<Peer> {
  const directory = makeServerDirectory(join(cluster.directory, name));
  const port = await freePort();
  const leader = cluster.login(await cluster.requireLeader());
  const { host, port: serverPort } = behind === null ? leader : { host: HOST, port: behind };
  const { user, database } = APPLICATION;
  const settings = {
    listen_addr: HOST,
    listen_port: port,
    unix_socket_dir: "",
    auth_type: "scram-sha-256",
    auth_file: join(directory, "userlist.txt"),
    pidfile: join(directory, "pgbouncer.pid"),
    pool_mode: pooling.poolMode,
    default_pool_size: pooling.poolSize,
    max_client_conn: pooling.maxClients,
  };
  const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}\n`);
  const databases = `[databases]\n${database} = host=${host} port=${serverPort} dbname=${database}\n`;
  const file = join(directory, "pgbouncer.ini");
  writeFileSync(file, `${databases}\n[pgbouncer]\n${lines.join("")}`);
  writeFileSync(settings.auth_file, `"${user}" "${await verifierOf(cluster, user)}"\n`);
  const process = await cluster.processes.start("pgbouncer", [file], {
    name,
    cwd: directory,
    asPostgres: true,
    env: { PATH: SYSTEM_PATH },
  });
  return untilServing({ process, port });
}

/** How HAProxy's health checks are set in Patroni's documentation. */
export const DOCUMENTED_CHECKS = "inter 3s fall 3 rise 2";

/** HAProxy with its default number of threads; `name` distinguishes several. */
export async function startHaproxy(
  cluster: Cluster,
  maxClients: number,
  checks = DOCUMENTED_CHECKS,
  name = "haproxy",
): Promise<Peer> {
  const port = await freePort();
  const servers = cluster.members.map((member) => {
    const api = new URL(member.apiUrl);
    return `  server ${member.name} ${member.host}:${member.port} maxconn ${maxClients} check port ${api.port}\n`;
  });
  const file = join(cluster.directory, `${name}.cfg`);
  const configuration = `global
  maxconn ${2 * maxClients}

defaults
  mode tcp
  retries 2
  timeout client 30m
  timeout connect 4s
  timeout server 30m
  timeout check 5s

listen primary
  bind ${HOST}:${port}
  option httpchk OPTIONS /primary
  http-check expect status 200
  default-server ${checks} on-marked-down shutdown-sessions
${servers.join("")}`;
  writeFileSync(file, configuration);
  const options = { name, env: { PATH: SYSTEM_PATH } };
  const process = await cluster.processes.start("haproxy", ["-db", "-f", file], options);
  return untilServing({ process, port });
}
