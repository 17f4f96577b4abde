// `pgsteer switchover`: has all routers of a cluster drain, then asks Patroni, then waits until all serve the new leader. Whatever
// goes wrong before Patroni was asked calls it off, and the routers go on as if nothing had been; the request stands in etcd under
// this command's lease, so that its death calls it off, too.

import { randomUUID } from "node:crypto";
import { systemClock } from "../core/clock.ts";
import type { Millis } from "../core/units.ts";
import { openEtcd } from "../discovery/announcement.ts";
import { CommandSession } from "../discovery/command-session.ts";
import type { Coordination, RouterAnnouncement, SwitchoverRequest } from "../discovery/coordination-keys.ts";
import { describeError } from "../discovery/etcd-connection.ts";
import { decodeKeys } from "../discovery/patroni-keys.ts";
import { PatroniRest, type RestVerdict } from "../discovery/patroni-rest.ts";
import { type ChosenCluster, chooseCluster } from "./cluster-choice.ts";
import { EXIT } from "./exit-codes.ts";
import { counted, describeRequest, listed, progress, routerName, type Say, whileWorking } from "./progress.ts";
import { whoAmI } from "./router-identity.ts";

export interface SwitchoverOptions {
  readonly file: string;
  /** Null: the only one. */
  readonly cluster: string | null;
  /** Null: Patroni chooses. */
  readonly candidate: string | null;
  readonly deadlineMs: number;
}

/** Beyond the deadline, for routers that see the request late. */
const ACKNOWLEDGE_MS = 2_000;
/** From Patroni's answer on, or from where there will be none, until all routers serve the new leader. */
const NEW_LEADER_MS = 30_000;
/** Patroni's own words usually come after the routers' are there. */
const LAST_WORDS_MS = 3_000;

/** The leadership that is to end. */
interface Leadership {
  readonly leader: string;
  readonly revision: bigint;
  readonly apiUrl: string;
}

interface Conduct {
  readonly session: CommandSession;
  readonly rest: PatroniRest;
  readonly say: Say;
  readonly request: SwitchoverRequest;
  readonly apiUrl: string;
  /** Set by a signal. */
  readonly interrupted: { by: string | null };
}

/** Says each step. Returns the exit code. */
export function switchover(options: SwitchoverOptions): Promise<number> {
  return whileWorking(() => conductSwitchover(options));
}

async function conductSwitchover(options: SwitchoverOptions): Promise<number> {
  const chosen = chooseCluster(options.file, options.cluster);
  if (typeof chosen === "number") return chosen;
  const say = progress(systemClock);
  const session = new CommandSession(systemClock, chosen);
  const { credentials, tls } = chosen.patroni;
  const rest = new PatroniRest(systemClock, { credentials, tls });
  try {
    const silent = await session.open();
    if (silent !== null) return failed(`${silent}: nothing was asked of anybody`);
    const found = await readLeadership(chosen, options.candidate);
    if (typeof found === "string") return failed(`${found}: nothing was asked of anybody`);
    return await place(options, chosen, found, { session, rest, say });
  } catch (error) {
    return failed(describeError(error));
  } finally {
    session.close();
    await rest.close();
  }
}

function failed(reason: string): number {
  console.error(`switchover failed: ${reason}`);
  return EXIT.failed;
}

function calledOff(reason: string): number {
  console.error(`switchover called off: ${reason}`);
  return EXIT.calledOff;
}

/** Who leads, as Patroni wrote it; or why there is no switchover from there. */
async function readLeadership(
  { etcd, patroniPrefix, name }: ChosenCluster,
  candidate: string | null,
): Promise<Leadership | string> {
  let reason = "etcd does not answer";
  for (const endpoint of etcd.endpoints) {
    const connection = openEtcd(systemClock, etcd, patroniPrefix, endpoint);
    try {
      await connection.login();
      const { keys } = await connection.read();
      const { leader, members } = decodeKeys(keys, { now: systemClock.now(), wall: systemClock.wall() });
      if (leader === null) return `cluster ${name} has no leader`;
      if (leader.member === candidate) return `${candidate} is the leader already`;
      const apiUrl = members.get(leader.member)?.apiUrl ?? null;
      if (apiUrl === null) return `the REST API of the leader ${leader.member} is not known`;
      return { leader: leader.member, revision: leader.revision, apiUrl };
    } catch (error) {
      reason = describeError(error);
    } finally {
      connection.close();
    }
  }
  return reason;
}

async function place(
  { candidate, deadlineMs }: SwitchoverOptions,
  chosen: ChosenCluster,
  { leader, revision, apiUrl }: Leadership,
  tools: Pick<Conduct, "session" | "rest" | "say">,
): Promise<number> {
  const { session, say } = tools;
  const routers = [...session.coordination.routers.values()];
  if (routers.length === 0) return failed(`no pgsteer has announced itself for cluster ${chosen.name}`);
  say(`cluster ${chosen.name}: leader ${leader}; ${listed(routers)}`);
  if (deadlineMs >= chosen.queryWaitTimeoutMs) {
    say("warning: the deadline is not shorter than query_wait_timeout: clients that wait so long are disconnected");
  }
  const request: SwitchoverRequest = {
    kind: "switchover",
    id: randomUUID(),
    by: whoAmI(),
    since: new Date().toISOString(),
    leader,
    revision: String(revision),
    candidate,
    deadline_ms: deadlineMs,
  };
  const interrupted: Conduct["interrupted"] = { by: null };
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      interrupted.by = signal;
      session.wake();
    });
  }
  if (!(await session.place(request, true))) {
    const other = (await session.confirm()).coordination.request;
    const what = other === null ? "another request has just ended" : `${describeRequest(other)} is under way`;
    return calledOff(`${what}; nothing has changed`);
  }
  const conduct = { ...tools, request, apiUrl, interrupted };
  let code: number;
  try {
    code = await drainAndHandOver(conduct);
  } finally {
    const left = await session.withdraw();
    if (left !== null) say(`the request could not be taken back (${left}): routers resume by themselves`);
  }
  return code;
}

async function drainAndHandOver(conduct: Conduct): Promise<number> {
  const { say, session, request } = conduct;
  const startedAt = systemClock.now();
  const obstacle = await drain(conduct);
  if (obstacle !== null) return calledOff(`${obstacle}; clients go on`);
  const { coordination, stands } = await session.confirm();
  const routers = [...coordination.routers.values()];
  const undrained = routers.find((router) => !isDrained(router, request.id));
  if (!stands) return calledOff("the request is gone from etcd; clients go on");
  if (undrained !== undefined) return calledOff(`${routerName(undrained)} is not drained any more; clients go on`);
  const sessions = routers.reduce((sum, router) => sum + router.sessions, 0);
  if (sessions > 0) {
    say(`${counted(sessions, "client")} in session mode, pinned or replicating will be disconnected by the demotion`);
  }
  return handOver(conduct, startedAt);
}

const isDrained = ({ request, state }: RouterAnnouncement, id: string): boolean =>
  request === id && (state === "drained" || state === "holding");

/** Null once all live routers have drained; otherwise what is in the way. */
async function drain({ session, say, request, interrupted }: Conduct): Promise<string | null> {
  let shown = "";
  const obstacleOf = ({ routers }: Coordination): string | null => {
    if (interrupted.by !== null) return `interrupted by ${interrupted.by}`;
    if (session.lost !== null) return `etcd was lost (${session.lost})`;
    if (routers.size === 0) return "no router is left";
    for (const router of routers.values()) {
      if (router.request !== request.id) continue;
      if (router.state === "cannot") return `${routerName(router)} cannot drain in time: ${router.reason}`;
      if (router.state === "serving") return `${routerName(router)} goes on already: ${router.reason}`;
    }
    return null;
  };
  const done = (): boolean => {
    const routers = [...session.coordination.routers.values()];
    const drained = routers.filter((router) => isDrained(router, request.id));
    const open = routers.reduce((sum, router) => sum + (router.request === request.id ? router.open : 0), 0);
    const still = open === 0 ? "" : `, ${counted(open, "transaction")} still open`;
    const line = `drained ${drained.length} of ${routers.length}${still}`;
    if (line !== shown) say(line);
    shown = line;
    return obstacleOf(session.coordination) !== null || (routers.length > 0 && drained.length === routers.length);
  };
  const over = await session.until(done, request.deadline_ms + ACKNOWLEDGE_MS);
  const obstacle = obstacleOf(session.coordination);
  if (over || obstacle !== null) return obstacle;
  const silent = [...session.coordination.routers.values()].filter((router) => !isDrained(router, request.id));
  return `the deadline has passed, and no word came from ${silent.map(routerName).join(", ")}`;
}

/** Asks Patroni, and waits for the new leader. */
async function handOver(conduct: Conduct, startedAt: Millis): Promise<number> {
  const { session, rest, say, request, interrupted, apiUrl } = conduct;
  const { leader, candidate, id } = request;
  say(`all drained; asking Patroni for a switchover from ${leader} to ${candidate ?? "a member of its choice"}`);
  const askedAt = systemClock.now();
  const answer: { verdict: RestVerdict | null } = { verdict: null };
  const asked = rest.switchover(apiUrl, leader, candidate).then((verdict) => {
    answer.verdict = verdict;
    session.wake();
  });
  const resumed = (): boolean => hasNewLeader(session.coordination, id, leader);
  let warned = false;
  const settled = (): boolean => {
    if (interrupted.by !== null && !warned) say(`${interrupted.by}: Patroni has been asked, its answer is awaited`);
    warned = interrupted.by !== null;
    return resumed() || answer.verdict !== null;
  };
  await session.until(settled, 2 * NEW_LEADER_MS + LAST_WORDS_MS);
  const { verdict } = answer;
  if (!resumed() && (verdict?.kind === "refused" || verdict?.kind === "unasked")) return refused(verdict);
  if (verdict?.kind === "unknown") say(`Patroni's answer is lost (${verdict.reason}): looking for the new leader`);
  const done = await session.until(resumed, NEW_LEADER_MS);
  if (!done) return failed("no new leader takes writes yet: look at patronictl list and pgsteer status");
  const routers = [...session.coordination.routers.values()];
  const heldMs = Math.max(...routers.map(({ held_ms }) => held_ms ?? 0));
  const gapMs = Math.min(heldMs, Math.round(systemClock.now() - askedAt));
  say(`new leader ${routers[0]?.leader ?? "?"}: ${counted(routers.length, "router")} resumed`);
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(3)} s`;
  const totalMs = systemClock.now() - startedAt;
  say(`gap: ${seconds(gapMs)} without writes; transactions were held back for at most ${seconds(heldMs)}`);
  await Promise.race([asked, session.until(() => answer.verdict !== null, LAST_WORDS_MS)]);
  if (answer.verdict?.kind === "done") say(`Patroni: ${answer.verdict.text}`);
  say(`done in ${seconds(totalMs)}`);
  return EXIT.ok;
}

/** Whether all live routers serve another leader. */
function hasNewLeader({ routers }: Coordination, id: string, old: string): boolean {
  if (routers.size === 0) return false;
  return [...routers.values()].every(
    ({ request, state, leader }) => request === id && state === "serving" && leader !== null && leader !== old,
  );
}

function refused(verdict: Extract<RestVerdict, { readonly kind: "refused" | "unasked" }>): number {
  if (verdict.kind === "unasked") return calledOff(`Patroni does not answer (${verdict.reason}); clients go on`);
  const words = `Patroni refuses: ${verdict.text} (${verdict.status})`;
  return verdict.status < 500
    ? calledOff(`${words}; clients go on`)
    : failed(`${words}; look at patronictl list and pgsteer status`);
}
