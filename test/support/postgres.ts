// One PostgreSQL server on a free port, for tests that need no cluster.

import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "./ports.ts";
import { ProcessGroup, type RunningProcess, temporaryServerDirectory } from "./processes.ts";
import { type Login, queryOnce } from "./sql.ts";
import { waitFor } from "./time.ts";

/** A running server; `login` is its superuser's. */
export interface Postgres {
  readonly port: number;
  readonly login: Login;
  readonly directory: string;
  /** Starts it again after `stop`, on its own port unless another is named. */
  start(port?: number): Promise<void>;
  /** Fast shutdown, or at once. */
  stop(how?: "fast" | "immediate"): Promise<void>;
  /** Stops it for good and removes what it wrote. */
  remove(): Promise<void>;
}

/** The newest PostgreSQL that Debian's layout shows, or the one on the path. */
function binaries(): string {
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root).toSorted((a, b) => Number(b) - Number(a)) : [];
  return versions[0] === undefined ? "" : join(root, versions[0], "bin");
}

/** Makes a data directory and starts a server on it; everybody is trusted unless `hba` says otherwise. */
export async function startPostgres(
  name: string,
  hba: readonly string[] = ["host all all 127.0.0.1/32 trust"],
): Promise<Postgres> {
  const group = new ProcessGroup(temporaryServerDirectory(name));
  const directory = join(group.directory, "pg");
  const port = await freePort();
  const login = { host: "127.0.0.1", port, user: "postgres", password: "", database: "postgres" };
  let server: RunningProcess | null = null;
  const start = async (on = port): Promise<void> => {
    const settings = [`port=${on}`, "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"];
    const args = ["-D", directory, ...settings.flatMap((setting) => ["-c", setting])];
    const started = await group.start(join(binaries(), "postgres"), args, { name: "postgres", asPostgres: true });
    server = started;
    await waitFor(() => queryOnce({ ...login, port: on }, "select 1"), {
      timeoutMs: 30_000,
      what: `PostgreSQL answers: ${started.tail()}`,
    });
  };
  const stop = async (how: "fast" | "immediate" = "fast"): Promise<void> => {
    server?.signal(how === "fast" ? "SIGINT" : "SIGQUIT");
    await waitFor(() => server?.alive() !== true, { timeoutMs: 20_000, what: "PostgreSQL has stopped" });
    server = null;
  };
  const remove = async (): Promise<void> => {
    await group.close();
    rmSync(group.directory, { recursive: true, force: true });
  };
  try {
    const initdb = ["-D", directory, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"];
    const preparation = await group.start(join(binaries(), "initdb"), initdb, { name: "initdb", asPostgres: true });
    await waitFor(() => !preparation.alive(), { timeoutMs: 60_000, what: "initdb is done" });
    writeFileSync(join(directory, "pg_hba.conf"), [...hba, ""].join("\n"));
    await start();
  } catch (error) {
    await remove();
    throw error;
  }
  return { port, login, directory, start, stop, remove };
}
