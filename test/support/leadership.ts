// What Patroni itself makes possible during a change of leader: a poller that tries a write on every member directly every
// few milliseconds, beside a watch of the leader key. What pgsteer costs is what its clients see beyond this.

import type { Cluster } from "./cluster.ts";
import type { EtcdEvent } from "./etcd.ts";
import { SUPERUSER } from "./patroni.ts";
import { type Connection, connect, query } from "./sql.ts";
import { now, sleep, waitFor } from "./time.ts";

/** A period in which every attempted write on a member was accepted. Moments are those of the acknowledgements. */
export interface WritableWindow {
  readonly member: string;
  readonly first: number;
  last: number;
}

/** A value of the leader key; null for its absence. */
export interface LeaderKeyEvent {
  readonly leader: string | null;
  readonly at: number;
  readonly revision: bigint;
}

/** What was seen of a change of leader; null where it was not seen. */
export interface LeaderChange {
  readonly from: string | null;
  readonly to: string;
  readonly lastWriteOld: number | null;
  readonly keyDeleted: number | null;
  readonly keyPut: number | null;
  readonly firstWriteNew: number;
}

/** A deposed leader that still took writes when its successor's name already stood in the leader key. */
export interface StaleWrites {
  readonly member: string;
  readonly successor: string;
  /** How long after the successor's key the last of them was accepted. */
  readonly ms: number;
}

const TABLE = "leadership_probe";

export interface LeadershipOptions {
  /** Pause between two attempts on a member; 5 by default. */
  readonly periodMs?: number;
}

/** Begins to record; the table it writes to is made on the present leader. */
export async function recordLeadership(cluster: Cluster, options: LeadershipOptions = {}): Promise<LeadershipRecord> {
  const leader = await cluster.requireLeader();
  await cluster.sql(leader, `CREATE TABLE IF NOT EXISTS ${TABLE} (member text, at double precision)`);
  const record = new LeadershipRecord(cluster, options.periodMs ?? 5);
  await record.start();
  return record;
}

export class LeadershipRecord {
  readonly windows: WritableWindow[] = [];
  readonly keyEvents: LeaderKeyEvent[] = [];
  readonly #cluster: Cluster;
  readonly #periodMs: number;
  #stopped = false;
  #loops: Promise<void>[] = [];
  #endWatch: () => void = () => {};

  constructor(cluster: Cluster, periodMs: number) {
    this.#cluster = cluster;
    this.#periodMs = periodMs;
  }

  /** Called once by recordLeadership. */
  async start(): Promise<void> {
    this.#endWatch = await this.#cluster.etcd.watch(`${this.#cluster.prefix}leader`, (event) => this.#onKey(event));
    this.#loops = this.#cluster.members.map((member) => this.#poll(member.name));
    await waitFor(() => this.windows.length > 0, { timeoutMs: 30_000, intervalMs: 5, what: "the leader takes writes" });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#endWatch();
    await Promise.all(this.#loops);
  }

  /**
   * The first write that `member` accepted after `since`, being new to it: it is the beginning of a window. Null while
   * there is none. Without `member`: on whichever member it was.
   */
  firstPossibleWrite(since: number, member?: string): number | null {
    const window = this.windows
      .filter((candidate) => candidate.first >= since && (member === undefined || candidate.member === member))
      .sort((a, b) => a.first - b.first)[0];
    return window?.first ?? null;
  }

  /** The last write that `member` accepted; null when it accepted none. */
  lastAcceptedWrite(member: string): number | null {
    return this.windows.findLast((window) => window.member === member)?.last ?? null;
  }

  /** The first change to a writable leader after `since`, which can be the same member again; null while there is none. */
  change(since: number, from: string): LeaderChange | null {
    const opened = this.windows.filter((window) => window.first >= since).sort((a, b) => a.first - b.first)[0];
    if (opened === undefined) return null;
    const before = this.windows.filter((window) => window.member === from && window.first < opened.first);
    const keys = this.keyEvents.filter((event) => event.at >= since);
    return {
      from,
      to: opened.member,
      lastWriteOld: before.at(-1)?.last ?? null,
      keyDeleted: keys.find((event) => event.leader === null)?.at ?? null,
      keyPut: keys.find((event) => event.leader === opened.member)?.at ?? null,
      firstWriteNew: opened.first,
    };
  }

  /** Moments at which two members took writes at once: pairs of windows that overlap. */
  overlaps(): [WritableWindow, WritableWindow][] {
    const pairs: [WritableWindow, WritableWindow][] = [];
    for (const [index, one] of this.windows.entries()) {
      for (const other of this.windows.slice(index + 1)) {
        if (one.member !== other.member && one.first < other.last && other.first < one.last) pairs.push([one, other]);
      }
    }
    return pairs;
  }

  /** Direct writes that members accepted after the leader key had passed to another: PostgreSQL alone does not refuse them. */
  staleWrites(): StaleWrites[] {
    const found: StaleWrites[] = [];
    for (const { leader: successor, at } of this.keyEvents) {
      if (successor === null) continue;
      for (const { member, first, last } of this.windows) {
        if (member !== successor && first < at && last > at) found.push({ member, successor, ms: last - at });
      }
    }
    return found;
  }

  #onKey(event: EtcdEvent): void {
    if (event.key !== `${this.#cluster.prefix}leader`) return;
    this.keyEvents.push({ leader: event.value, at: event.at, revision: event.revision });
  }

  async #poll(member: string): Promise<void> {
    let connection: Connection | null = null;
    let open: WritableWindow | null = null;
    while (!this.#stopped) {
      const started = now();
      try {
        connection ??= await connect(this.#cluster.login(member, { ...SUPERUSER, database: "postgres" }), 1000);
        await query(connection, `INSERT INTO ${TABLE} VALUES ($1, $2)`, [member, started], 1000);
        const at = now();
        if (open === null) {
          open = { member, first: at, last: at };
          this.windows.push(open);
        }
        open.last = at;
      } catch {
        open = null;
        if (connection?.open() !== true) {
          connection?.destroy();
          connection = null;
        }
      }
      await sleep(this.#periodMs);
    }
    connection?.destroy();
  }
}
