// `pgsteer pause` and `pgsteer resume`: have all routers of a cluster hold every transaction that would start, and go on. The request
// stays in etcd when the command ends: a pause lasts until somebody ends it.

import { randomUUID } from "node:crypto";
import { systemClock } from "../core/clock.ts";
import { CommandSession } from "../discovery/command-session.ts";
import type { RouterAnnouncement } from "../discovery/coordination-keys.ts";
import { describeError } from "../discovery/etcd-connection.ts";
import { type ChosenCluster, chooseCluster } from "./cluster-choice.ts";
import { EXIT } from "./exit-codes.ts";
import { counted, describeRequest, listed, progress, routerName, type Say, whileWorking } from "./progress.ts";
import { whoAmI } from "./router-identity.ts";

export interface PauseOptions {
  readonly file: string;
  /** Null: the only one. */
  readonly cluster: string | null;
  /** Until no transaction is open any more, for at most so long; null: not at all. */
  readonly waitMs: number | null;
}

/** All live routers have seen a request by then. */
const ACKNOWLEDGE_MS = 5_000;

interface Conduct {
  readonly chosen: ChosenCluster;
  readonly session: CommandSession;
  readonly say: Say;
}

/** Returns the exit code. */
export function pause(options: PauseOptions): Promise<number> {
  return whileWorking(() => inSession("pause", options, (conduct) => pauseAll(conduct, options.waitMs)));
}

/** Returns the exit code. */
export function resume(options: Omit<PauseOptions, "waitMs">): Promise<number> {
  return whileWorking(() => inSession("resume", options, resumeAll));
}

async function inSession(
  what: string,
  { file, cluster }: Omit<PauseOptions, "waitMs">,
  work: (conduct: Conduct) => Promise<number>,
): Promise<number> {
  const chosen = chooseCluster(file, cluster);
  if (typeof chosen === "number") return chosen;
  const session = new CommandSession(systemClock, chosen);
  try {
    const silent = await session.open();
    if (silent !== null) {
      console.error(`${what} failed: ${silent}`);
      return EXIT.failed;
    }
    return await work({ chosen, session, say: progress(systemClock) });
  } catch (error) {
    console.error(`${what} failed: ${describeError(error)}`);
    return EXIT.failed;
  } finally {
    session.close();
  }
}

const routersOf = ({ session }: Conduct): RouterAnnouncement[] => [...session.coordination.routers.values()];

async function pauseAll(conduct: Conduct, waitMs: number | null): Promise<number> {
  const { session, say, chosen } = conduct;
  const id = randomUUID();
  const request = { kind: "pause", id, by: whoAmI(), since: new Date().toISOString() } as const;
  if (!(await session.place(request, false))) {
    const other = (await session.confirm()).coordination.request;
    const what = other === null ? "another request has just ended" : `${describeRequest(other)} stands already`;
    console.error(`pause refused: ${what}; nothing has changed`);
    return EXIT.calledOff;
  }
  const routers = routersOf(conduct);
  say(`cluster ${chosen.name} is paused; ${routers.length === 0 ? "no router has announced itself" : listed(routers)}`);
  const heard = await session.until(() => routersOf(conduct).every(({ request }) => request === id), ACKNOWLEDGE_MS);
  if (!heard) {
    const silent = routersOf(conduct).filter(({ request }) => request !== id);
    console.error(
      `no word within ${ACKNOWLEDGE_MS / 1000} s from ${silent.map(routerName).join(", ")}; the pause stands`,
    );
    return EXIT.failed;
  }
  const open = routersOf(conduct).reduce((sum, router) => sum + router.open, 0);
  say(
    `all routers hold new transactions; ${open === 0 ? "none is open" : `${counted(open, "transaction")} still open`}`,
  );
  if (waitMs === null) return EXIT.ok;
  const drained = await session.until(() => routersOf(conduct).every(({ state }) => state === "paused"), waitMs);
  if (!drained) {
    const busy = routersOf(conduct).filter(({ state }) => state !== "paused");
    console.error(`still open after ${waitMs / 1000} s, at ${busy.map(routerName).join(", ")}; the pause stands`);
    return EXIT.failed;
  }
  const sessions = routersOf(conduct).reduce((sum, router) => sum + router.sessions, 0);
  const left =
    sessions === 0 ? "" : `; ${counted(sessions, "client")} in session mode or pinned keep a server, and may go on`;
  say(`drained: no transaction is open${left}`);
  return EXIT.ok;
}

async function resumeAll(conduct: Conduct): Promise<number> {
  const { session, say, chosen } = conduct;
  const { coordination } = await session.confirm();
  const { request, requestRevision } = coordination;
  if (requestRevision === 0n) {
    say(`cluster ${chosen.name} is not paused`);
    return EXIT.ok;
  }
  if (request?.kind === "switchover") {
    console.error(`resume refused: ${describeRequest(request)} is under way, and ends by itself`);
    return EXIT.calledOff;
  }
  if (!(await session.remove(requestRevision))) {
    console.error("resume refused: the request has just changed; try again");
    return EXIT.calledOff;
  }
  const resumed = await session.until(
    () => routersOf(conduct).every(({ request, state }) => request === null && state === "serving"),
    ACKNOWLEDGE_MS,
  );
  const count = routersOf(conduct).filter(({ state }) => state === "serving").length;
  say(`${count} of ${counted(routersOf(conduct).length, "router")} resumed`);
  return resumed ? EXIT.ok : EXIT.failed;
}
