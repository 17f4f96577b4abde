// Asks one member's Patroni REST API (https://patroni.readthedocs.io/en/latest/rest_api.html): `/cluster` for what it knows of all
// members, `/patroni` for what it says of itself. Each question is bounded in time and in bytes, and failure is a value.

import { Agent, request } from "undici";
import { z } from "zod";
import type { Clock } from "../core/clock.ts";
import { millis } from "../core/units.ts";
import type { ClusterClaim, FailoverClaim, MemberClaim } from "./claim.ts";
import { emptyClaim } from "./claim.ts";
import type { RestEvidence } from "./evidence-state.ts";
import { apiBase, canonicalRole, type Moment, parseWallTime, tagsSchema } from "./patroni-keys.ts";

export interface PatroniRestOptions {
  /** HTTP basic authentication; null where reading needs none (Patroni's default). */
  readonly credentials: { readonly user: string; readonly password: string } | null;
  /** PEM texts for https; null: the system's authorities, no client certificate. */
  readonly tls: {
    readonly ca: string | null;
    readonly cert: string | null;
    readonly key: string | null;
  } | null;
  /** A question without an answer for longer has failed. Default 1500. */
  readonly callTimeoutMs?: number;
}

/** An answer, or why there is none. */
export type RestAnswer<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reason: string };

/** What Patroni said when it was asked to act. */
export type RestVerdict =
  | { readonly kind: "done"; readonly text: string }
  /** `status` 5xx: it tried. */
  | { readonly kind: "refused"; readonly status: number; readonly text: string }
  /** It was not reached. */
  | { readonly kind: "unasked"; readonly reason: string }
  /** It was asked, and what came of it is not known. */
  | { readonly kind: "unknown"; readonly reason: string };

const DEFAULT_CALL_TIMEOUT_MS = 1500;
/** Patroni answers when the switchover is over, or has failed. */
const SWITCHOVER_TIMEOUT_MS = 60_000;
const VERDICT_TEXT_MAX = 500;
/** Bodies: a `/cluster` of a hundred members with tags is about 40 kB. */
const REST_BODY_BYTES_MAX = 1_048_576;

const optionalText = z.string().nullish().catch(null);

const clusterMemberSchema = z.object({
  name: z.string().min(1),
  role: optionalText,
  state: optionalText,
  api_url: optionalText,
  host: z.string().min(1),
  port: z.coerce.number().int().min(1).max(65_535).default(5432),
  timeline: z.number().int().positive().nullish().catch(null),
  tags: tagsSchema.optional(),
});

const clusterSchema = z.object({
  members: z.array(z.unknown()),
  pause: z.boolean().optional().catch(false),
  scheduled_switchover: z.object({ at: z.string(), from: optionalText, to: optionalText }).nullish().catch(null),
});

const memberSchema = z.object({
  role: optionalText,
  state: optionalText,
  timeline: z.number().int().positive().nullish().catch(null),
});

/** Decodes the body of `/cluster`. Null when it is none. */
export function decodeCluster(body: unknown, moment: Moment): ClusterClaim | null {
  const parsed = clusterSchema.safeParse(body);
  if (!parsed.success) return null;
  const members = new Map<string, MemberClaim>();
  const problems: string[] = [];
  let leader: ClusterClaim["leader"] = null;
  let standbyCluster = false;
  for (const item of parsed.data.members) {
    const member = clusterMemberSchema.safeParse(item);
    if (!member.success) {
      problems.push("a member in /cluster cannot be decoded");
      continue;
    }
    const { name, host, port, role, state, timeline, tags } = member.data;
    if (role === "leader" || role === "standby_leader") {
      leader = { member: name, revision: 0n };
      standbyCluster = role === "standby_leader";
    }
    members.set(name, {
      name,
      host,
      port,
      apiUrl: apiBase(member.data.api_url),
      role: canonicalRole(role),
      state: state ?? "",
      timeline: timeline ?? null,
      position: null,
      tags: tags ?? { noloadbalance: false, nofailover: false },
    });
  }
  const failover = decodeScheduled(parsed.data.scheduled_switchover, moment);
  const paused = parsed.data.pause ?? false;
  return { ...emptyClaim, leader, members, failover, paused, standbyCluster, problems };
}

function decodeScheduled(
  scheduled: { at: string; from?: string | null | undefined; to?: string | null | undefined } | null | undefined,
  moment: Moment,
): FailoverClaim | null {
  const wall = scheduled ? parseWallTime(scheduled.at) : null;
  if (!scheduled || wall === null) return null;
  return {
    id: `${scheduled.at} ${scheduled.from ?? ""} ${scheduled.to ?? ""}`,
    leader: scheduled.from ?? null,
    candidate: scheduled.to ?? null,
    dueAt: millis(moment.now + (wall - moment.wall)),
  };
}

/** Errors that come before anything is sent. */
const unreached: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** Asks members of one cluster. Connections are kept open between questions. */
export class PatroniRest {
  readonly #clock: Clock;
  readonly #agent: Agent;
  readonly #timeoutMs: number;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(clock: Clock, options: PatroniRestOptions) {
    this.#clock = clock;
    this.#timeoutMs = options.callTimeoutMs ?? DEFAULT_CALL_TIMEOUT_MS;
    const { credentials, tls } = options;
    const basic = Buffer.from(`${credentials?.user}:${credentials?.password}`).toString("base64");
    this.#headers = credentials === null ? {} : { authorization: `Basic ${basic}` };
    this.#agent = new Agent({
      connections: 2,
      pipelining: 1,
      connect: {
        timeout: this.#timeoutMs,
        ...(tls === null
          ? {}
          : {
              ...(tls.ca === null ? {} : { ca: tls.ca }),
              ...(tls.cert === null ? {} : { cert: tls.cert }),
              ...(tls.key === null ? {} : { key: tls.key }),
            }),
      },
    });
  }

  /** What the member behind `base` knows of its cluster. Never rejects. */
  async cluster(base: string): Promise<RestAnswer<ClusterClaim>> {
    const answer = await this.#get(`${base}/cluster`);
    if (!answer.ok) return answer;
    const moment = { now: this.#clock.now(), wall: this.#clock.wall() };
    const claim = decodeCluster(answer.value, moment);
    return claim === null
      ? { ok: false, reason: "the answer to /cluster cannot be decoded" }
      : { ok: true, value: claim };
  }

  /** What the member behind `base` says of itself. Never rejects. */
  async member(base: string): Promise<RestEvidence> {
    const answer = await this.#get(`${base}/patroni`);
    if (!answer.ok) return answer;
    const parsed = memberSchema.safeParse(answer.value);
    if (!parsed.success) return { ok: false, reason: "the answer to /patroni cannot be decoded" };
    const { role, state, timeline } = parsed.data;
    return { ok: true, role: canonicalRole(role), state: state ?? "", timeline: timeline ?? null };
  }

  /** Asks for a switchover, now; the answer comes when it is over. Never rejects. */
  async switchover(base: string, leader: string, candidate: string | null): Promise<RestVerdict> {
    const abort = new AbortController();
    const timer = this.#clock.after(millis(SWITCHOVER_TIMEOUT_MS), () => abort.abort());
    try {
      const { statusCode, body } = await request(`${base}/switchover`, {
        dispatcher: this.#agent,
        method: "POST",
        headers: { ...this.#headers, "content-type": "application/json" },
        body: JSON.stringify({ leader, ...(candidate === null ? {} : { candidate }) }),
        signal: abort.signal,
      });
      const text = (await body.text()).replace(/\s+/g, " ").trim().slice(0, VERDICT_TEXT_MAX);
      return statusCode < 300 ? { kind: "done", text } : { kind: "refused", status: statusCode, text };
    } catch (error) {
      const reason = error instanceof Error ? error.message || error.name : String(error);
      const code: unknown = error instanceof Error && "code" in error ? error.code : null;
      return { kind: typeof code === "string" && unreached.has(code) ? "unasked" : "unknown", reason };
    } finally {
      timer.cancel();
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async #get(url: string): Promise<RestAnswer<unknown>> {
    const abort = new AbortController();
    const timer = this.#clock.after(millis(this.#timeoutMs), () => abort.abort());
    try {
      const { statusCode, body } = await request(url, {
        dispatcher: this.#agent,
        headers: this.#headers,
        signal: abort.signal,
      });
      const chunks: Buffer[] = [];
      let size = 0;
      for await (const chunk of body) {
        const bytes = Buffer.from(chunk);
        size += bytes.length;
        if (size > REST_BODY_BYTES_MAX)
          return { ok: false, reason: `the answer is longer than ${REST_BODY_BYTES_MAX} bytes` };
        chunks.push(bytes);
      }
      if (statusCode !== 200 && statusCode !== 503) return { ok: false, reason: `answered ${statusCode}` };
      return { ok: true, value: JSON.parse(Buffer.concat(chunks).toString("utf8")) };
    } catch (error) {
      if (abort.signal.aborted) return { ok: false, reason: `no answer in ${this.#timeoutMs} ms` };
      return { ok: false, reason: error instanceof Error ? error.message || error.name : String(error) };
    } finally {
      timer.cancel();
    }
  }
}
