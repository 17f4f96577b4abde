// Says of each member why it gets writes and reads, or why not, for people: what one would say behind its name ("holds the leader key
// of revision 812, but is still in recovery"). The decisions themselves are belief.ts's; nothing here decides.

import type { Millis } from "../core/units.ts";
import { evidenceOf, freshProbe, isForeign, obstacleOf, oldestBelievable, rivalOf } from "./belief.ts";
import type { MemberClaim } from "./claim.ts";
import type { Doubt, EvidenceState, Probed } from "./evidence-state.ts";
import type { LeaderState, Why } from "./topology.ts";

/** One member at one moment. */
interface View {
  readonly state: EvidenceState;
  readonly claim: MemberClaim;
  readonly leader: LeaderState;
  readonly now: Millis;
}

/** `notReadable` is belief's reason against reads; empty when there is none. */
export function whyOf(view: View, notReadable: string, lagBytes: number | null): Why {
  return { writes: whyWrites(view), reads: whyReads(view, notReadable, lagBytes) };
}

const doubtText = ({ away, reason }: Doubt): string =>
  away ? `its PostgreSQL does not serve connections: ${reason}` : reason;

function whyWrites(view: View): string {
  const { state, claim } = view;
  if (state.rules.kind === "static") return whyStaticWrites(view);
  const said = state.leadership?.member === claim.name ? whyLeaderWrites(view) : whyOthersWrites(view);
  return claim.tags.nofailover ? `${said}; is tagged nofailover` : said;
}

/** Of the member that holds the leader key. */
function whyLeaderWrites({ state, claim, leader, now }: View): string {
  const { leadership, source } = state;
  if (leadership === null) return "";
  const revision = leadership.revision === 0n ? "" : ` of revision ${leadership.revision}`;
  const key = source.connected
    ? `holds the leader key${revision}`
    : `held the leader key${revision} when ${source.kind} was last heard`;
  if (leader.kind === "standby") return `${key}, but leads a standby cluster, which takes no writes by design`;
  const { doubt, probe } = evidenceOf(state, claim.name);
  if (doubt !== null) return `${key}, but ${doubtText(doubt)}`;
  const obstacle = obstacleOf(state, leadership, now);
  if (obstacle !== null) return obstacle.includes(", but ") ? `${key}; it ${obstacle}` : `${key}, but ${obstacle}`;
  if (leader.kind === "none") return `${key}, but ${contradiction({ state, claim, leader, now })}`;
  const timeline = `on timeline ${probe?.timeline ?? leadership.timeline}`;
  if (leader.kind === "draining") return `${key} and takes writes ${timeline}, but ${leader.reason}: no new ones begin`;
  return `${key} and takes writes ${timeline}`;
}

/** What speaks against a leader that its own PostgreSQL confirms, while the source is silent. */
function contradiction({ state, claim, now }: View): string {
  const rival = rivalOf(state, claim.name, now);
  if (rival !== null) return `${rival} takes writes too`;
  const { rest } = evidenceOf(state, claim.name);
  return rest === null ? "nothing confirms it" : `its Patroni says that it is a ${rest.role}`;
}

/** Of any other member, which may take writes all the same: a deposed leader does. */
function whyOthersWrites({ state, claim, now }: View): string {
  const holder = state.leadership?.member;
  const elsewhere = holder === undefined ? "nobody holds the leader key" : `${holder} holds the leader key`;
  const { doubt } = evidenceOf(state, claim.name);
  const probe = freshProbe(state, claim.name, now);
  if (probe?.inRecovery === false) {
    const oldest = oldestBelievable(state);
    const old = probe.timeline < oldest ? `, which is older than ${oldest},` : "";
    return `takes writes on timeline ${probe.timeline}${old} without the leader key: ${elsewhere}`;
  }
  return doubt?.away === true ? `${elsewhere}, and ${doubtText(doubt)}` : elsewhere;
}

/** Without any leader key: the only member that takes writes, or that of several on the newest timeline. */
function whyStaticWrites({ state, claim, leader, now }: View): string {
  const evidence = evidenceOf(state, claim.name);
  const against = whyNoAnswer(state, evidence.doubt, evidence.probe, now);
  if (against !== null) return against;
  const probe = freshProbe(state, claim.name, now);
  if (probe === null || probe.inRecovery) return "is in recovery";
  const takes = `takes writes on timeline ${probe.timeline}`;
  if (leader.kind !== "none" && leader.member === claim.name) return takes;
  const oldest = oldestBelievable(state);
  if (probe.timeline < oldest) return `${takes}, but timeline ${oldest} has been written already`;
  if (leader.kind !== "none") return `${takes}, but so does ${leader.member}, which is served`;
  const rival = rivalOf(state, claim.name, now);
  return rival === null ? `${takes}, but has not been probed since` : `${takes}, but so does ${rival}`;
}

/** Why nothing is known of a member's PostgreSQL now; null when something is. */
function whyNoAnswer(state: EvidenceState, doubt: Doubt | null, probe: Probed | null, now: Millis): string | null {
  if (doubt !== null) return doubtText(doubt);
  if (probe === null) return "has not been probed yet";
  if (isForeign(state, probe)) return "has another system identifier than this cluster";
  return now - probe.at > state.rules.freshMs ? "has not answered a probe lately" : null;
}

const MEGABYTE = 1_048_576;
/** In steps, so that the sentence changes seldom: each listener's own limit decides, on the exact number. */
const lagSteps = [1024, 128, 16, 1] as const;

function lagText(lagBytes: number | null): string {
  const step = lagSteps.find((megabytes) => lagBytes !== null && lagBytes >= megabytes * MEGABYTE);
  return step === undefined ? "" : `, but lags by ${step === 1024 ? "1 GB" : `${step} MB`} or more`;
}

function whyReads({ state, claim, leader, now }: View, notReadable: string, lagBytes: number | null): string {
  const { doubt, probe } = evidenceOf(state, claim.name);
  const against = whyNoAnswer(state, doubt, probe, now);
  const leads = leader.kind !== "none" && leader.member === claim.name;
  if (leads && (leader.kind === "writable" || leader.kind === "draining")) return "takes writes, as the leader";
  if (against !== null) return against;
  if (notReadable !== "") return notReadable;
  const lag = lagText(lagBytes);
  return probe?.streaming === false
    ? `is in recovery; that it does not stream is tolerated for a while${lag}`
    : `is in recovery${probe?.streaming === true ? " and streams" : ""}${lag}`;
}
