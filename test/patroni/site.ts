// Where scenarios take place: a cluster under one version of Patroni with one pgsteer in front, set up as a scenario wants it.

import { type Cluster, type ClusterOptions, startCluster } from "../support/cluster.ts";
import { type Pgsteer, type PgsteerOverrides, startPgsteer } from "../support/pgsteer.ts";
import { queryOnce } from "../support/sql.ts";
import { waitFor } from "../support/time.ts";
import type { Major, PatroniProgram } from "./programs.ts";
import { Traffic } from "./traffic.ts";

const START_TIMEOUT_MS = 60_000;

/** How a scenario wants its cluster. Scenarios with the same one share it, one after the other. */
export interface Setup {
  readonly name: string;
  readonly cluster?: Omit<ClusterOptions, "directory">;
  /** Called before pgsteer starts; what it returns changes pgsteer's configuration. */
  readonly pgsteer?: (cluster: Cluster) => Promise<PgsteerOverrides>;
  /** Ends what it started beside the servers. */
  readonly leave?: () => Promise<void>;
  /** Replicates from a whole cluster of its own beside it. */
  readonly standby?: boolean;
}

/** One thing that clusters do or suffer. Throws where pgsteer is wrong; returns what was seen, in a few words. */
export interface Scenario {
  readonly name: string;
  readonly setup: Setup;
  /** The majors that have what it is about, and why the others do not; all by default. */
  readonly only?: { readonly majors: readonly Major[]; readonly why: string };
  /** It leaves a cluster in which nothing else should be tried. */
  readonly spoils?: boolean;
  run(site: Site, traffic: Traffic): Promise<string>;
}

/** Waits until pgsteer serves a route, however busy the machine is. */
async function untilUp(pgsteer: Pgsteer, route: "write" | "read"): Promise<void> {
  const look = async (): Promise<boolean> => {
    if (!pgsteer.process.alive()) throw new Error("it has ended");
    return (await queryOnce(pgsteer.login(route), "SELECT 1")).rows.length === 1;
  };
  await waitFor(look, { timeoutMs: START_TIMEOUT_MS, what: `pgsteer serves route ${route}` }).catch(
    (cause: unknown) => {
      throw new Error(`pgsteer does not serve; its log ends:\n${pgsteer.process.tail()}`, { cause });
    },
  );
}

export class Site {
  readonly program: PatroniProgram;
  readonly setup: Setup;
  readonly cluster: Cluster;
  readonly pgsteer: Pgsteer;
  /** The cluster from which a standby cluster replicates. */
  readonly origin: Cluster | null;

  private constructor(
    program: PatroniProgram,
    setup: Setup,
    cluster: Cluster,
    pgsteer: Pgsteer,
    origin: Cluster | null,
  ) {
    this.program = program;
    this.setup = setup;
    this.cluster = cluster;
    this.pgsteer = pgsteer;
    this.origin = origin;
  }

  static async start(program: PatroniProgram, setup: Setup): Promise<Site> {
    const patroni = { ...setup.cluster?.patroni, command: program.command };
    const started: Cluster[] = [];
    try {
      let origin: Cluster | null = null;
      if (setup.standby === true) {
        origin = await startCluster({ members: 1, patroni: { command: program.command }, scope: "origin" });
        started.push(origin);
      }
      const upstream = origin === null ? {} : { standbyOf: origin.member(await origin.requireLeader()).port };
      const cluster = await startCluster({ ...setup.cluster, ...upstream, patroni });
      started.push(cluster);
      const overrides = await setup.pgsteer?.(cluster);
      const pgsteer = await startPgsteer(cluster, { ...overrides, ready: "none" });
      await untilUp(pgsteer, origin === null ? "write" : "read");
      return new Site(program, setup, cluster, pgsteer, origin);
    } catch (error) {
      for (const each of started) await each.remove();
      throw error;
    }
  }

  /** The application, at work. */
  traffic(): Promise<Traffic> {
    return Traffic.start(this.cluster, this.pgsteer, this.origin ?? this.cluster);
  }

  /** A healthy cluster, and a pgsteer that says so: the holder of the key takes writes, every other member is read from. */
  async settle(traffic: Traffic, timeoutMs = 90_000): Promise<string> {
    await this.cluster.waitHealthy(timeoutMs);
    const leader = await this.cluster.requireLeader();
    const replicas = await this.cluster.replicas();
    await traffic.watch.until(`${leader} writable, and reads from ${replicas.join(", ")}`, (now) => {
      const readable = (name: string): boolean => now.members.some((each) => each.name === name && each.readable);
      return now.leader.state === "writable" && now.leader.member === leader && replicas.every(readable);
    });
    return leader;
  }

  async remove(): Promise<void> {
    await this.cluster.remove();
    await this.origin?.remove();
    await this.setup.leave?.();
  }
}
