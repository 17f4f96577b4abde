// Memory per idle client: resident memory of the router before, at half, and with all clients. The second half says what
// one more client costs; the whole has in it what the first clients' logins made the router grow by, once.

import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import Table from "cli-table3";
import { projectRoot } from "../test/support/pgsteer.ts";
import { HARNESS_VARIABLE } from "../test/support/procfs.ts";
import type { Login } from "../test/support/sql.ts";
import { sleep } from "../test/support/time.ts";
import { openFilesMaxOf, residentBytesOf } from "./processor-time.ts";
import { BenchError, type Path, type PathName, type Testbed } from "./testbed.ts";

/** What one router's clients cost it. */
export interface IdleCost {
  readonly path: PathName;
  readonly clients: number;
  readonly residentBytes: { readonly before: number; readonly half: number; readonly all: number };
  /** Bytes per client, over all of them and over the second half alone. */
  readonly perClient: { readonly whole: number; readonly secondHalf: number };
}

/** Files that a router needs beside its clients: pools, probes, its log, the runtime's own. */
const OTHER_FILES = 200;
/** Clients that come and go before anything is measured, so that the first login's one-time costs are not counted. */
const WARM_UP_CLIENTS = 50;
/** A collection that is due comes within this time. */
const SETTLE_MS = 3000;

type ClientProcess = ChildProcessByStdio<Writable, Readable, null>;

/** Starts the process that holds the clients; main.ts is the program that it runs. */
function startClients(directory: string, login: Login, signal: AbortSignal): ClientProcess {
  const program = join(projectRoot, "bench", "main.ts");
  return spawn(process.execPath, [program, "idle-clients", String(login.port)], {
    env: { ...process.env, [HARNESS_VARIABLE]: directory },
    stdio: ["pipe", "pipe", "inherit"],
    signal,
  });
}

/** Brings the number of clients to `count` and the memory to rest. */
async function hold(child: ClientProcess, answers: AsyncIterator<string>, count: number): Promise<void> {
  child.stdin.write(`${count}\n`);
  const { value, done } = await answers.next();
  if (done === true || value !== String(count))
    throw new BenchError(`${count} idle clients wanted, got: ${value ?? "none"}`);
  await sleep(SETTLE_MS);
}

async function withClients<T>(
  directory: string,
  login: Login,
  signal: AbortSignal,
  work: (holdClients: (count: number) => Promise<void>) => Promise<T>,
): Promise<T> {
  const child = startClients(directory, login, signal);
  const failed = once(child, "error").then(([error]) => {
    throw error;
  });
  const gone = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  try {
    return await Promise.race([work((count) => hold(child, answers, count)), failed]);
  } finally {
    child.stdin.end();
    if (!signal.aborted) await gone;
  }
}

/** Measures one router with `count` idle clients. */
export async function idleCost(testbed: Testbed, path: Path, count: number, signal: AbortSignal): Promise<IdleCost> {
  const { pid, login } = path;
  if (pid === null) throw new BenchError(`${path.name} has no process in between`);
  const filesMax = Math.min(openFilesMaxOf(pid), openFilesMaxOf("self"));
  if (filesMax < count + OTHER_FILES) {
    throw new BenchError(
      `${count} clients need ${count + OTHER_FILES} open files, the limit is ${filesMax}: raise ulimit -n`,
    );
  }
  const { directory } = testbed.cluster;
  await withClients(directory, login, signal, (holdClients) => holdClients(WARM_UP_CLIENTS));
  await sleep(SETTLE_MS);
  const before = residentBytesOf(pid);
  const [half, all] = await withClients(directory, login, signal, async (holdClients) => {
    await holdClients(Math.floor(count / 2));
    const resident = residentBytesOf(pid);
    await holdClients(count);
    return [resident, residentBytesOf(pid)] as const;
  });
  const whole = (all - before) / count;
  const secondHalf = (all - half) / Math.ceil(count / 2);
  return {
    path: path.name,
    clients: count,
    residentBytes: { before, half, all },
    perClient: { whole, secondHalf },
  };
}

/** One row a router. */
export function idleTable(costs: readonly IdleCost[]): string {
  const head = ["path", "clients", "MB before", "MB at half", "MB at all", "kB/client", "kB/client, second half"];
  const table = new Table({ head, style: { head: [], border: [], compact: true } });
  for (const { path, clients, residentBytes, perClient } of costs) {
    const { before, half, all } = residentBytes;
    const megabytes = [before, half, all].map((bytes) => (bytes / 1e6).toFixed(1));
    const kilobytes = [perClient.whole, perClient.secondHalf].map((bytes) => (bytes / 1000).toFixed(1));
    table.push([path, String(clients), ...megabytes, ...kilobytes]);
  }
  return table.toString();
}
