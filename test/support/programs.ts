// PostgreSQL's own programs (psql, pgbench, pg_dump, …) as clients in tests, bounded in time.

import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Login } from "./sql.ts";

interface ProgramOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** What it reads from its standard input; nothing by default. */
  readonly input?: string;
  /** 60,000 by default; then it is killed. */
  readonly timeoutMs?: number;
  /** Called with its pid once it runs. */
  readonly started?: (pid: number) => void;
}

interface ProgramResult {
  /** Null when it was killed by a signal. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. Rejects only when it cannot be started. */
export async function runProgram(
  command: string,
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<ProgramResult> {
  const child = spawn(command, args, {
    env: { ...process.env, ...options.env },
    stdio: ["pipe", "pipe", "pipe"],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const closed = once(child, "close");
  const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? 60_000);
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? "");
  if (child.pid !== undefined) options.started?.(child.pid);
  try {
    await closed;
  } finally {
    clearTimeout(timer);
  }
  return { code: child.exitCode, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
}

/** Environment by which libpq's programs find `login`; `PGOPTIONS` and the like can be added. */
export function libpqEnvironment(login: Login): Record<string, string> {
  return {
    PGHOST: login.host,
    PGPORT: String(login.port),
    PGUSER: login.user,
    PGPASSWORD: login.password,
    PGDATABASE: login.database,
    PGCONNECT_TIMEOUT: "10",
  };
}

/** psql without its comforts: unaligned, tuples only, quiet, stops at the first error. */
export function psql(login: Login, args: readonly string[], options: ProgramOptions = {}): Promise<ProgramResult> {
  const env = { ...libpqEnvironment(login), ...options.env };
  return runProgram("psql", ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", ...args], { ...options, env });
}
