// An honest client beside attacks: asks all the time on a connection that stays, and logs in anew again and again, over TLS and with
// SCRAM. Notes how long each took, and whatever was refused.

import { Client } from "pg";
import { median, percentile } from "../../bench/statistics.ts";
import { codeOf, type Login } from "../support/sql.ts";
import { sleep } from "../support/time.ts";

const QUERY_PAUSE_MS = 2;
const CONNECT_PAUSE_MS = 25;
const DEADLINE_MS = 30_000;

/** Milliseconds that each took. */
export interface Latencies {
  readonly queries: readonly number[];
  readonly connects: readonly number[];
}

/** Median and 99th percentile, in milliseconds. */
export function shown(values: readonly number[]): string {
  if (values.length === 0) return "none";
  return `${median(values).toFixed(1)} / ${(percentile(values, 0.99) ?? 0).toFixed(1)}`;
}

const describe = (error: unknown): string => `${codeOf(error)} ${error instanceof Error ? error.message : ""}`.trim();

export class Honest {
  /** What was refused or lost, in words. */
  readonly failures: string[] = [];
  readonly #login: Login;
  readonly #ca: string;
  #queries: number[] = [];
  #connects: number[] = [];
  #going = true;
  readonly #works: Promise<void>[];
  /** All there were. */
  asked = 0;
  connected = 0;

  /** `ca`: the authority whose server it believes. */
  constructor(login: Login, ca: string) {
    this.#login = login;
    this.#ca = ca;
    this.#works = [this.#ask(), this.#comeAndGo()];
  }

  /** What was measured since it was last taken. */
  take(): Latencies {
    const taken = { queries: this.#queries, connects: this.#connects };
    [this.#queries, this.#connects] = [[], []];
    return taken;
  }

  async stop(): Promise<void> {
    this.#going = false;
    await Promise.all(this.#works);
  }

  async #ask(): Promise<void> {
    let client: Client | null = null;
    while (this.#going) {
      try {
        client ??= await this.#connect();
        const begun = performance.now();
        await client.query("SELECT 1");
        this.#queries.push(performance.now() - begun);
        this.asked += 1;
        await sleep(QUERY_PAUSE_MS);
      } catch (error) {
        this.failures.push(`query: ${describe(error)}`);
        client = null;
        await sleep(CONNECT_PAUSE_MS);
      }
    }
    await client?.end();
  }

  async #comeAndGo(): Promise<void> {
    while (this.#going) {
      try {
        const begun = performance.now();
        const client = await this.#connect();
        await client.query("SELECT 1");
        this.#connects.push(performance.now() - begun);
        await client.end();
        this.connected += 1;
      } catch (error) {
        this.failures.push(`connect: ${describe(error)}`);
      }
      await sleep(CONNECT_PAUSE_MS);
    }
  }

  async #connect(): Promise<Client> {
    const ssl = { ca: this.#ca, checkServerIdentity: () => undefined };
    const client = new Client({ ...this.#login, ssl, connectionTimeoutMillis: DEADLINE_MS });
    client.on("error", () => {});
    await client.connect();
    return client;
  }
}
