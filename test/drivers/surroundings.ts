// The servers that driver programs meet: a cluster of two members with TLS, and one pgsteer with a listener per mode, both to
// the leader, over pools so small that transactions have to move between servers.

import { chownSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { makeCertificates } from "../support/certificates.ts";
import { APPLICATION, startCluster } from "../support/cluster.ts";
import { startPgsteer } from "../support/pgsteer.ts";
import { temporaryServerDirectory } from "../support/processes.ts";
import { queryOnce } from "../support/sql.ts";
import { type Mode, modes } from "./outcome.ts";

/** Where a program connects in each mode. */
export interface Surroundings {
  readonly environment: (mode: Mode) => Readonly<Record<string, string>>;
  /** Drops what a program that did not end by itself has left. */
  readonly dropSchema: (schema: string) => Promise<void>;
  /** For a person: where it all is. */
  readonly description: string;
  readonly remove: () => Promise<void>;
}

/** Starts the cluster, then pgsteer. */
export async function startSurroundings(): Promise<Surroundings> {
  const directory = temporaryServerDirectory("drivers");
  const files = join(directory, "tls");
  mkdirSync(files);
  await makeCertificates(files, "IP:127.0.0.1,DNS:localhost");
  const path = (name: string): string => join(files, name);
  // PostgreSQL wants its key for itself.
  const { uid, gid } = statSync(directory);
  chownSync(path("server.key"), uid, gid);
  const cluster = await startCluster({
    directory,
    members: 2,
    postgres: {
      parameters: {
        ssl: "on",
        ssl_cert_file: path("server.crt"),
        ssl_key_file: path("server.key"),
        max_prepared_transactions: 10,
        max_connections: 100,
      },
    },
  });
  try {
    const leader = cluster.member(await cluster.requireLeader());
    const pgsteer = await startPgsteer(cluster, {
      configure: (configuration) => {
        for (const listener of configuration.listeners) {
          if (listener["name"] === "read") continue;
          listener["route"] = "write";
          if (listener["name"] === "auto") Object.assign(listener, { name: "session", pool_mode: "session" });
          else listener["name"] = "transaction";
        }
        configuration["client_tls"] = { mode: "allow", cert_file: path("server.crt"), key_file: path("server.key") };
        Object.assign(configuration.pool, { default_pool_size: 5, max_client_conn: 200 });
      },
    });
    const ports: Record<Mode, number> = {
      direct: leader.port,
      session: pgsteer.ports.auto,
      transaction: pgsteer.ports.write,
    };
    return {
      environment: (mode) => ({
        PGHOST: "127.0.0.1",
        PGPORT: String(ports[mode]),
        PGUSER: APPLICATION.user,
        PGPASSWORD: APPLICATION.password,
        PGDATABASE: APPLICATION.database,
        PGSSLROOTCERT: path("ca.crt"),
        MODE: mode,
      }),
      dropSchema: async (schema) => {
        await queryOnce(cluster.login(leader.name, APPLICATION), `DROP SCHEMA IF EXISTS ${schema} CASCADE`);
      },
      description: [
        `PostgreSQL, Patroni, etcd and pgsteer, with their logs, are in ${directory}`,
        ...modes.map((mode) => `  ${mode}: 127.0.0.1:${ports[mode]}`),
      ].join("\n"),
      remove: () => cluster.remove(),
    };
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}
