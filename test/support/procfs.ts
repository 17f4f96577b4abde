// What /proc says about processes: proc(5). Linux only, as is Patroni in these tests.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";

interface ProcessRow {
  readonly pid: number;
  readonly parent: number;
  /** The kernel's name of the executable, 15 characters at most. */
  readonly command: string;
  /** R, S, D, T (stopped), Z (dead, not yet reaped), … */
  readonly state: string;
}

/** Of a process, or of one of its threads. */
function readRow(thread: number, pid = thread): ProcessRow | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/task/${thread}/stat`, "latin1");
  } catch {
    return null;
  }
  // The command stands in parentheses and may itself contain any character: the last one closes it.
  const match = /^\d+ \((.*)\) (\S) (\d+) /s.exec(text);
  if (match?.[1] === undefined || match[2] === undefined || match[3] === undefined) return null;
  return { pid: thread, parent: Number(match[3]), command: match[1], state: match[2] };
}

function allRows(): ProcessRow[] {
  const rows: ProcessRow[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const row = readRow(Number(entry));
    if (row !== null) rows.push(row);
  }
  return rows;
}

/** Whether the process exists and still runs or is stopped; a dead one that nobody has reaped yet does not count. */
export function isAlive(pid: number): boolean {
  const row = readRow(pid);
  return row !== null && row.state !== "Z" && row.state !== "X";
}

/** Pids of the process's children. */
export function childrenOf(pid: number): number[] {
  return allRows()
    .filter((row) => row.parent === pid)
    .map((row) => row.pid);
}

/** Command line as `ps` shows it, which for PostgreSQL is its title; empty when there is none. */
export function titleOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").trim();
  } catch {
    return "";
  }
}

/** Sends a signal; false when there is no such process (any more). Returns from SIGSTOP when each of its threads stands still. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    process.kill(pid, name);
  } catch {
    return false;
  }
  if (name === "SIGSTOP") untilStopped(pid);
  return true;
}

const STOP_TURNS_MAX = 5_000;
const never = new Int32Array(new SharedArrayBuffer(4));

/** A thread that is at work on another processor goes on for a moment, and may still answer. */
function untilStopped(pid: number): void {
  for (let turn = 0; turn < STOP_TURNS_MAX; turn += 1) {
    const states = threadsOf(pid).map((thread) => readRow(thread, pid)?.state ?? "X");
    if (states.every((state) => state === "T" || state === "Z" || state === "X")) return;
    Atomics.wait(never, 0, 0, 1);
  }
  throw new Error(`process ${pid} does not stop`);
}

function threadsOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number);
  } catch {
    return [];
  }
}

/** The environment variable by which everything that a harness started is known, with its directory as the value. */
export const HARNESS_VARIABLE = "PGSTEER_HARNESS";

function startedFor(pid: number, directory: string): boolean {
  try {
    const environment = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
    return environment.includes(`${HARNESS_VARIABLE}=${directory}`);
  } catch {
    return false;
  }
}

/**
 * Everything that lives on behalf of a harness directory: processes with its mark in their environment, and PostgreSQL
 * processes (which overwrite theirs with their title) that work in a data directory below it.
 */
export function processesOf(directory: string): number[] {
  return allRows()
    .filter((row) => row.state !== "Z" && row.state !== "X" && row.pid !== process.pid)
    .filter((row) => startedFor(row.pid, directory) || (row.command === "postgres" && worksBelow(row.pid, directory)))
    .map((row) => row.pid);
}

function worksBelow(pid: number, directory: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/cwd`).startsWith(`${directory}/`);
  } catch {
    return false;
  }
}
