// The application beside a scenario: one client writes a row every 10 ms through the write port, another reads every 10 ms through the
// read port, and /topology is watched. Afterwards the rows that are there are held against what the writer was told.

import { z } from "zod";
import { APPLICATION, type Cluster } from "../support/cluster.ts";
import type { Pgsteer } from "../support/pgsteer.ts";
import { type Connection, codeOf, connect, type Login, query, queryOnce } from "../support/sql.ts";
import { now, sleep, waitFor } from "../support/time.ts";
import { Writer } from "../support/writer.ts";
import { check, equal } from "./expect.ts";
import { TopologyWatch } from "./watch.ts";

/** One read: which server answered it, or why none did. */
interface Read {
  readonly start: number;
  readonly end: number;
  readonly port: number | null;
  readonly code: string | null;
}

const READ_TIMEOUT_MS = 30_000;

/** Reads one value over and over, on one connection for as long as it lasts. */
class Reader {
  readonly reads: Read[] = [];
  readonly #login: Login;
  #stopped = false;
  #loop: Promise<void> = Promise.resolve();

  constructor(login: Login) {
    this.#login = login;
  }

  start(): void {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
  }

  async #run(): Promise<void> {
    let connection: Connection | null = null;
    while (!this.#stopped) {
      const start = now();
      try {
        connection ??= await connect(this.#login, READ_TIMEOUT_MS);
        const { rows } = await query(connection, "SELECT inet_server_port() AS port", [], READ_TIMEOUT_MS);
        this.reads.push({ start, end: now(), port: Number(rows[0]?.["port"]), code: null });
      } catch (error) {
        this.reads.push({ start, end: now(), port: null, code: codeOf(error) });
        connection?.destroy();
        connection = null;
      }
      await sleep(10);
    }
    connection?.destroy();
  }
}

const rowsSchema = z.array(z.object({ id: z.coerce.number(), port: z.number() }));

let tables = 0;

export class Traffic {
  readonly watch: TopologyWatch;
  readonly table: string;
  readonly writer: Writer;
  readonly #reader: Reader;
  readonly #cluster: Cluster;

  private constructor(cluster: Cluster, pgsteer: Pgsteer, table: string) {
    this.#cluster = cluster;
    this.table = table;
    this.watch = new TopologyWatch(pgsteer.httpUrl);
    this.writer = new Writer(pgsteer.login("write"), { table });
    this.#reader = new Reader(pgsteer.login("read"));
  }

  /** `home`: the cluster that takes writes, when it is not the one that pgsteer stands in front of. */
  static async start(cluster: Cluster, pgsteer: Pgsteer, home: Cluster = cluster): Promise<Traffic> {
    tables += 1;
    const table = `writes_${tables}`;
    // No primary key: a statement that was sent twice shall show as two rows, not as an error.
    const columns =
      "id bigint NOT NULL, client_time double precision NOT NULL, port int NOT NULL DEFAULT inet_server_port()";
    const login = home.login(await home.requireLeader(), APPLICATION);
    await queryOnce(login, `CREATE TABLE ${table} (${columns})`);
    const traffic = new Traffic(cluster, pgsteer, table);
    await traffic.watch.start();
    traffic.writer.start();
    traffic.#reader.start();
    if (home === cluster) await traffic.writer.nextAcknowledged();
    await traffic.nextRead();
    return traffic;
  }

  async stop(): Promise<void> {
    await Promise.all([this.writer.stop(), this.#reader.stop(), this.watch.stop()]);
  }

  get reads(): readonly Read[] {
    return this.#reader.reads;
  }

  /** Resolves at the first read that began from now on and was answered. */
  async nextRead(): Promise<Read> {
    const asked = now();
    const find = () => this.reads.findLast(({ start, port }) => port !== null && start >= asked);
    return waitFor(find, { timeoutMs: READ_TIMEOUT_MS, intervalMs: 5, what: "a read is answered" });
  }

  /** Waits until `count` more reads were answered, and names the members that answered them. */
  async readers(count = 20): Promise<string[]> {
    const from = this.reads.length;
    await waitFor(() => this.reads.length >= from + count, { timeoutMs: READ_TIMEOUT_MS, what: `${count} reads` });
    return [...new Set(this.reads.slice(from).map(({ port }) => this.#nameOf(port)))].toSorted();
  }

  /** Both went on without a failure. */
  undisturbed(): void {
    equal("the writer's failures", this.#failedWrites(), []);
    this.readsUndisturbed();
  }

  /** No read failed. */
  readsUndisturbed(): void {
    const failed = this.reads.filter(({ code }) => code !== null).map(({ code }) => code);
    equal("the reader's failures", failed, []);
  }

  /** At most the statements that were in flight at `events` losses failed, with an unknown outcome; no read did. */
  onlyInFlight(events = 1): void {
    const failed = this.#failedWrites();
    check(
      failed.every((each) => each === "unknown 08007") && failed.length <= events,
      () => `the writer was told ${failed.join(", ")}; at most ${events} × unknown 08007 were in flight`,
    );
    this.readsUndisturbed();
  }

  #failedWrites(): string[] {
    return this.writer.failures().map(({ outcome, code }) => `${outcome} ${code}`);
  }

  /** Rows on `member`, by direct connection. */
  async rowsOn(member: string): Promise<z.output<typeof rowsSchema>> {
    const found = await this.#cluster.sql(member, `SELECT id, port FROM ${this.table}`, [], APPLICATION.database);
    return rowsSchema.parse(found.rows);
  }

  /**
   * No acknowledged row is missing on the leader, none is there twice, and none is there that was refused. Where replication is
   * asynchronous, what was acknowledged between `lossFrom` and `lossTo` may have been lost with a node.
   */
  async nothingWrong(lossFrom = 0, lossTo = 0): Promise<void> {
    // What is acknowledged while the rows are read may not be among them.
    const told = [...this.writer.attempts];
    const counts = new Map<number, number>();
    for (const { id } of await this.rowsOn(await this.#cluster.requireLeader()))
      counts.set(id, (counts.get(id) ?? 0) + 1);
    const missing = told.filter(({ id, outcome, end }) => {
      return outcome === "ok" && !counts.has(id) && (end < lossFrom || end > lossTo);
    });
    const refused = told.filter(({ id, outcome }) => outcome === "refused" && counts.has(id));
    equal(
      "rows that are missing, doubled or refused and there",
      {
        missing: missing.map(({ id }) => id),
        doubled: [...counts].filter(([, count]) => count > 1).map(([id]) => id),
        refused: refused.map(({ id }) => id),
      },
      { missing: [], doubled: [], refused: [] },
    );
  }

  /** For the table: how many writes, failures, reads. */
  summary(): string {
    const failed = this.writer.failures().length;
    return `${this.writer.attempts.length} writes${failed > 0 ? `, ${failed} unknown` : ""}, ${this.reads.length} reads`;
  }

  #nameOf(port: number | null): string {
    return this.#cluster.members.find((member) => member.port === port)?.name ?? "nobody";
  }
}
