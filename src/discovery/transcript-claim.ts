// A source's claim as a line of a transcript has it, and back. What has not changed since the claim before is not repeated: a member
// goes by its name alone then, and a whole claim by "same". Positions and revisions are text: JSON's numbers end at 2^53.

import { z } from "zod";
import { formatLsn, type Millis, millis, parseLsn } from "../core/units.ts";
import { type ClusterClaim, emptyClaim, type FailoverClaim, type MemberClaim } from "./claim.ts";
import type { MemberName, MemberTags } from "./topology.ts";

/** PostgreSQL's text form, `16/B374D848`. */
export const positionSchema = z.string().transform((text, context) => {
  const position = parseLsn(text);
  if (position !== null) return position;
  context.addIssue(`"${text}" is no position`);
  return z.NEVER;
});
const revision = z
  .string()
  .regex(/^\d{1,20}$/)
  .transform(BigInt);
const tag = z.enum(["noloadbalance", "nofailover", "nostream"]);
const role = z.enum(["primary", "standby_leader", "replica", "unknown"]);

const memberSchema = z.strictObject({
  name: z.string(),
  host: z.string(),
  port: z.number().int().min(1).max(65_535),
  api_url: z.string().nullable().default(null),
  role,
  state: z.string(),
  timeline: z.number().int().nullable().default(null),
  position: positionSchema.nullable().default(null),
  tags: z.array(tag).default([]),
});

const failoverSchema = z.strictObject({
  id: z.string(),
  leader: z.string().nullable(),
  candidate: z.string().nullable(),
  /** On the transcript's clock; null for at once. */
  due_at: z.number().nullable(),
});

/** What a line says of a claim. */
export const claimSchema = z.union([
  z.null(),
  z.literal("same"),
  z.strictObject({
    leader: z.strictObject({ member: z.string(), revision }).nullable().default(null),
    members: z.array(z.union([z.string(), memberSchema])),
    failover: failoverSchema.nullable().default(null),
    paused: z.boolean().default(false),
    standby_cluster: z.boolean().nullable().default(null),
    system_identifier: z.string().nullable().default(null),
    incarnation: z.string().default(""),
    ended_timeline: z.number().int().default(0),
    problems: z.array(z.string()).default([]),
  }),
]);

type ClaimLine = z.infer<typeof claimSchema>;

const tagsOf = (tags: MemberTags): string[] => tag.options.filter((name) => tags[name] === true);

/** Leaves out what is as it is by default. */
function memberLine({ name, host, port, apiUrl, role, state, timeline, position, tags }: MemberClaim): object {
  return {
    name,
    host,
    port,
    ...(apiUrl === null ? {} : { api_url: apiUrl }),
    role,
    state,
    ...(timeline === null ? {} : { timeline }),
    ...(position === null ? {} : { position: formatLsn(position) }),
    ...(tagsOf(tags).length === 0 ? {} : { tags: tagsOf(tags) }),
  };
}

/** Writes claims, each as what it adds to those before. `time` brings a moment onto the transcript's clock. */
export class ClaimWriter {
  readonly #time: (at: Millis) => number;
  readonly #members = new Map<MemberName, string>();
  #last: ClusterClaim | null = null;

  constructor(time: (at: Millis) => number) {
    this.#time = time;
  }

  line(claim: ClusterClaim | null): object | "same" | null {
    if (claim === null) return null;
    if (claim === this.#last) return "same";
    this.#last = claim;
    const members = [...claim.members.values()].map((member) => {
      const line = memberLine(member);
      const text = JSON.stringify(line);
      if (this.#members.get(member.name) === text) return member.name;
      this.#members.set(member.name, text);
      return line;
    });
    const { leader, failover, paused, standbyCluster, systemIdentifier, incarnation, endedTimeline, problems } = claim;
    const dueAt = failover?.dueAt ?? null;
    return {
      ...(leader === null ? {} : { leader: { member: leader.member, revision: String(leader.revision) } }),
      members,
      ...(failover === null
        ? {}
        : {
            failover: {
              id: failover.id,
              leader: failover.leader,
              candidate: failover.candidate,
              due_at: dueAt === null ? null : this.#time(dueAt),
            },
          }),
      ...(paused ? { paused } : {}),
      ...(standbyCluster === null ? {} : { standby_cluster: standbyCluster }),
      ...(systemIdentifier === null ? {} : { system_identifier: systemIdentifier }),
      ...(incarnation === "" ? {} : { incarnation }),
      ...(endedTimeline === 0 ? {} : { ended_timeline: endedTimeline }),
      ...(problems.length === 0 ? {} : { problems }),
    };
  }
}

/** Reads what ClaimWriter wrote, in the same order. Throws what is wrong with a line, in words. */
export class ClaimReader {
  readonly #members = new Map<MemberName, MemberClaim>();
  #last: ClusterClaim | null = null;

  claim(line: ClaimLine): ClusterClaim | null {
    if (line === null) return null;
    if (line === "same") {
      if (this.#last === null) throw new Error('"same" has no claim before it');
      return this.#last;
    }
    const members = new Map<MemberName, MemberClaim>();
    for (const entry of line.members) {
      const member = typeof entry === "string" ? this.#members.get(entry) : memberOf(entry);
      if (member === undefined) throw new Error(`no line before it describes member ${String(entry)}`);
      this.#members.set(member.name, member);
      members.set(member.name, member);
    }
    this.#last = {
      ...emptyClaim,
      leader: line.leader,
      members,
      failover: line.failover === null ? null : failoverOf(line.failover),
      paused: line.paused,
      standbyCluster: line.standby_cluster,
      systemIdentifier: line.system_identifier,
      incarnation: line.incarnation,
      endedTimeline: line.ended_timeline,
      problems: line.problems,
    };
    return this.#last;
  }
}

function failoverOf(line: z.infer<typeof failoverSchema>): FailoverClaim {
  const { id, leader, candidate, due_at: dueAt } = line;
  return { id, leader, candidate, dueAt: dueAt === null ? null : millis(dueAt) };
}

function memberOf({ api_url: apiUrl, tags, ...rest }: z.infer<typeof memberSchema>): MemberClaim {
  return {
    ...rest,
    apiUrl,
    tags: {
      noloadbalance: tags.includes("noloadbalance"),
      nofailover: tags.includes("nofailover"),
      ...(tags.includes("nostream") ? { nostream: true } : {}),
    },
  };
}
