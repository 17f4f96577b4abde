// What attacks are made against: a router with TLS and limits that hold for everybody, an honest client of it, and what both say of
// themselves while they are attacked.

import { readFileSync } from "node:fs";
import type { Pgsteer } from "../support/pgsteer.ts";
import { RawClient } from "../support/raw-client.ts";
import type { Login } from "../support/sql.ts";
import { sleep, waitFor } from "../support/time.ts";
import type { Book } from "./book.ts";
import { Honest, type Latencies, shown } from "./honest.ts";

const QUIET_MS = 400;
const SAMPLE_EVERY_MS = 50;
const MEBIBYTE = 1_048_576;

/** What one attack came to; a row of the table. */
export const headings = [
  "attack",
  "what came of it",
  "query ms before",
  "during",
  "after",
  "connect ms before",
  "during",
  "after",
  "MB before",
  "at most",
  "after",
] as const;

export class Victim {
  readonly book: Book;
  readonly pgsteer: Pgsteer;
  readonly port: number;
  /** Of an ordinary user, by SCRAM. */
  readonly login: Login;
  readonly ca: string;
  readonly honest: Honest;
  readonly rows: string[][] = [];

  constructor(book: Book, pgsteer: Pgsteer, login: Login, ca: string) {
    this.book = book;
    this.pgsteer = pgsteer;
    this.port = login.port;
    this.login = login;
    this.ca = ca;
    this.honest = new Honest(login, ca);
  }

  /** Attacks, with a quiet time before and behind; `attack` says in words what came of it, and ends what it began. */
  async suffer(name: string, attack: () => Promise<string>): Promise<void> {
    this.honest.take();
    await sleep(QUIET_MS);
    const before = this.honest.take();
    const memoryBefore = this.memory();
    let most = memoryBefore;
    const sampler = setInterval(() => {
      most = Math.max(most, this.memory());
    }, SAMPLE_EVERY_MS);
    const failed = this.honest.failures.length;
    let outcome: string;
    let during: Latencies;
    try {
      outcome = await attack();
      during = this.honest.take();
      const nobody = async () => (await this.metric("pgsteer_clients", 'state="login"')) <= 1;
      await waitFor(nobody, { timeoutMs: 30_000, what: `${name}: nothing is left half-open` });
      this.book.pass();
    } finally {
      clearInterval(sampler);
    }
    this.honest.take();
    await sleep(QUIET_MS);
    // Whatever ten thousand ends at once take of a busy machine: it is served again.
    const { asked, connected } = this.honest;
    const served = () => this.honest.asked > asked + 10 && this.honest.connected > connected;
    await waitFor(served, {
      timeoutMs: 30_000,
      intervalMs: 10,
      what: `${name}: the honest client is served behind it`,
    });
    this.book.pass();
    const after = this.honest.take();
    this.book.equal(`${name}: refused to the honest client`, this.honest.failures.slice(failed), []);
    this.book.holds(`${name}: pgsteer goes on`, this.pgsteer.process.alive());
    const phases = [before, during, after];
    const megabytes = [memoryBefore, most, this.memory()].map((bytes) => (bytes / MEBIBYTE).toFixed(0));
    this.rows.push([
      name,
      outcome,
      ...phases.map(({ queries }) => shown(queries)),
      ...phases.map(({ connects }) => shown(connects)),
      ...megabytes,
    ]);
  }

  /** Resident, in bytes. */
  memory(): number {
    const status = readFileSync(`/proc/${this.pgsteer.pid}/status`, "latin1");
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
  }

  /** A metric's value, all its series with this label together. */
  async metric(name: string, label = ""): Promise<number> {
    const text = await (await fetch(`${this.pgsteer.httpUrl}/metrics`)).text();
    const lines = text.split("\n").filter((line) => line.startsWith(`${name}{`) && line.includes(label));
    return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  refusals(code: string): Promise<number> {
    return this.metric("pgsteer_errors_total", `code="${code}"`);
  }

  /** Connects, from an address of this machine; says nothing. */
  open(from?: string): Promise<RawClient> {
    return RawClient.open(this.port, "127.0.0.1", from);
  }
}
