// What is really so: a write on each member every quarter of a second, straight to its port, and the periods in which it worked.

import { z } from "zod";
import { APPLICATION, type Cluster } from "../support/cluster.ts";
import { type Connection, connect, query } from "../support/sql.ts";
import { sleep } from "../support/time.ts";
import type { Journal } from "./history.ts";
import { TIMELINE } from "./tables.ts";

const PERIOD_MS = 250;
/** Long, for a machine under load is slow; a member that does not answer by then takes no writes. */
const ATTEMPT_MS = 3000;

const BEAT = `UPDATE watched SET beats = beats + 1 WHERE member = $1 RETURNING ${TIMELINE} AS timeline`;
const beat = z.object({ timeline: z.number() });

export class Watch {
  readonly #cluster: Cluster;
  readonly #journal: Journal;
  readonly #loops: Promise<void>[];
  #stopped = false;

  constructor(cluster: Cluster, journal: Journal) {
    this.#cluster = cluster;
    this.#journal = journal;
    this.#loops = cluster.members.map(({ name }) => this.#watch(name));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#loops);
  }

  async #watch(member: string): Promise<void> {
    let connection: Connection | null = null;
    // From the beginning of the first write to the end of the last on one timeline; empty while none works.
    let window: { timeline: number; from: number; to: number }[] = [];
    const end = () => {
      for (const span of window) this.#journal.write({ type: "writable", member, ...span });
      window = [];
    };
    while (!this.#stopped) {
      const began = Date.now();
      try {
        connection ??= await connect(this.#cluster.login(member, APPLICATION), ATTEMPT_MS);
        const { rows } = await query(connection, BEAT, [member], ATTEMPT_MS);
        const { timeline } = beat.parse(rows[0]);
        if (window[0]?.timeline !== timeline) end();
        window = [{ timeline, from: window[0]?.from ?? began, to: Date.now() }];
      } catch {
        end();
        connection?.destroy();
        connection = null;
      }
      await sleep(PERIOD_MS);
    }
    end();
    connection?.destroy();
  }
}
