// A well-behaved client beside the others: works all the time, and says afterwards whether anything disturbed it.

import { type Connection, codeOf, connect, type Login, query } from "./sql.ts";
import { sleep } from "./time.ts";

/** One statement after the other, on a new connection every now and then. */
export class Companion {
  /** Codes of everything that went wrong. */
  readonly troubles: string[] = [];
  served = 0;
  readonly #login: Login;
  #stopped = false;
  readonly #loop: Promise<void>;

  constructor(login: Login) {
    this.#login = login;
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
  }

  /** Resolves after `count` more answers; rejects when they do not come, or when there was trouble. */
  async goesOn(count = 3, timeoutMs = 30_000): Promise<void> {
    const wanted = this.served + count;
    const deadline = performance.now() + timeoutMs;
    while (this.served < wanted) {
      if (performance.now() > deadline) throw new Error(`only ${this.served} of ${wanted} answers`);
      await sleep(5);
    }
    if (this.troubles.length > 0) throw new Error(`the companion met ${this.troubles.join(", ")}`);
  }

  async #run(): Promise<void> {
    let connection: Connection | null = null;
    while (!this.#stopped) {
      try {
        if (this.served % 50 === 0) {
          connection?.destroy();
          connection = null;
        }
        connection ??= await connect(this.#login);
        const { rows } = await query(connection, "SELECT $1::int AS n", [this.served]);
        if (rows[0]?.["n"] !== this.served) this.troubles.push(`answer ${rows[0]?.["n"]} to ${this.served}`);
      } catch (error) {
        this.troubles.push(codeOf(error));
        connection?.destroy();
        connection = null;
        if (this.troubles.length > 100) break;
      }
      this.served += 1;
      await sleep(5);
    }
    connection?.destroy();
  }
}
