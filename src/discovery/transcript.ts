// A transcript: all evidence of one cluster, in order, one JSON object per line, and beside it what was believed of it. The first line
// says what the rules were. Times are milliseconds since the recording began. Reading is strict: a line that is not understood
// is an error that names it, never skipped.

import { z } from "zod";
import { formatLsn, type Lsn, type Millis, millis } from "../core/units.ts";
import type { Evidence, EvidenceRules } from "./evidence-state.ts";
import type { BeliefChange } from "./transcript-belief.ts";
import { beliefSchema } from "./transcript-belief.ts";
import { ClaimReader, ClaimWriter, claimSchema, positionSchema } from "./transcript-claim.ts";

const time = z.number();
const reason = z.string();

const headerSchema = z.strictObject({
  kind: z.literal("transcript"),
  version: z.literal(1),
  /** What happened, for people. */
  about: z.string().optional(),
  cluster: z.string(),
  source: z.enum(["etcd", "patroni", "static"]),
  fresh_ms: z.number(),
  drain_ms: z.number(),
  /** Milliseconds since 1970 at time 0. */
  wall_ms: z.number(),
  /** So many lines repeat what was known when this file was begun, after an older one was full. */
  opening: z.number().int().nonnegative(),
  /** Leaderships seen before this file, the newest timeline served until then, and the cluster's identifier. */
  epoch: z.number().int().nonnegative(),
  timeline: z.number().int().nonnegative(),
  system_identifier: z.string().nullable(),
});

const claimLine = z.strictObject({
  kind: z.literal("claim"),
  at: time,
  connected: z.boolean(),
  confirmed_at: time,
  reason: reason.default(""),
  claim: claimSchema,
});

const sqlLine = z.strictObject({
  kind: z.literal("sql"),
  at: time,
  started_at: time,
  member: z.string(),
  round: z.number().int().nullable().default(null),
  failed: reason.optional(),
  in_recovery: z.boolean().optional(),
  timeline: z.number().int().optional(),
  position: positionSchema.optional(),
  streaming: z.boolean().nullable().default(null),
  system_identifier: z.string().optional(),
});

const restLine = z.strictObject({
  kind: z.literal("rest"),
  at: time,
  member: z.string(),
  failed: reason.optional(),
  role: z.enum(["primary", "standby_leader", "replica", "unknown"]).optional(),
  state: z.string().default(""),
  timeline: z.number().int().nullable().default(null),
});

const connectionLine = z.strictObject({
  kind: z.literal("connection"),
  at: time,
  member: z.string(),
  saw: z.enum(["login", "failed"]),
  in_recovery: z.boolean().nullable().default(null),
  reason: reason.default(""),
});

const lineSchema = z.discriminatedUnion("kind", [
  claimLine,
  sqlLine,
  restLine,
  connectionLine,
  /** Nothing new was seen, but time alone changed what is believed. */
  z.strictObject({ kind: z.literal("time"), at: time }),
  z.strictObject({ kind: z.literal("believed"), at: time, belief: beliefSchema }),
]);

export type TranscriptHeader = z.infer<typeof headerSchema>;

/** One line after the first. */
export type Entry =
  | Evidence
  | { readonly kind: "time"; readonly at: Millis }
  | { readonly kind: "believed"; readonly at: Millis; readonly belief: BeliefChange };

export interface Transcript {
  readonly header: TranscriptHeader;
  readonly rules: EvidenceRules;
  readonly entries: readonly Entry[];
}

/** A transcript that cannot be read: `message` says which line, and why. */
export class TranscriptError extends Error {}

/** Reasons may quote an address as it was configured; what stands before the host there can be a password. */
function withoutSecrets(line: string): string {
  return line.replace(/\/\/[^/\s"\\]*@/g, "//");
}

/** Writes the lines of one file. */
export class TranscriptWriter {
  readonly #base: Millis;
  readonly #claims: ClaimWriter;

  /** `base` is the transcript's time 0. */
  constructor(base: Millis) {
    this.#base = base;
    this.#claims = new ClaimWriter((at) => this.#time(at));
  }

  header(header: Omit<TranscriptHeader, "kind" | "version">): string {
    return JSON.stringify({ kind: "transcript", version: 1, ...header });
  }

  line(entry: Entry): string {
    return withoutSecrets(JSON.stringify(this.#fields(entry)));
  }

  #fields(entry: Entry): object {
    const head = { kind: entry.kind, at: this.#time(entry.at) };
    switch (entry.kind) {
      case "claim": {
        const { connected, confirmedAt, reason } = entry.source;
        const health = { connected, confirmed_at: this.#time(confirmedAt) };
        const said = reason === "" ? {} : { reason };
        return { ...head, ...health, ...said, claim: this.#claims.line(entry.claim) };
      }
      case "sql": {
        const { startedAt, member, round, answer } = entry;
        const asked = { started_at: this.#time(startedAt), member, ...(round === null ? {} : { round }) };
        if (!answer.ok) return { ...head, ...asked, failed: answer.reason };
        const { inRecovery, timeline, position, streaming, systemIdentifier } = answer;
        const known = { in_recovery: inRecovery, timeline, position: formatLsn(position) };
        const stream = streaming === null ? {} : { streaming };
        return { ...head, ...asked, ...known, ...stream, system_identifier: systemIdentifier };
      }
      case "rest": {
        const { member, answer } = entry;
        if (!answer.ok) return { ...head, member, failed: answer.reason };
        const { role, state, timeline } = answer;
        return { ...head, member, role, state, ...(timeline === null ? {} : { timeline }) };
      }
      case "connection": {
        const { member, answer } = entry;
        const saw = { ...head, member, saw: answer.kind };
        if (answer.kind === "failed") return { ...saw, reason: answer.reason };
        return answer.kind === "login" && answer.inRecovery !== null ? { ...saw, in_recovery: answer.inRecovery } : saw;
      }
      case "time":
        return head;
      case "believed":
        return { ...head, belief: entry.belief };
    }
  }

  /** To the microsecond. */
  #time(at: Millis): number {
    return Math.round((at - this.#base) * 1000) / 1000;
  }
}

/** Reads a whole transcript. Throws a TranscriptError. */
export function readTranscript(text: string): Transcript {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const header = decode(lines[0] ?? "", 1, (value) => headerSchema.parse(value));
  const claims = new ClaimReader();
  const entries: Entry[] = [];
  let last = Number.NEGATIVE_INFINITY;
  for (const [index, line] of lines.entries()) {
    if (index === 0) continue;
    const entry = decode(line, index + 1, (value) => entryOf(lineSchema.parse(value), header, claims));
    if (entry.at < last) throw new TranscriptError(`line ${index + 1}: its time is before that of the line above`);
    last = entry.at;
    entries.push(entry);
  }
  const { cluster, source: kind, fresh_ms: freshMs, drain_ms: drainMs } = header;
  return { header, rules: { cluster, kind, freshMs, drainMs }, entries };
}

function decode<T>(line: string, number: number, read: (value: unknown) => T): T {
  try {
    return read(JSON.parse(line));
  } catch (error) {
    const said = error instanceof z.ZodError ? z.prettifyError(error).replace(/\s*\n\s*/g, " ") : String(error);
    throw new TranscriptError(`line ${number}: ${said}`, { cause: error });
  }
}

function entryOf(line: z.infer<typeof lineSchema>, header: TranscriptHeader, claims: ClaimReader): Entry {
  const at = millis(line.at);
  switch (line.kind) {
    case "claim": {
      const { connected, confirmed_at: confirmedAt, reason } = line;
      const source = { kind: header.source, connected, confirmedAt: millis(confirmedAt), reason };
      return { kind: "claim", at, claim: claims.claim(line.claim), source };
    }
    case "sql":
      return sqlOf(line);
    case "rest": {
      const { member, failed, role, state, timeline } = line;
      if (failed !== undefined) return { kind: "rest", at, member, answer: { ok: false, reason: failed } };
      if (role === undefined) throw new Error("an answer needs a role, or why it failed");
      return { kind: "rest", at, member, answer: { ok: true, role, state, timeline } };
    }
    case "connection": {
      const { member, saw, reason, in_recovery: inRecovery } = line;
      if (saw === "failed") return { kind: "connection", at, member, answer: { kind: saw, reason } };
      return { kind: "connection", at, member, answer: { kind: saw, inRecovery } };
    }
    case "time":
      return { kind: "time", at };
    case "believed":
      return { kind: "believed", at, belief: line.belief };
  }
}

function sqlOf(line: z.infer<typeof sqlLine>): Evidence {
  const { member, round, failed, timeline, streaming } = line;
  const asked = { kind: "sql", at: millis(line.at), startedAt: millis(line.started_at), member, round } as const;
  if (failed !== undefined) return { ...asked, answer: { ok: false, reason: failed } };
  const { in_recovery: inRecovery, system_identifier: systemIdentifier } = line;
  const position: Lsn | undefined = line.position;
  if (inRecovery === undefined || timeline === undefined || position === undefined || systemIdentifier === undefined) {
    throw new Error("a good answer has in_recovery, timeline, position and system_identifier");
  }
  return { ...asked, answer: { ok: true, inRecovery, timeline, position, streaming, systemIdentifier } };
}
