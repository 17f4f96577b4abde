// One more client beside what is measured, in a process of its own so that nobody else's work delays it: a query, a pause, the next
// query, and how long each took. main.ts is the program that it runs.

import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { z } from "zod";
import { projectRoot } from "../test/support/pgsteer.ts";
import { HARNESS_VARIABLE } from "../test/support/procfs.ts";
import { RawClient } from "../test/support/raw-client.ts";
import type { Login } from "../test/support/sql.ts";
import { now, sleep } from "../test/support/time.ts";
import { percentile } from "./statistics.ts";

const PAUSE_MS = 5;

const seenSchema = z.object({ queries: z.number(), p99Ms: z.number().nullable(), maxMs: z.number() });

/** What it saw. */
export type Seen = z.output<typeof seenSchema>;

/** Started beside a scenario; `stop` says what it saw. */
export class Bystander {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  /** A word once it has begun to ask, then what it saw. */
  readonly #lines: AsyncIterator<string>;

  private constructor(directory: string, port: number) {
    const program = join(projectRoot, "bench", "main.ts");
    this.#child = spawn(process.execPath, [program, "bystander", String(port)], {
      env: { ...process.env, [HARNESS_VARIABLE]: directory },
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** On behalf of the harness `directory`, through `port` of this host. Resolves once it asks. */
  static async start(directory: string, port: number): Promise<Bystander> {
    const bystander = new Bystander(directory, port);
    await bystander.#lines.next();
    return bystander;
  }

  async stop(): Promise<Seen> {
    const closed = once(this.#child, "close");
    this.#child.stdin.end();
    const { value } = await this.#lines.next();
    await closed;
    return seenSchema.parse(JSON.parse(value ?? "null"));
  }
}

/** Asks until the end of standard input, then prints what it saw. */
export async function serveBystander(login: Login): Promise<void> {
  let over = false;
  process.stdin.resume().once("end", () => {
    over = true;
  });
  const client = await RawClient.login(login);
  const latencies: number[] = [];
  console.log("asking");
  while (!over) {
    const before = now();
    await client.simple("SELECT 1");
    latencies.push(now() - before);
    await sleep(PAUSE_MS);
  }
  client.destroy();
  const maxMs = latencies.reduce((most, each) => Math.max(most, each), 0);
  console.log(JSON.stringify({ queries: latencies.length, p99Ms: percentile(latencies, 0.99), maxMs }));
}
