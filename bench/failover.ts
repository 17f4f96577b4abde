// What a change of leader costs an application that writes every few milliseconds, through pgsteer and through what it replaces, in
// the same runs against the same cluster; beside them a prober writes to each member directly: what Patroni itself makes possible.

import { monitorEventLoopDelay } from "node:perf_hooks";
import { APPLICATION, type Cluster, startCluster } from "../test/support/cluster.ts";
import { type LeadershipRecord, recordLeadership, type WritableWindow } from "../test/support/leadership.ts";
import { now, sleep, waitFor } from "../test/support/time.ts";
import type { Gap } from "../test/support/writer.ts";
import { costOf, type EventKind, type FailoverEvent, type PathCost, type Rows } from "./failover-account.ts";
import { type FailoverPath, isSteady, startPath, type WrittenPath } from "./failover-paths.ts";
import { duration } from "./failover-report.ts";
import { type Disturbance, disturbance, machineTime } from "./processor-time.ts";
import { BenchError } from "./testbed.ts";

export interface FailoverOptions {
  readonly kinds: readonly EventKind[];
  /** Of each kind. */
  readonly events: number;
  readonly paths: readonly FailoverPath[];
  /** Between two writes through a path. */
  readonly periodMs: number;
  /** Patroni's, in seconds. */
  readonly ttl: number;
  readonly loopWait: number;
  /** Of pgsteer. */
  readonly logLevel: string;
  /** Whether the servers' logs are left behind. */
  readonly keep: boolean;
}

const PROBER_PERIOD_MS = 5;
/** Every path has to write for so long without a failure before the next event. */
const QUIET_MS = 3_000;
/** PgBouncer waits 15 s after a failed login, HAProxy for two checks, Patroni for its ttl. */
const RECOVERY_TIMEOUT_MS = 180_000;

/** Hears of each event when it is over. Rejects with a BenchError when `signal` is aborted; everything is stopped then, too. */
export async function measureFailover(
  options: FailoverOptions,
  say: (line: string) => void,
  done: (event: FailoverEvent) => void,
  signal: AbortSignal,
): Promise<Disturbance> {
  const interrupted = new Promise<never>((_resolve, reject) => {
    const stop = (): void => reject(new BenchError("interrupted; everything is stopped"));
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
  interrupted.catch(() => {});
  say("starting etcd and three Patroni members with PostgreSQL");
  const cluster = await startCluster({ patroni: { ttl: options.ttl, loopWait: options.loopWait } });
  const run = new FailoverRun(cluster, options, say);
  try {
    await Promise.race([run.start(), interrupted]);
    const before = machineTime(cluster.directory);
    for (let count = 1; count <= options.events; count += 1) {
      for (const kind of options.kinds) {
        const event = await Promise.race([run.event(kind), interrupted]);
        say(`${kind} ${count} of ${options.events}: ${inWords(event)}`);
        done(event);
      }
    }
    return disturbance(before, machineTime(cluster.directory));
  } finally {
    await cluster.stop();
    await run.stop();
    if (options.keep) say(`the servers' logs are in ${cluster.directory}`);
    else await cluster.remove();
  }
}

function inWords({ from, to, floor, costs }: FailoverEvent): string {
  const beyond = costs.map(({ path, beyondMs }) => `${path} ${duration(beyondMs)}`);
  return `${from} → ${to}, Patroni ${duration(floor.gapMs)}, beyond it ${beyond.join(", ")}`;
}

function gapOf({ name, writer }: WrittenPath, since: number): Gap {
  const gap = writer.gap(since);
  if (gap === null) throw new Error(`${name} wrote nothing`);
  return gap;
}

class FailoverRun {
  readonly #cluster: Cluster;
  readonly #options: FailoverOptions;
  readonly #say: (line: string) => void;
  readonly #paths: WrittenPath[] = [];
  /** How many attempts of each path were accounted for. */
  readonly #accounted = new Map<FailoverPath, number>();
  readonly #stalls = monitorEventLoopDelay({ resolution: 1 });
  #record: LeadershipRecord | null = null;

  constructor(cluster: Cluster, options: FailoverOptions, say: (line: string) => void) {
    this.#cluster = cluster;
    this.#options = options;
    this.#say = say;
  }

  async start(): Promise<void> {
    const { paths, periodMs, logLevel } = this.#options;
    this.#say(`starting ${paths.join(", ")}, each with a writer`);
    for (const name of paths) this.#paths.push(await startPath(this.#cluster, name, periodMs, logLevel));
    this.#record = await recordLeadership(this.#cluster, { periodMs: PROBER_PERIOD_MS });
    this.#stalls.enable();
  }

  /** The servers are gone: so the writers' last attempts end. */
  async stop(): Promise<void> {
    this.#stalls.disable();
    await Promise.all([...this.#paths.map(({ writer }) => writer.stop()), this.#record?.stop()]);
  }

  /** Does it, waits until the cluster and every path have recovered, and counts. */
  async event(kind: EventKind): Promise<FailoverEvent> {
    const cluster = this.#cluster;
    await this.#untilSteady();
    const from = await cluster.requireLeader();
    this.#stalls.reset();
    const since = now();
    if (kind === "switchover") await cluster.switchover();
    else if (kind === "postgres") await cluster.killPostgres(from);
    else await cluster.killNode(from);
    const window = await this.#firstWindow(kind, from, since);
    await this.#untilResumed(window.first);
    const stalledMs = this.#stalls.max / 1e6;
    // What would fail once more shall fail before the count.
    await sleep(1000);
    if (kind === "node") await cluster.startMember(from);
    await cluster.waitHealthy(RECOVERY_TIMEOUT_MS);
    const lastWriteOld = this.#lastBefore(from, window);
    const firstWriteNew = Math.min(window.first, ...this.#paths.map((path) => gapOf(path, since).to));
    const floor = { gapMs: firstWriteNew - lastWriteOld, lastWriteOld, firstWriteNew };
    const costs = await Promise.all(this.#paths.map((path) => this.#cost(path, gapOf(path, since), firstWriteNew)));
    return { kind, from, to: window.member, since, floor, costs, stalledMs };
  }

  #untilSteady(): Promise<boolean> {
    const look = (): boolean => this.#paths.every((path) => isSteady(path, now(), QUIET_MS));
    return waitFor(look, { timeoutMs: RECOVERY_TIMEOUT_MS, what: "every path writes without failures" });
  }

  /** The beginning of the time in which a member takes writes again. */
  #firstWindow(kind: EventKind, from: string, since: number): Promise<WritableWindow> {
    const isNew = ({ member, first }: WritableWindow): boolean =>
      first >= since && (kind === "postgres" || member !== from);
    return waitFor(() => this.#record?.windows.filter(isNew).sort((a, b) => a.first - b.first)[0], {
      timeoutMs: RECOVERY_TIMEOUT_MS,
      intervalMs: 20,
      what: "a member takes writes",
    });
  }

  #lastBefore(from: string, window: WritableWindow): number {
    const before = this.#record?.windows.findLast(({ member, first }) => member === from && first < window.first);
    if (before === undefined) throw new Error(`${from} was never seen to take writes`);
    return before.last;
  }

  async #untilResumed(firstWriteNew: number): Promise<void> {
    for (const { name, writer } of this.#paths) {
      await waitFor(() => writer.attempts.some(({ outcome, start }) => outcome === "ok" && start > firstWriteNew), {
        timeoutMs: RECOVERY_TIMEOUT_MS,
        what: `${name} writes again`,
      });
    }
  }

  async #cost({ name, table, writer }: WrittenPath, gap: Gap, firstWriteNew: number): Promise<PathCost> {
    const done = this.#accounted.get(name) ?? 0;
    const attempts = writer.attempts.slice(done);
    this.#accounted.set(name, done + attempts.length);
    return costOf(name, attempts, gap, firstWriteNew, await this.#rows(table, attempts[0]?.id ?? 0));
  }

  async #rows(table: string, from: number): Promise<Rows> {
    const leader = await this.#cluster.requireLeader();
    const text = `SELECT id::float8 AS id, count(*)::float8 AS n FROM ${table} WHERE id >= $1 GROUP BY 1`;
    const { rows } = await this.#cluster.sql(leader, text, [from], APPLICATION.database);
    return new Map(rows.map((row) => [Number(row["id"]), Number(row["n"])]));
  }
}
