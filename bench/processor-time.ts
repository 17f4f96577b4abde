// What processes cost, from /proc (proc(5)): processor time of a process tree with all its threads, and resident memory.

import { readFileSync } from "node:fs";
import { childrenOf, processesOf } from "../test/support/procfs.ts";

/** Since the start of what is measured, in microseconds. */
export interface ProcessorTime {
  readonly userUs: number;
  readonly systemUs: number;
}

/** The kernel counts for user space in USER_HZ, which is 100 on every architecture that PostgreSQL is likely to meet. */
const TICK_US = 10_000;

function statFields(text: string): number[] {
  // The command stands in parentheses and may itself contain any character: the last one closes it.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const ticks = fields.slice(11, 15).map(Number);
  if (ticks.length < 4 || !ticks.every(Number.isInteger)) throw new Error(`not a line of /proc/PID/stat: ${text}`);
  return ticks;
}

/** Fields 14 (utime) and 15 (stime) of /proc/PID/stat: all threads, those that ended included. */
export function parseStat(text: string): ProcessorTime {
  const [user = 0, system = 0] = statFields(text);
  return { userUs: user * TICK_US, systemUs: system * TICK_US };
}

/** The same together, and with that of children that ended (fields 16 and 17), in ticks. */
export function parseStatWithChildren(text: string): number {
  return statFields(text).reduce((sum, ticks) => sum + ticks);
}

/** `VmRSS` of /proc/PID/status in bytes. */
export function parseResidentBytes(text: string): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(text)?.[1];
  if (kilobytes === undefined) throw new Error("/proc/PID/status has no line VmRSS");
  return Number(kilobytes) * 1024;
}

/** Soft limit of open files in /proc/PID/limits; Infinity for `unlimited`. */
export function parseOpenFilesMax(text: string): number {
  const soft = /^Max open files\s+(\S+)/m.exec(text)?.[1];
  if (soft === undefined) throw new Error("/proc/PID/limits has no line for open files");
  return soft === "unlimited" ? Number.POSITIVE_INFINITY : Number(soft);
}

/** Where the machine's processor time has gone since its start, in ticks. */
export interface MachineTime {
  readonly total: number;
  /** Spent by processes, the benchmark's own among them. */
  readonly busy: number;
  /** What the machine's host gave to others (`steal`). */
  readonly stolen: number;
  /** Spent by the benchmark: pgbench, PostgreSQL, routers, all. */
  readonly ours: number;
}

/** The first line of /proc/stat. */
export function parseMachineTime(text: string): Omit<MachineTime, "ours"> {
  const ticks = (/^cpu +(.*)$/m.exec(text)?.[1] ?? "").split(" ").map(Number);
  // user, nice, system, idle, iowait, irq, softirq, steal; the two behind, guest time, are part of the first two.
  const [user = 0, nice = 0, system = 0] = ticks;
  const total = ticks.slice(0, 8).reduce((sum, each) => sum + each, 0);
  return { total, busy: user + nice + system, stolen: ticks[7] ?? 0 };
}

/** What disturbed a measurement, as shares of all processor time. */
export interface Disturbance {
  readonly stolen: number;
  /** Of processes that are not the benchmark's. */
  readonly others: number;
}

export function disturbance(before: MachineTime, after: MachineTime): Disturbance {
  const total = after.total - before.total;
  if (total <= 0) return { stolen: 0, others: 0 };
  const others = after.busy - before.busy - (after.ours - before.ours);
  return { stolen: (after.stolen - before.stolen) / total, others: Math.max(0, others / total) };
}

/** Now, for a benchmark whose servers live on behalf of `directory`. */
export function machineTime(directory: string): MachineTime {
  const ours = ["self", ...processesOf(directory)].map((pid) => {
    try {
      return parseStatWithChildren(readFileSync(`/proc/${pid}/stat`, "latin1"));
    } catch {
      // It ended in between; from now on its time is in its parent's.
      return 0;
    }
  });
  const machine = parseMachineTime(readFileSync("/proc/stat", "latin1"));
  return { ...machine, ours: ours.reduce((sum, ticks) => sum + ticks, 0) };
}

function treeOf(pid: number): number[] {
  return [pid, ...childrenOf(pid).flatMap(treeOf)];
}

/** Processor time so far of a process and all its descendants. */
export function processorTimeOf(pid: number): ProcessorTime {
  return treeOf(pid)
    .map((each) => parseStat(readFileSync(`/proc/${each}/stat`, "latin1")))
    .reduce((sum, { userUs, systemUs }) => ({ userUs: sum.userUs + userUs, systemUs: sum.systemUs + systemUs }));
}

/** Resident memory now of a process and all its descendants, in bytes; what they share counts several times. */
export function residentBytesOf(pid: number): number {
  return treeOf(pid)
    .map((each) => parseResidentBytes(readFileSync(`/proc/${each}/status`, "latin1")))
    .reduce((sum, each) => sum + each);
}

/** How many files a process may have open. */
export function openFilesMaxOf(pid: number | "self"): number {
  return parseOpenFilesMax(readFileSync(`/proc/${pid}/limits`, "latin1"));
}
