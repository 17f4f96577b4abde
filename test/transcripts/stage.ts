// Where transcripts are made: a real cluster, a pgsteer in front of it that records, an application that writes through it, and
// what pgsteer says of the cluster, to wait for.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ClusterDocument, topologySchema } from "../../src/admin/topology-document.ts";
import { type Cluster, type ClusterOptions, startCluster } from "../support/cluster.ts";
import { type Pgsteer, type PgsteerConfiguration, type Surroundings, startPgsteer } from "../support/pgsteer.ts";
import { sleep, waitFor } from "../support/time.ts";
import { Writer } from "../support/writer.ts";

/** Everything settles within this time, on a busy machine too. */
const SETTLED_MS = 90_000;
/** What is recorded of the quiet after it. */
const QUIET_MS = 1500;

/** Whatever pgsteer stands in front of, while it records. */
export class Stage {
  readonly pgsteer: Pgsteer;
  readonly #writer: Writer | null;

  constructor(pgsteer: Pgsteer, writer: Writer | null) {
    this.pgsteer = pgsteer;
    this.#writer = writer;
  }

  async look(): Promise<ClusterDocument> {
    const response = await fetch(`${this.pgsteer.httpUrl}/topology`, { signal: AbortSignal.timeout(5000) });
    const [cluster] = topologySchema.parse(await response.json()).clusters;
    if (cluster === undefined) throw new Error("pgsteer knows no cluster");
    return cluster;
  }

  /** Waits for what pgsteer believes. */
  async until(what: string, condition: (cluster: ClusterDocument) => boolean): Promise<void> {
    let seen = "";
    const look = async (): Promise<boolean> => {
      const cluster = await this.look();
      seen = JSON.stringify([cluster.leader, cluster.source, cluster.members.map(({ name, why }) => ({ name, why }))]);
      return condition(cluster);
    };
    await waitFor(look, { timeoutMs: SETTLED_MS, intervalMs: 20, what }).catch((cause) => {
      throw new Error(`not ${what}; pgsteer says ${seen}`, { cause });
    });
  }

  /** Until writes are served, by `member` where one is named. */
  writable(member?: string): Promise<void> {
    return this.until(`writable ${member ?? ""}`, ({ writable, leader }) => {
      return writable && (member === undefined || leader.member === member);
    });
  }

  /** Until `count` members may be read from. */
  readable(count: number): Promise<void> {
    return this.until(
      `${count} readable`,
      ({ members }) => members.filter(({ readable }) => readable).length === count,
    );
  }

  async close(): Promise<void> {
    await sleep(QUIET_MS);
    await this.#writer?.stop();
    await this.pgsteer.stop();
  }
}

interface StageOptions {
  readonly configure?: (configuration: PgsteerConfiguration) => void;
  /** Whether an application writes; false where nobody could. */
  readonly writes?: boolean;
}

/** Records what pgsteer sees from its start to the end of `act`; the lines. */
export async function record(
  surroundings: Surroundings,
  options: StageOptions,
  act: (stage: Stage) => Promise<void>,
): Promise<string> {
  const file = join(surroundings.directory, "transcript.jsonl");
  const writes = options.writes ?? true;
  const pgsteer = await startPgsteer(surroundings, {
    name: "recorder",
    args: ["--record", file],
    ready: "none",
    ...(options.configure === undefined ? {} : { configure: options.configure }),
  });
  const login = pgsteer.login("write");
  const writer = writes ? new Writer(login, { periodMs: 200, attemptTimeoutMs: 5000 }) : null;
  const stage = new Stage(pgsteer, writer);
  if (writer !== null) {
    await stage.writable();
    await Writer.createTable(login);
    writer.start();
  }
  try {
    await act(stage);
  } finally {
    await stage.close();
  }
  return readFileSync(file, "utf8");
}

/** A cluster that ends with `act`, whatever comes. */
export async function withCluster<T>(options: ClusterOptions, act: (cluster: Cluster) => Promise<T>): Promise<T> {
  const cluster = await startCluster(options);
  try {
    return await act(cluster);
  } finally {
    await cluster.remove();
  }
}

/** Puts what it is about into the first line, and writes the file. */
export function keep(file: string, lines: string, about: string): void {
  const [header = "{}", ...rest] = lines.split("\n");
  const { kind, version, ...others }: Record<string, unknown> = JSON.parse(header);
  writeFileSync(file, [JSON.stringify({ kind, version, about, ...others }), ...rest].join("\n"));
}
