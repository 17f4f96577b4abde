// Reads what Patroni 2.x to 4.x keeps in its DCS under `/<namespace>/<scope>/` (https://patroni.readthedocs.io/en/latest/dcs_layout.html).
// Pure. Unknown fields are ignored; a key that cannot be decoded is evidence of nothing and is reported as a problem.

import { z } from "zod";
import { lsn, type Millis, millis } from "../core/units.ts";
import type { ClusterClaim, FailoverClaim, LeaderClaim, MemberClaim } from "./claim.ts";
import type { MemberName, MemberTags } from "./topology.ts";

/** One key of the DCS. */
export interface KeyEntry {
  readonly value: string;
  readonly modRevision: bigint;
  readonly createRevision: bigint;
}

/** The same moment on both clocks: turns the wall time of a scheduled switchover into monotonic time. */
export interface Moment {
  readonly now: Millis;
  readonly wall: number;
}

const position = z
  .union([z.number().int().nonnegative(), z.string().regex(/^\d{1,20}$/)])
  .nullish()
  .catch(null);
const optionalText = z.string().nullish().catch(null);
const timelineField = z.number().int().positive().nullish().catch(null);

/** `true`, `"true"`, `1`: tags come from people's YAML. */
const flag = z
  .unknown()
  .optional()
  .transform(
    (value) => value === true || value === 1 || (typeof value === "string" && /^(true|on|yes|1)$/i.test(value)),
  );

/** Patroni's `tags`, of which only what routing needs is kept. */
export const tagsSchema = z
  .object({ noloadbalance: flag, nofailover: flag, nostream: flag })
  .transform(({ nostream, ...tags }): MemberTags => (nostream ? { ...tags, nostream } : tags))
  .catch({ noloadbalance: false, nofailover: false });

const memberSchema = z.object({
  conn_url: z.string(),
  api_url: optionalText,
  state: optionalText,
  role: optionalText,
  xlog_location: position,
  replay_lsn: position,
  timeline: timelineField,
  tags: tagsSchema.optional(),
});

const failoverSchema = z.object({
  leader: z.string().nullish(),
  member: z.string().nullish(),
  scheduled_at: z.string().nullish(),
});

const configSchema = z.object({
  pause: flag,
  standby_cluster: z.unknown().optional(),
});

const historySchema = z.array(z.tuple([z.number().int().positive()]).rest(z.unknown()));

type Json = { readonly ok: true; readonly value: unknown } | { readonly ok: false };

function parseJson(text: string): Json {
  try {
    return { ok: true, value: JSON.parse(text) };
  } catch {
    return { ok: false };
  }
}

/** Patroni's role, in its newer spelling. */
export function canonicalRole(role: string | null | undefined): MemberClaim["role"] {
  if (role === "master" || role === "primary" || role === "leader") return "primary";
  if (role === "standby_leader") return "standby_leader";
  if (role === "replica" || role === "sync_standby" || role === "quorum_standby") return "replica";
  return "unknown";
}

/** Host and port of a `postgres://` connection string. Null when it is not one. */
export function hostAndPort(connUrl: string): { readonly host: string; readonly port: number } | null {
  const match = /^[a-z]+:\/\/(?:[^@/]*@)?(\[[0-9A-Fa-f:.%]+\]|[^:/?#,\s]+)(?::(\d{1,5}))?(?:[/?#]|$)/.exec(connUrl);
  if (match?.[1] === undefined) return null;
  const port = Number(match[2] ?? "5432");
  if (port < 1 || port > 65_535) return null;
  return { host: match[1].replace(/^\[|\]$/g, ""), port };
}

/** `http://10.0.0.1:8008/patroni` → `http://10.0.0.1:8008`. Null when it is not an HTTP address. */
export function apiBase(apiUrl: string | null | undefined): string | null {
  if (apiUrl === null || apiUrl === undefined || !URL.canParse(apiUrl)) return null;
  const url = new URL(apiUrl);
  return url.protocol === "http:" || url.protocol === "https:" ? url.origin : null;
}

const noTags: MemberTags = { noloadbalance: false, nofailover: false };

/** Decodes one member key. A string says why it could not be. */
export function decodeMember(name: MemberName, value: string): MemberClaim | string {
  const json = parseJson(value);
  const parsed = memberSchema.safeParse(json.ok ? json.value : null);
  if (!parsed.success) return `the key of member ${name} cannot be decoded`;
  const address = hostAndPort(parsed.data.conn_url);
  if (address === null) return `the key of member ${name} has no usable conn_url`;
  const written = parsed.data.replay_lsn ?? parsed.data.xlog_location ?? null;
  return {
    name,
    host: address.host,
    port: address.port,
    apiUrl: apiBase(parsed.data.api_url),
    role: canonicalRole(parsed.data.role),
    state: parsed.data.state ?? "",
    timeline: parsed.data.timeline ?? null,
    position: written === null ? null : lsn(BigInt(written)),
    tags: parsed.data.tags ?? noTags,
  };
}

/** Wall time in milliseconds of Patroni's `scheduled_at` (ISO 8601, with microseconds); null when it is not one. */
export function parseWallTime(text: string): number | null {
  const match = /^(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?\s*(Z|[+-]\d\d(?::?\d\d)?)?$/i.exec(
    text.trim(),
  );
  if (match === null) return null;
  const [, year, month, day, hour, minute, second, fraction, zone] = match;
  const field = (value: string | undefined): number => Number(value ?? "0");
  if (field(month) < 1 || field(month) > 12 || field(day) < 1 || field(day) > 31) return null;
  if (field(hour) > 23 || field(minute) > 59 || field(second) > 60) return null;
  const days = daysSince1970(field(year), field(month), field(day));
  const clock = ((days * 24 + field(hour)) * 60 + field(minute)) * 60 + field(second);
  const offset = zone === undefined || /^z$/i.test(zone) ? 0 : zoneMinutes(zone);
  return (clock - offset * 60) * 1000 + Math.floor(Number(`0.${fraction ?? "0"}`) * 1000);
}

// Howard Hinnant's days_from_civil: the calendar without a wall clock.
function daysSince1970(year: number, month: number, day: number): number {
  const shifted = month <= 2 ? year - 1 : year;
  const era = Math.floor(shifted / 400);
  const yearOfEra = shifted - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * 146_097 + dayOfEra - 719_468;
}

function zoneMinutes(zone: string): number {
  const digits = zone.slice(1).replace(":", "").padEnd(4, "0");
  const minutes = Number(digits.slice(0, 2)) * 60 + Number(digits.slice(2));
  return zone.startsWith("-") ? -minutes : minutes;
}

/** Decodes the failover key: null when nothing is asked for, a string when it cannot be understood. */
export function decodeFailover(entry: KeyEntry, moment: Moment): FailoverClaim | string | null {
  const id = String(entry.modRevision);
  if (entry.value.trim() === "") return null;
  const json = parseJson(entry.value);
  if (!json.ok) {
    // Before JSON, the key read `leader:candidate`.
    const [leader = "", candidate = ""] = entry.value.split(":").map((part) => part.trim());
    return leader === "" && candidate === ""
      ? null
      : { id, leader: leader || null, candidate: candidate || null, dueAt: null };
  }
  const parsed = failoverSchema.safeParse(json.value ?? {});
  if (!parsed.success) return "the failover key cannot be decoded";
  const { leader, member, scheduled_at: scheduledAt } = parsed.data;
  if (!leader && !member) return null;
  if (!scheduledAt) return { id, leader: leader || null, candidate: member || null, dueAt: null };
  const wall = parseWallTime(scheduledAt);
  if (wall === null) return "the failover key's scheduled_at cannot be decoded";
  const dueAt = millis(moment.now + (wall - moment.wall));
  return { id, leader: leader || null, candidate: member || null, dueAt };
}

interface Decoded<T> {
  readonly value: T;
  readonly problem: string | null;
}

function decodeConfig(entry: KeyEntry | undefined): Decoded<{ paused: boolean; standbyCluster: boolean | null }> {
  if (entry === undefined) return { value: { paused: false, standbyCluster: null }, problem: null };
  const json = parseJson(entry.value);
  const parsed = configSchema.safeParse(json.ok ? json.value : null);
  if (!parsed.success) {
    return { value: { paused: false, standbyCluster: null }, problem: "the config key cannot be decoded" };
  }
  const standby = parsed.data.standby_cluster;
  const standbyCluster = typeof standby === "object" && standby !== null && Object.keys(standby).length > 0;
  return { value: { paused: parsed.data.pause, standbyCluster }, problem: null };
}

function decodeHistory(entry: KeyEntry | undefined): Decoded<number> {
  if (entry === undefined || entry.value.trim() === "") return { value: 0, problem: null };
  const json = parseJson(entry.value);
  const parsed = historySchema.safeParse(json.ok ? json.value : null);
  if (!parsed.success) return { value: 0, problem: "the history key cannot be decoded" };
  return { value: Math.max(0, ...parsed.data.map((line) => line[0])), problem: null };
}

function decodeLeader(entry: KeyEntry | undefined): LeaderClaim | null {
  const member = entry?.value.trim() ?? "";
  return entry === undefined || member === "" ? null : { member, revision: entry.createRevision };
}

/** Decodes all keys of one scope. `keys` are relative to the scope's prefix: `leader`, `members/node1`, … */
export function decodeKeys(keys: ReadonlyMap<string, KeyEntry>, moment: Moment): ClusterClaim {
  const problems: string[] = [];
  const members = new Map<MemberName, MemberClaim>();
  for (const [key, entry] of keys) {
    if (!key.startsWith("members/")) continue;
    const member = decodeMember(key.slice("members/".length), entry.value);
    if (typeof member === "string") problems.push(member);
    else members.set(member.name, member);
  }
  const failoverEntry = keys.get("failover");
  const failover = failoverEntry === undefined ? null : decodeFailover(failoverEntry, moment);
  if (typeof failover === "string") problems.push(failover);
  const config = decodeConfig(keys.get("config"));
  const history = decodeHistory(keys.get("history"));
  for (const { problem } of [config, history]) if (problem !== null) problems.push(problem);
  const initialize = keys.get("initialize");
  const identifier = initialize?.value.trim() ?? "";
  return {
    leader: decodeLeader(keys.get("leader")),
    members,
    failover: typeof failover === "string" ? null : failover,
    paused: config.value.paused,
    standbyCluster: config.value.standbyCluster,
    systemIdentifier: identifier === "" ? null : identifier,
    incarnation: initialize === undefined ? "" : String(initialize.createRevision),
    endedTimeline: history.value,
    problems,
  };
}
