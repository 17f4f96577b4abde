// One run of the fuzzer: conversations on both sides until so many frames were sent, sentinels beside them, and a look at what is
// left when everybody has gone.

import type { Pgsteer } from "../support/pgsteer.ts";
import type { Login } from "../support/sql.ts";
import { Conversation, type Target } from "./conversation.ts";
import { ModelClient, type ModelLog } from "./model-client.ts";
import { Random } from "./random.ts";
import {
  busySessions,
  confessions,
  leftAt,
  openSite,
  poolSize,
  residentMegabytes,
  type Site,
  untilQuiet,
} from "./site.ts";
import { Tally } from "./tally.ts";

/** Conversations with an odd number are held with the hostile server's pgsteer. */
const isHostile = (id: number): boolean => id % 2 === 1;

export interface RunOptions {
  readonly seed: number;
  /** Sent by fuzzing clients and by the hostile server together. */
  readonly frames: number;
  /** At once: with PostgreSQL, and with the hostile server. */
  readonly clients: readonly [number, number];
  /** These and no others, again and again; null for a new run. */
  readonly only: readonly number[] | null;
  readonly say: (line: string) => void;
}

export interface RunResult {
  readonly tally: Tally;
  readonly sentinelAnswers: number;
  /** Resident memory of the two pgsteers, MB. */
  readonly memory: { readonly start: number; readonly peak: number; readonly end: number };
  readonly seconds: number;
}

const SERVERS = 8;
const SENTINELS = 4;
/** Numbers that no conversation reaches. */
const FIRST_SENTINEL = 2_000_000_000;
/** Both together, after a million frames; what buffers and caches may take is bounded well below. */
const MEMORY_MAX_MB = 700;
const QUIET_MS = 30_000;

export async function runFuzz(options: RunOptions): Promise<RunResult> {
  const tally = new Tally();
  const site = await openSite({ servers: SERVERS, hostile: { seed: options.seed, tally } });
  try {
    return await fuzz(site, options, tally);
  } finally {
    await site.close();
  }
}

/** Writes, and what each statement decides for itself, have pools in common; a read-only transaction has one of its own. */
const loginsOf = (pgsteer: Pgsteer): Login[] => [pgsteer.login("write"), pgsteer.login("auto")];
const POOLS = 2;

/** Ids of conversations, one after the other. */
function* idsOf(only: readonly number[] | null, hostile: boolean): Generator<number> {
  const chosen = only?.filter((id) => isHostile(id) === hostile);
  if (chosen?.length === 0) return;
  for (let count = 0; ; count += 1) yield chosen?.[count % chosen.length] ?? 2 * count + (hostile ? 1 : 0);
}

async function fuzz(site: Site, options: RunOptions, tally: Tally): Promise<RunResult> {
  const { say } = options;
  const logins = loginsOf(site.pgsteer);
  const honest: Target = { name: "postgres", logins, honest: true, harmedPercent: 25 };
  const hostileLogins = site.hostile === null ? logins : loginsOf(site.hostile.pgsteer);
  const hostile: Target = { name: "hostile", logins: hostileLogins, honest: false, harmedPercent: 0 };
  const routers = [site.pgsteer, ...(site.hostile === null ? [] : [site.hostile.pgsteer])];
  const memoryNow = () => routers.reduce((sum, { pid }) => sum + residentMegabytes(pid), 0);
  const memory = { start: memoryNow(), peak: 0, end: 0 };
  const begun = performance.now();

  let over = false;
  const log = sentinelLog(tally);
  const sentinels = Array.from({ length: SENTINELS }, (_, index) => {
    const random = new Random(options.seed, FIRST_SENTINEL + index);
    const client = new ModelClient(random.pick(logins), random, FIRST_SENTINEL + index, log, {
      pins: null,
      restless: false,
    });
    return client.live(() => over);
  });

  const crashed = () => routers.some(({ process }) => !process.alive());
  const goesOn = () => tally.frames < options.frames && !crashed();
  const worker = async (target: Target, ids: Generator<number>): Promise<void> => {
    for (const id of ids) {
      if (!goesOn()) return;
      tally.live.add(id);
      await new Conversation(target, options.seed, id, tally).hold();
      tally.live.delete(id);
    }
  };
  const workers = ([honest, hostile] as const).flatMap((target, side) => {
    const ids = idsOf(options.only, side === 1);
    return Array.from({ length: options.clients[side === 1 ? 1 : 0] }, () => worker(target, ids));
  });
  const watch = watchOver(() => {
    memory.peak = Math.max(memory.peak, memoryNow());
    return `${tally.frames} frames, ${tally.conversations} conversations, ${tally.found} findings, ${memoryNow()} MB`;
  }, say);
  await Promise.all(workers);
  over = true;
  if (!crashed()) await Promise.all(sentinels);
  watch.stop();

  await inspect(site, tally);
  memory.end = memoryNow();
  memory.peak = Math.max(memory.peak, memory.end);
  if (memory.peak > MEMORY_MAX_MB) {
    tally.find({
      kind: "memory",
      target: "both",
      conversation: null,
      what: `${memory.peak} MB, at most ${MEMORY_MAX_MB}`,
    });
  }
  return { tally, sentinelAnswers: log.answers, memory, seconds: (performance.now() - begun) / 1000 };
}

function sentinelLog(tally: Tally): ModelLog {
  return {
    answers: 0,
    transactions: 0,
    logins: 0,
    disconnects: 0,
    pins: 0,
    cancels: 0,
    wrong: (client, what) =>
      tally.find({
        kind: what.includes("an answer for client") ? "crossed" : "wrong",
        target: "sentinel",
        conversation: null,
        what: `sentinel ${client}: ${what}`,
      }),
  };
}

const LOOK_MS = 1000;
const SAY_EVERY = 10;

/** Looks once a second and says so every ten, until it is stopped. */
function watchOver(look: () => string, say: (line: string) => void): { stop: () => void } {
  let looks = 0;
  const timer = setInterval(() => {
    const line = look();
    looks += 1;
    if (looks % SAY_EVERY === 0) say(line);
  }, LOOK_MS);
  return { stop: () => clearInterval(timer) };
}

/** After everybody has left: both processes live, and nothing is lent, waits or stands in a transaction. */
async function inspect(site: Site, tally: Tally): Promise<void> {
  if (site.hostile !== null) site.hostile.server.becomeTame();
  const routers = [{ name: "postgres", pgsteer: site.pgsteer }];
  if (site.hostile !== null) routers.push({ name: "hostile", pgsteer: site.hostile.pgsteer });
  for (const { name, pgsteer } of routers) {
    const find = (kind: "crash" | "leaked", what: string) =>
      tally.find({ kind, target: name, conversation: null, what });
    for (const line of confessions(pgsteer)) find("crash", line);
    if (!pgsteer.process.alive()) {
      find("crash", `exit code ${pgsteer.process.exitCode()}; the log ends:\n${pgsteer.process.tail(12)}`);
      continue;
    }
    for (const what of await untilQuiet(() => leftAt(pgsteer), QUIET_MS)) find("leaked", what);
    const size = await poolSize(pgsteer);
    if (size > SERVERS) find("leaked", `${size} servers in a pool of ${SERVERS}`);
  }
  for (const what of await untilQuiet(() => busySessions(site, POOLS * SERVERS), QUIET_MS)) {
    tally.find({ kind: "leaked", target: "postgres", conversation: null, what });
  }
}
