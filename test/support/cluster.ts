// A real PostgreSQL cluster under Patroni and etcd for tests and for the demonstration: started within seconds, disturbed
// in the ways in which clusters are disturbed, and stopped without leaving a process behind.

import { rmSync } from "node:fs";
import { dirname, join } from "node:path";
import type { QueryResult } from "pg";
import { z } from "zod";
import { Etcd } from "./etcd.ts";
import type { Host } from "./host.ts";
import {
  type MemberSurroundings,
  PatroniMember,
  type PatroniSettings,
  type PostgresSettings,
  SUPERUSER,
} from "./patroni.ts";
import { preferredPort } from "./ports.ts";
import { ProcessGroup, temporaryServerDirectory } from "./processes.ts";
import { runProgram } from "./programs.ts";
import { type Login, queryOnce } from "./sql.ts";
import { waitFor } from "./time.ts";

/** The application's role and its database (which the role owns). */
export const APPLICATION = { user: "app", password: "app-secret", database: "app" } as const;
/** The role of SQL probes: member of pg_monitor. */
export const PROBE = { user: "pgsteer", password: "pgsteer-secret", database: "postgres" } as const;

export interface ClusterOptions {
  /** State and logs; a new one under the system's temporary directory by default. Every parent must let `postgres` through. */
  readonly directory?: string;
  /** 3 by default; named node1, node2, … */
  readonly members?: number;
  /** 1 by default; 3 for a quorum. */
  readonly etcdNodes?: number;
  /** `demo` and `/service` by default. */
  readonly scope?: string;
  readonly namespace?: string;
  readonly patroni?: PatroniSettings;
  readonly postgres?: PostgresSettings;
  /** Makes it a standby cluster, which replicates from this port of another one: roles and databases are the other's. */
  readonly standbyOf?: number;
  /** Ports to take if they are free, each the first of a row; any free ones by default. */
  readonly ports?: { readonly postgres: number; readonly api: number; readonly etcd: number };
  /** Where each server lives, by its name (node1, …, etcd1, …); all on 127.0.0.1 by default. */
  readonly hosts?: (name: string) => Host;
}

const memberKey = z.object({ state: z.string(), role: z.string(), timeline: z.number().optional() });

/** Starts etcd, then the first member, then the others at once, and waits until all replicas stream. */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const group = new ProcessGroup(options.directory ?? temporaryServerDirectory("cluster"));
  try {
    const etcd = await Etcd.start(group, options.etcdNodes ?? 1, options.ports?.etcd, options.hosts);
    const surroundings: MemberSurroundings = {
      scope: options.scope ?? "demo",
      namespace: options.namespace ?? "/service",
      etcdEndpoints: etcd.endpoints,
      patroni: patroniSettings(options),
      postgres: options.postgres ?? {},
      ...(options.hosts === undefined ? {} : { hosts: options.hosts }),
    };
    const members: PatroniMember[] = [];
    for (let index = 1; index <= (options.members ?? 3); index += 1) {
      const ports = {
        postgres: await preferredPort(options.ports && options.ports.postgres + index - 1),
        api: await preferredPort(options.ports && options.ports.api + index - 1),
      };
      members.push(new PatroniMember(`node${index}`, ports, group, surroundings));
    }
    const cluster = new Cluster(group, etcd, members, surroundings, options.standbyOf !== undefined);
    await cluster.bootstrap();
    return cluster;
  } catch (error) {
    await group.close();
    throw error;
  }
}

function patroniSettings({ patroni = {}, standbyOf }: ClusterOptions): PatroniSettings {
  if (standbyOf === undefined) return patroni;
  const standby_cluster = { host: "127.0.0.1", port: standbyOf, create_replica_methods: ["basebackup"] };
  return { ...patroni, dcs: { ...patroni.dcs, standby_cluster } };
}

export class Cluster {
  readonly scope: string;
  readonly namespace: string;
  readonly etcd: Etcd;
  readonly members: readonly PatroniMember[];
  readonly directory: string;
  /** Everything that lives for this cluster; also the way to start more servers that shall end with it. */
  readonly processes: ProcessGroup;
  readonly #patroni: PatroniSettings;
  readonly #standby: boolean;

  constructor(
    group: ProcessGroup,
    etcd: Etcd,
    members: readonly PatroniMember[],
    surroundings: MemberSurroundings,
    standby: boolean,
  ) {
    this.#patroni = surroundings.patroni;
    this.#standby = standby;
    this.processes = group;
    this.directory = group.directory;
    this.etcd = etcd;
    this.members = members;
    this.scope = surroundings.scope;
    this.namespace = surroundings.namespace;
  }

  get etcdEndpoints(): readonly string[] {
    return this.etcd.endpoints;
  }

  /** `/<namespace>/<scope>/` as Patroni writes it. */
  get prefix(): string {
    return `/${this.namespace.replaceAll(/^\/+|\/+$/g, "")}/${this.scope}/`;
  }

  /** Called once by startCluster. */
  async bootstrap(): Promise<void> {
    const [first, ...others] = this.members;
    if (first === undefined) throw new Error("a cluster needs a member");
    await first.start();
    const what = () => `${first.name} is a leader that takes writes, if it is to; its log ends:\n${first.tail()}`;
    await this.#orExplain(what, 60_000, async () => {
      if ((await this.leader()) !== first.name) return false;
      return (await this.sql(first.name, "SELECT pg_is_in_recovery() AS r")).rows[0]?.["r"] === this.#standby;
    });
    await Promise.all(others.map((member) => member.start()));
    if (!this.#standby) await this.#createRoles(first.name);
    await this.waitHealthy(60_000);
  }

  member(name: string): PatroniMember {
    const found = this.members.find((member) => member.name === name);
    if (found === undefined) throw new Error(`there is no member ${name}`);
    return found;
  }

  /** Where the superuser, or `as`, reaches a member directly. */
  login(name: string, as: Omit<Login, "host" | "port"> = { ...SUPERUSER, database: "postgres" }): Login {
    const { host, port } = this.member(name);
    return { host, port, ...as };
  }

  /** Name in the leader key; null when there is none. */
  async leader(): Promise<string | null> {
    return (await this.etcd.get(`${this.prefix}leader`))?.value ?? null;
  }

  /** As `leader`, for when there has to be one. */
  async requireLeader(): Promise<string> {
    const name = await this.leader();
    if (name === null) throw new Error("the cluster has no leader");
    return name;
  }

  /** Names of the running members that do not hold the leader key. */
  async replicas(): Promise<string[]> {
    const leader = await this.leader();
    return this.members.map((member) => member.name).filter((name) => name !== leader && this.#runs(name));
  }

  /** Polls until `predicate` is true. */
  async waitFor(
    predicate: () => Promise<boolean> | boolean,
    timeoutMs: number,
    what = "the predicate holds",
  ): Promise<void> {
    await waitFor(predicate, { timeoutMs, what });
  }

  /**
   * Waits for one leader that takes writes, with every other member whose Patroni runs streaming from it on its timeline, and
   * the member keys saying so too.
   */
  async waitHealthy(timeoutMs = 60_000): Promise<void> {
    const logs = () => this.members.map((member) => `--- ${member.name}\n${member.tail(12)}`).join("\n");
    await this.#orExplain(
      () => `the cluster is healthy; the logs end:\n${logs()}`,
      timeoutMs,
      () => this.#healthy(),
    );
  }

  /** Asks Patroni's REST API for a switchover and returns its answer's text; rejects unless it succeeded. */
  async switchover(candidate?: string): Promise<string> {
    const leader = await this.requireLeader();
    const response = await fetch(`${this.member(leader).apiUrl}/switchover`, {
      method: "POST",
      body: JSON.stringify({ leader, ...(candidate === undefined ? {} : { candidate }) }),
      signal: AbortSignal.timeout(60_000),
    });
    const text = await response.text();
    if (response.status !== 200) throw new Error(`switchover from ${leader}: ${response.status} ${text}`);
    return text;
  }

  /** Runs patronictl, which asks nothing and is told `args`; its output. Rejects when it fails. */
  async patronictl(...args: readonly string[]): Promise<string> {
    const { command = "patroni" } = this.#patroni;
    const program = command.includes("/") ? join(dirname(command), "patronictl") : "patronictl";
    const member = this.members.find(({ name }) => this.#runs(name)) ?? this.members[0];
    const result = await runProgram(program, ["-c", member?.configurationFile ?? "", ...args]);
    const output = `${result.stdout}${result.stderr}`;
    if (result.code !== 0) throw new Error(`patronictl ${args.join(" ")}: ${output}`);
    return output;
  }

  async killPostgres(name: string, withChildren = false): Promise<void> {
    await this.member(name).killPostgres(withChildren);
  }

  async killPatroni(name: string): Promise<void> {
    await this.member(name).killPatroni();
  }

  async killNode(name: string): Promise<void> {
    await this.member(name).kill();
  }

  freezePatroni(name: string): void {
    this.member(name).freezePatroni();
  }

  thawPatroni(name: string): void {
    this.member(name).thawPatroni();
  }

  freezePostgres(name: string): void {
    this.member(name).freezePostgres();
  }

  thawPostgres(name: string): void {
    this.member(name).thawPostgres();
  }

  async startMember(name: string): Promise<void> {
    await this.member(name).start();
  }

  async stopMember(name: string): Promise<void> {
    await this.member(name).stop();
  }

  async restartMember(name: string): Promise<void> {
    await this.member(name).stop();
    await this.member(name).start();
  }

  async stopEtcd(index?: number): Promise<void> {
    await this.etcd.stop(index);
  }

  async startEtcd(index?: number): Promise<void> {
    await this.etcd.launch(index);
  }

  freezeEtcd(index?: number): void {
    this.etcd.freeze(index);
  }

  thawEtcd(index?: number): void {
    this.etcd.thaw(index);
  }

  /** From now on the replica receives WAL but replays none. */
  addLag(name: string): void {
    this.member(name).freezeReplay();
  }

  removeLag(name: string): void {
    this.member(name).thawReplay();
  }

  /** One statement on a member, as superuser in database `postgres` (or `database`), on a connection of its own. */
  sql(name: string, text: string, values: readonly unknown[] = [], database = "postgres"): Promise<QueryResult> {
    return queryOnce(this.login(name, { ...SUPERUSER, database }), text, values);
  }

  /** Ends everything, at once: the data directories are not meant to be used again. */
  async stop(): Promise<void> {
    await this.processes.close();
  }

  /** `stop`, and the directory with its logs is gone too. */
  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  #runs(name: string): boolean {
    return this.member(name).pids().patroni !== null;
  }

  async #healthy(): Promise<boolean> {
    const keys = await this.etcd.list(this.prefix);
    const leader = keys.get(`${this.prefix}leader`)?.value;
    if (leader === undefined) return false;
    const { rows } = await this.sql(
      leader,
      `SELECT pg_is_in_recovery() AS recovery,
        CASE WHEN pg_is_in_recovery() THEN (SELECT received_tli FROM pg_stat_wal_receiver)
          ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END AS timeline,
        ARRAY(SELECT application_name FROM pg_stat_replication WHERE state = 'streaming') AS streaming`,
    );
    const answer = z
      .object({ recovery: z.literal(this.#standby), timeline: z.number(), streaming: z.array(z.string()) })
      .parse(rows[0]);
    for (const { name } of this.members.filter((member) => this.#runs(member.name))) {
      const key = keys.get(`${this.prefix}members/${name}`);
      if (key === undefined) return false;
      // Without a stream, and here without an archive, it follows nobody.
      if (this.#patroni.tags?.[name]?.["nostream"] === true) continue;
      const { state, role, timeline } = memberKey.parse(JSON.parse(key.value));
      if (timeline !== answer.timeline) return false;
      if (name === leader ? !this.#leaderRoles.includes(role) : role !== "replica") return false;
      if (!["running", "streaming"].includes(state)) return false;
      if (name !== leader && this.#streamsFromLeader(name) && !answer.streaming.includes(name)) return false;
    }
    return true;
  }

  get #leaderRoles(): readonly string[] {
    return this.#standby ? ["standby_leader"] : ["master", "primary"];
  }

  #streamsFromLeader(name: string): boolean {
    return this.#patroni.tags?.[name]?.["replicatefrom"] === undefined;
  }

  async #createRoles(leader: string): Promise<void> {
    const { user, password, database } = APPLICATION;
    await this.sql(
      leader,
      `CREATE ROLE ${user} LOGIN PASSWORD '${password}';
       CREATE ROLE ${PROBE.user} LOGIN PASSWORD '${PROBE.password}' IN ROLE pg_monitor;`,
    );
    await this.sql(leader, `CREATE DATABASE ${database} OWNER ${user}`);
  }

  async #orExplain(what: () => string, timeoutMs: number, look: () => Promise<boolean>): Promise<void> {
    try {
      await waitFor(look, { timeoutMs, what: "see the cause" });
    } catch (error) {
      const cause = error instanceof Error ? error.cause : error;
      throw new Error(`not within ${timeoutMs} ms: ${what()}`, { cause });
    }
  }
}
