// Everything at once: many clients on few servers, each of which knows what it should see, for some time; then a look at every
// server for what they left there.

import { dirtOnServers, inspectOften } from "./dirt.ts";
import { ModelClient, type ModelLog, PinTickets } from "./model-client.ts";
import { Random } from "./random.ts";
import { busySessions, confessions, leftAt, openSite, poolSize, type Site, untilQuiet } from "./site.ts";

export interface StressOptions {
  readonly seconds: number;
  readonly clients: number;
  readonly servers: number;
  readonly seed: number;
  readonly say: (line: string) => void;
}

export interface StressResult {
  readonly counts: Omit<ModelLog, "wrong">;
  /** What a client saw and should not have seen. */
  readonly wrong: readonly string[];
  /** What was left when all had gone. */
  readonly left: readonly string[];
  readonly dirty: readonly string[];
  /** How often a fresh client looked at a server for that. */
  readonly looks: number;
}

const QUIET_MS = 30_000;
const SAY_MS = 10_000;

export async function runStress(options: StressOptions): Promise<StressResult> {
  const site = await openSite({ servers: options.servers, hostile: null });
  try {
    return await stress(site, options);
  } finally {
    await site.close();
  }
}

async function stress(site: Site, { seconds, clients, servers, seed, say }: StressOptions): Promise<StressResult> {
  const wrong: string[] = [];
  const log: ModelLog = {
    answers: 0,
    transactions: 0,
    logins: 0,
    disconnects: 0,
    pins: 0,
    cancels: 0,
    wrong: (client, what) => void wrong.push(`client ${client}: ${what}`),
  };
  // Pinned servers serve nobody else: at most half of them at a time.
  const pins = new PinTickets(Math.max(1, Math.floor(servers / 2)));
  const login = site.pgsteer.login("write");
  const deadline = performance.now() + seconds * 1000;
  const over = () => performance.now() >= deadline || !site.pgsteer.process.alive();
  let lives = 0;
  const one = async (): Promise<void> => {
    while (!over()) {
      lives += 1;
      await new ModelClient(login, new Random(seed, lives), lives, log, { pins, restless: true }).live(over);
    }
  };
  const timer = setInterval(
    () => say(`${log.transactions} transactions, ${log.answers} answers, ${wrong.length} wrong`),
    SAY_MS,
  );
  const inspection = inspectOften(login, over);
  await Promise.all(Array.from({ length: clients }, one));
  const inspected = await inspection;
  clearInterval(timer);

  const left = confessions(site.pgsteer);
  if (!site.pgsteer.process.alive()) left.push(`pgsteer has ended: ${site.pgsteer.process.tail(12)}`);
  else left.push(...(await untilQuiet(() => leftAt(site.pgsteer), QUIET_MS)));
  left.push(...(await untilQuiet(() => busySessions(site, servers), QUIET_MS)));
  const size = await poolSize(site.pgsteer);
  if (size > servers) left.push(`${size} servers in a pool of ${servers}`);
  const { looked, dirty } = await dirtOnServers(site);
  if (looked < size) left.push(`only ${looked} of ${size} servers could be looked at`);
  const { wrong: _, ...counts } = log;
  return { counts, wrong, left, dirty: [...inspected.dirty, ...dirty], looks: inspected.looks + looked };
}
