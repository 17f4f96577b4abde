// What a check works with: one major version's primary and replica, a pgsteer in front of them that finds roles by SQL alone, and
// raw clients that end with the check.

import { APPLICATION, PROBE } from "../support/cluster.ts";
import { Conversation } from "../support/conversation.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { freePort } from "../support/ports.ts";
import { RawClient } from "../support/raw-client.ts";
import type { Login } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";
import { LEGACY, type Pair, startPair } from "./pair.ts";

/** pgsteer's listeners here: `single` has one server for all its clients, the others are named for what they do. */
export type Door = "auto" | "write" | "read" | "session";

/** One thing that has to be right on every version; throws where it is not. A text that it returns is shown in the table. */
export interface Check {
  readonly name: string;
  /** Majors that have what it is about; all by default. */
  readonly since?: number;
  run(trial: Trial): Promise<string | undefined>;
}

/** Servers of a pool: few, so that clients share them. */
const POOL_SIZE = 4;

export class Trial {
  readonly major: number;
  readonly pair: Pair;
  readonly pgsteer: Pgsteer;
  readonly #sessionPort: number;
  readonly #opened: { destroy(): void }[] = [];

  private constructor(major: number, pair: Pair, pgsteer: Pgsteer, sessionPort: number) {
    this.major = major;
    this.pair = pair;
    this.pgsteer = pgsteer;
    this.#sessionPort = sessionPort;
  }

  static async start(major: number, binaries: string): Promise<Trial> {
    const pair = await startPair(major, binaries);
    try {
      const port = await freePort();
      const pgsteer = await startPgsteer(pair, {
        users: { [LEGACY.user]: LEGACY.password },
        configure: ({ clusters, listeners, pool }) => {
          const hosts = [pair.primary, pair.replica].map((member) => `127.0.0.1:${member.port}`);
          const probe = { user: PROBE.user, password: PROBE.password, database: PROBE.database };
          clusters["demo"] = { source: "static", static: { hosts }, probe };
          listeners.push({ name: "session", address: "127.0.0.1", port, route: "write", pool_mode: "session" });
          pool["default_pool_size"] = POOL_SIZE;
          pool["server_login_retry"] = "100ms";
        },
      });
      const trial = new Trial(major, pair, pgsteer, port);
      const look = async () => (await trial.value("read", "SELECT pg_is_in_recovery()")) === "t";
      await waitFor(look, { timeoutMs: 15_000, what: "the replica serves reads" });
      return trial;
    } catch (error) {
      await pair.remove();
      throw error;
    }
  }

  /** Where `as` reaches a door. */
  login(door: Door, as: Omit<Login, "host" | "port"> = APPLICATION): Login {
    const port = door === "session" ? this.#sessionPort : this.pgsteer.ports[door];
    return { host: "127.0.0.1", port, ...as };
  }

  /** A client of pgsteer that is logged in. */
  async client(door: Door, parameters: Readonly<Record<string, string>> = {}): Promise<RawClient> {
    return this.keep(await RawClient.login(this.login(door), parameters));
  }

  /** A client of the primary itself. */
  async direct(parameters: Readonly<Record<string, string>> = {}): Promise<RawClient> {
    return this.keep(await RawClient.login(this.pair.primary.login(APPLICATION), parameters));
  }

  /** The same said to the primary and, through a door, to pgsteer. */
  async conversation(door: Door): Promise<Conversation> {
    return this.keep(await Conversation.open(this.pair.primary.login(APPLICATION), this.login(door)));
  }

  /** One value by a client of its own. */
  async value(door: Door, sql: string): Promise<string> {
    const client = await RawClient.login(this.login(door));
    try {
      return await client.value(sql);
    } finally {
      client.destroy();
    }
  }

  /** As superuser on the primary itself; the outline of what came back. */
  async superuser(sql: string, database: string = APPLICATION.database): Promise<string[]> {
    const client = await RawClient.login(this.pair.primary.login({ user: "postgres", password: "", database }));
    try {
      return await client.simple(sql);
    } finally {
      client.destroy();
    }
  }

  keep<T extends { destroy(): void }>(opened: T): T {
    this.#opened.push(opened);
    return opened;
  }

  /** Ends the check's connections. */
  tidy(): void {
    for (const each of this.#opened.splice(0)) each.destroy();
  }

  async remove(): Promise<void> {
    this.tidy();
    await this.pair.remove();
  }
}
