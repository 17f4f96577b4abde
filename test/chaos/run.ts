// One run: a cluster, two pgsteers, fifty clients, faults; then quiet, the contents, and the checker's verdict.

import { rmSync } from "node:fs";
import { join } from "node:path";
import { Random } from "../fuzz/random.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { sleep } from "../support/time.ts";
import type { Actor } from "./attempt.ts";
import { parts } from "./behaviours.ts";
import { Client, type Part } from "./client.ts";
import { disturb } from "./disturbance.ts";
import { faults as allFaults, type Fault, type Scene } from "./faults.ts";
import { Journal } from "./history.ts";
import type { Network } from "./network.ts";
import { partitions } from "./partitions.ts";
import { PipelineClient } from "./pipeline-client.ts";
import { type Route, Router } from "./router.ts";
import { sightsOf } from "./sights.ts";
import { ACCOUNTS, BALANCE, createTables, readContents } from "./tables.ts";
import { Watch } from "./watch.ts";

export const NODES = 3;
export const ETCDS = 3;
export const ROUTERS = ["pgsteer1", "pgsteer2"] as const;

const STUCK_MS = 20_000;
const CALM_MS = 5000;
/** Clients that have not ended by then are cut off; longer than any of their operations takes. */
const FAREWELL_MS = 65_000;

export interface RunOptions {
  readonly seed: number;
  readonly minutes: number;
  readonly sync: boolean;
  readonly clients: number;
  /** Names of faults, all when empty. */
  readonly only: readonly string[];
  readonly patroni: string | null;
  readonly directory: string;
  readonly network: Network;
  readonly say: (line: string) => void;
  readonly stopped: () => boolean;
}

/** Runs, and leaves the whole history in the journal's file. */
export async function runChaos(options: RunOptions): Promise<Journal> {
  const { network, say, directory } = options;
  const cluster = await startCluster({
    directory: join(directory, "cluster"),
    members: NODES,
    etcdNodes: ETCDS,
    ...(network.missing === null ? { hosts: network.host } : {}),
    patroni: {
      ttl: 20,
      loopWait: 1,
      retryTimeout: 3,
      dcs: { synchronous_mode: options.sync },
      ...(options.patroni === null ? {} : { command: options.patroni }),
    },
    postgres: {
      parameters: { synchronous_commit: "on" },
      hba: ["host all all 10.77.0.0/24 scram-sha-256", "host replication replicator 10.77.0.0/24 scram-sha-256"],
    },
  });
  const journal = new Journal(join(directory, "history.jsonl"));
  try {
    await createTables(cluster);
    const routers = await Promise.all(ROUTERS.map((name) => Router.make(name, cluster, network.host(name))));
    for (const router of routers) await router.start();
    say(`cluster and ${routers.length} pgsteers run in ${directory}`);
    await work(options, cluster, routers, journal);
    return journal;
  } finally {
    journal.close();
    await cluster.stop();
    // A gigabyte; the logs and the history are what a post-mortem needs.
    const bulk = [
      ...cluster.members.map((member) => member.dataDirectory),
      ...cluster.etcd.nodes.map((node) => node.directory),
    ];
    for (const each of bulk) rmSync(each, { recursive: true, force: true });
  }
}

async function work(
  options: RunOptions,
  cluster: Cluster,
  routers: readonly Router[],
  journal: Journal,
): Promise<void> {
  const { seed, network, say, stopped } = options;
  const scene: Scene = { cluster, network, routers, random: new Random(seed) };
  const startedAt = Date.now();
  const watch = new Watch(cluster, journal);
  const clients = makeClients(options, routers, journal);
  const loops = Promise.all(clients.map((client) => client.run()));
  const whole = await disturb({
    scene,
    faults: chosenFaults(options),
    journal,
    say,
    until: startedAt + options.minutes * 60_000,
    stopped,
  });
  await sleep(CALM_MS);
  const endedAt = Date.now();
  await watch.stop();
  for (const client of clients) client.stop();
  await Promise.race([loops, sleep(stopped() ? CALM_MS : FAREWELL_MS)]);
  for (const client of clients) client.abandon();
  await loops;
  for (const router of routers) {
    for (const sight of sightsOf(router.name, router.log)) journal.write(sight);
    if (router.runs) continue;
    const text = `${router.name} has ended; its log: ${router.log}`;
    say(text);
    const unknown = { member: null, timeline: null };
    journal.write({ type: "topology", router: router.name, at: Date.now(), what: "ended", ...unknown, text });
  }
  const members = Object.fromEntries(cluster.members.map(({ name, port }) => [port, name]));
  const total = ACCOUNTS * BALANCE;
  const { sync } = options;
  journal.write({ type: "run", seed, sync, startedAt, endedAt, members, accounts: ACCOUNTS, total, stuckMs: STUCK_MS });
  const seconds = Math.round((endedAt - startedAt) / 1000);
  if (!whole)
    say(`the run ended after ${seconds} s: the cluster could not be made whole; what its leader has is judged`);
  await readContents(cluster).then(
    (contents) => journal.write(contents),
    (error: unknown) => say(`the contents could not be read: ${String(error)}`),
  );
}

function chosenFaults({ only, network, say }: RunOptions): readonly Fault[] {
  if (network.missing !== null) say(`no partitions: ${network.missing}`);
  const possible = [...allFaults, ...(network.missing === null ? partitions : [])];
  const chosen = possible.filter(({ name }) => only.length === 0 || only.includes(name));
  if (chosen.length > 0) return chosen;
  throw new Error(`there are no such faults; there are: ${possible.map(({ name }) => name).join(", ")}`);
}

/** Who does what, where, of each ten clients. */
const roles: readonly { readonly part: Part | "pipeline"; readonly route: Route }[] = [
  { part: parts.transfer, route: "write" },
  { part: parts.register, route: "write" },
  { part: "pipeline", route: "write" },
  { part: parts.read, route: "read" },
  { part: parts.session, route: "session" },
  { part: parts.transfer, route: "auto" },
  { part: parts.prepared, route: "write" },
  { part: parts.long, route: "write" },
  { part: parts.register, route: "auto" },
  { part: parts.read, route: "auto" },
];

function makeClients(
  { clients, seed }: RunOptions,
  routers: readonly Router[],
  journal: Journal,
): (Client | PipelineClient)[] {
  const made: (Client | PipelineClient)[] = [];
  for (let client = 1; client <= clients; client += 1) {
    const role = roles[client % roles.length];
    const router = routers[Math.floor(client / roles.length) % routers.length];
    if (role === undefined || router === undefined) continue;
    const actor: Actor = { client, router: router.name };
    const random = new Random(seed, client);
    const login = router.login(role.route);
    if (role.part === "pipeline") made.push(new PipelineClient(actor, login, journal, random));
    else made.push(new Client(actor, login, role.part, journal, random));
  }
  return made;
}
