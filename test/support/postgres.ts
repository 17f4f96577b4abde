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
  /** Everything that was started for it; also the way to start more that shall end with it. */
  readonly processes: ProcessGroup;
  /** Replaces pg_hba.conf, and pg_ident.conf where it is given; returns when PostgreSQL goes by them. Rejects when it does not. */
  admit(hba: readonly string[], ident?: readonly string[]): Promise<void>;
  /** Starts it again after `stop`, on its own port unless another is named. */
  start(port?: number): Promise<void>;
  /** Fast shutdown, or at once. */
  stop(how?: "fast" | "immediate"): Promise<void>;
  /** Stops it for good and removes what it wrote. */
  remove(): Promise<void>;
}

/** The newest PostgreSQL that Debian's layout shows, or the one on the path. */
function debianBinaries(): string {
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root).toSorted((a, b) => Number(b) - Number(a)) : [];
  return versions[0] === undefined ? "" : join(root, versions[0], "bin");
}

// A record for TLS where there is none is pointed out, and kept.
const problems =
  "SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL AND error !~ 'cannot match because SSL'";

interface PostgresOptions {
  /** Settings for its command line. */
  readonly parameters?: Readonly<Record<string, string | number>>;
  /** The folder of its programs; Debian's newest by default. */
  readonly binaries?: string;
  /** Lines of pg_ident.conf. */
  readonly ident?: readonly string[];
  /** Where it lives, with others perhaps; a group of its own by default. */
  readonly processes?: ProcessGroup;
}

/** Makes a data directory and starts a server on it; everybody is trusted unless `hba` says otherwise. */
export async function startPostgres(
  name: string,
  hba: readonly string[] = ["host all all 127.0.0.1/32 trust"],
  { parameters = {}, ident = [], processes, binaries = debianBinaries() }: PostgresOptions = {},
): Promise<Postgres> {
  const group = processes ?? new ProcessGroup(temporaryServerDirectory(name));
  const directory = join(group.directory, processes === undefined ? "pg" : name);
  const port = await freePort();
  const login = { host: "127.0.0.1", port, user: "postgres", password: "", database: "postgres" };
  let server: RunningProcess | null = null;
  const start = async (on = port): Promise<void> => {
    const settings = [`port=${on}`, "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"];
    settings.push(...Object.entries(parameters).map(([key, value]) => `${key}=${value}`));
    const args = ["-D", directory, ...settings.flatMap((setting) => ["-c", setting])];
    const started = await group.start(join(binaries, "postgres"), args, { name, asPostgres: true });
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
    if (processes !== undefined) await stop("immediate");
    else await group.close();
    rmSync(processes === undefined ? group.directory : directory, { recursive: true, force: true });
  };
  const write = (lines: readonly string[], map: readonly string[] | undefined): void => {
    writeFileSync(join(directory, "pg_hba.conf"), [...lines, ""].join("\n"));
    if (map !== undefined) writeFileSync(join(directory, "pg_ident.conf"), [...map, ""].join("\n"));
  };
  const admit = async (lines: readonly string[], map?: readonly string[]): Promise<void> => {
    const loaded = async () => (await queryOnce(login, "SELECT pg_conf_load_time()::text AS at")).rows[0]?.["at"];
    const before = await loaded();
    write(lines, map);
    const { rows } = await queryOnce(login, problems);
    if (rows.length > 0) throw new Error(`pg_hba.conf: ${JSON.stringify(rows)}`);
    server?.signal("SIGHUP");
    await waitFor(async () => (await loaded()) !== before, {
      timeoutMs: 20_000,
      intervalMs: 10,
      what: "it has reloaded",
    });
  };
  try {
    const initdb = ["-D", directory, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"];
    const preparation = await group.start(join(binaries, "initdb"), initdb, {
      name: `${name}-initdb`,
      asPostgres: true,
    });
    await waitFor(() => !preparation.alive(), { timeoutMs: 60_000, what: "initdb is done" });
    write(hba, ident);
    await start();
  } catch (error) {
    await remove();
    throw error;
  }
  return { port, login, directory, processes: group, admit, start, stop, remove };
}
