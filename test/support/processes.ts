// Servers of a test: each is started with a log file, known by its pid, and stopped by it. A group belongs to one
// directory; when the test process dies in whatever way, the group's reaper stops what is left.

import { type ChildProcess, spawn } from "node:child_process";
import { chownSync, closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { HARNESS_VARIABLE, isAlive, processesOf, signal } from "./procfs.ts";
import { sleep, waitFor } from "./time.ts";

interface StartOptions {
  /** Names the process in errors and its log file `<name>.log` in the group's directory. */
  readonly name: string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Run as the system user `postgres` when we are root: PostgreSQL refuses to run as root. */
  readonly asPostgres?: boolean;
  /** A process whose network namespace it shall share; that of the test by default. Needs root. */
  readonly namespaceOf?: number | null;
}

/** A server process. `stop` and `kill` return when it is gone. */
export interface RunningProcess {
  readonly name: string;
  readonly pid: number;
  readonly log: string;
  alive(): boolean;
  /** Null while it runs, and when a signal ended it. */
  exitCode(): number | null;
  signal(name: NodeJS.Signals): void;
  /** SIGTERM, then SIGKILL after `graceMs` (20,000 by default). */
  stop(graceMs?: number): Promise<void>;
  kill(): Promise<void>;
  /** The last lines of its log, for error messages. */
  tail(lines?: number): string;
}

/** Numeric ids of the system user `postgres`, or null when we are not root and so run everything as ourselves. */
function postgresIds(): { readonly uid: number; readonly gid: number } | null {
  if (process.getuid?.() !== 0) return null;
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith("postgres:"));
  const [, , uid, gid] = line?.split(":") ?? [];
  if (uid === undefined || gid === undefined) throw new Error("running as root needs a system user named postgres");
  return { uid: Number(uid), gid: Number(gid) };
}

/** The directory on the way to `directory`, it included, that the user of PostgreSQL may not pass; null when there is none. */
export function barrierFor(directory: string): string | null {
  const ids = postgresIds();
  if (ids === null) return null;
  for (let path = directory; ; path = dirname(path)) {
    const { mode, uid } = statSync(path, { throwIfNoEntry: false }) ?? { mode: 0o755, uid: ids.uid };
    const needed = uid === ids.uid ? 0o100 : 0o001;
    if ((mode & needed) === 0) return path;
    if (path === dirname(path)) return null;
  }
}

/** Makes `directory`, parents included, and hands it to the user that PostgreSQL will run as. */
export function makeServerDirectory(directory: string): string {
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const ids = postgresIds();
  if (ids !== null) chownSync(directory, ids.uid, ids.gid);
  return directory;
}

/** Hands a file to the user that PostgreSQL will run as. */
export function handToServers(file: string): void {
  const ids = postgresIds();
  if (ids !== null) chownSync(file, ids.uid, ids.gid);
}

/** A new directory under the system's temporary one, for servers. It is left behind for a post-mortem unless removed. */
export function temporaryServerDirectory(name: string): string {
  return makeServerDirectory(mkdtempSync(join(tmpdir(), `pgsteer-${name}-`)));
}

function wrap(name: string, child: ChildProcess, pid: number, log: string): RunningProcess {
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    signal(pid, "SIGKILL");
    await gone;
  };
  return {
    name,
    pid,
    log,
    kill,
    alive: () => child.exitCode === null && child.signalCode === null && isAlive(pid),
    exitCode: () => child.exitCode,
    signal: (signalName) => {
      if (child.exitCode === null && child.signalCode === null) signal(pid, signalName);
    },
    stop: async (graceMs = 20_000) => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      signal(pid, "SIGTERM");
      signal(pid, "SIGCONT");
      await Promise.race([gone, sleep(graceMs)]);
      await kill();
    },
    tail: (lines = 20) => {
      try {
        return readFileSync(log, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
      } catch {
        return "(no log)";
      }
    },
  };
}

// A test runner's worker outlives a runner that was killed, and its servers with it: follow the runner. By a signal, for a
// runner may have taken process.exit away; the reapers do the rest.
let followsRunner = false;
function followRunner(): void {
  if (followsRunner) return;
  followsRunner = true;
  process.once("disconnect", () => process.kill(process.pid, "SIGKILL"));
}

/** The command line that runs a program in another process's network namespace; it keeps its pid (nsenter(1)). */
function enter(
  pid: number,
  ids: ReturnType<typeof postgresIds>,
  command: string,
  args: readonly string[],
): [string, string[]] {
  const user = ids === null ? [] : ["-S", String(ids.uid), "-G", String(ids.gid)];
  return ["nsenter", ["-t", String(pid), "-n", ...user, "--", command, ...args]];
}

/** Everything that is started on behalf of one directory. */
export class ProcessGroup {
  readonly directory: string;
  readonly #reaper: ChildProcess;
  #closed = false;

  constructor(directory: string) {
    const barrier = barrierFor(directory);
    if (barrier !== null)
      throw new Error(`the user postgres cannot reach ${directory}: ${barrier} does not let it pass`);
    followRunner();
    this.directory = makeServerDirectory(directory);
    this.#reaper = spawn(process.execPath, [fileURLToPath(new URL("./reaper.ts", import.meta.url)), directory], {
      detached: true,
      stdio: ["pipe", "ignore", "ignore"],
    });
    // Neither the reaper nor the pipe to it shall keep this process alive.
    this.#reaper.unref();
    const pipe = this.#reaper.stdin;
    pipe?.on("error", () => {});
    if (pipe !== null && "unref" in pipe && typeof pipe.unref === "function") pipe.unref();
  }

  /** Starts a server. Throws when the program cannot be executed; whether it serves is for the caller to wait for. */
  async start(command: string, args: readonly string[], options: StartOptions): Promise<RunningProcess> {
    if (this.#closed) throw new Error(`the processes of ${this.directory} have been stopped`);
    const log = join(this.directory, `${options.name}.log`);
    const output = openSync(log, "a");
    const ids = options.asPostgres === true ? postgresIds() : null;
    const away = options.namespaceOf ?? null;
    const [program, line] = away === null ? [command, args] : enter(away, ids, command, args);
    const child = spawn(program, line, {
      cwd: options.cwd ?? this.directory,
      env: { ...process.env, ...options.env, [HARNESS_VARIABLE]: this.directory },
      stdio: ["ignore", output, output],
      // A session of its own: Ctrl-C at a terminal is for us, who then stop the servers in order.
      detached: true,
      // nsenter needs root, and becomes somebody else by itself.
      ...(away === null ? (ids ?? {}) : {}),
    });
    closeSync(output);
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", (cause) => reject(new Error(`cannot start ${command}`, { cause })));
    });
    if (child.pid === undefined) throw new Error(`cannot start ${command}`);
    return wrap(options.name, child, child.pid, log);
  }

  /** Pids of everything that lives on behalf of the directory, however it was started. */
  pids(): number[] {
    return processesOf(this.directory).filter((pid) => pid !== this.#reaper.pid);
  }

  /** Ends, by pid and at once, whatever is left; and the reaper, which has nothing to do any more. */
  async close(): Promise<void> {
    this.#closed = true;
    await waitFor(
      () => {
        const left = this.pids();
        for (const pid of left) signal(pid, "SIGKILL");
        return left.length === 0;
      },
      { timeoutMs: 60_000, intervalMs: 20, what: `the processes of ${this.directory} are gone` },
    );
    if (this.#reaper.exitCode !== null || this.#reaper.signalCode !== null) return;
    this.#reaper.ref();
    const gone = new Promise<void>((resolve) => this.#reaper.once("exit", () => resolve()));
    this.#reaper.stdin?.end();
    await gone;
  }
}
