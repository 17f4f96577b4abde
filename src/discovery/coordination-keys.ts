// What routers and the commands `pgsteer switchover | pause | resume` tell each other in etcd: the names of the keys, and what is in
// them. They stand below `/pgsteer/<namespace>/<scope>/`, where neither Patroni nor its tools look (docs/adr/0007): `routers/<id>`,
// one for each router, under its lease; and `request`, at most one, which is why two commands never work at once.

import { z } from "zod";
import type { KeyEntry } from "./patroni-keys.ts";

/** `/pgsteer/service/main/` for Patroni's `/service/main/`. */
export const coordinationPrefix = (patroniPrefix: string): string => `/pgsteer${patroniPrefix}`;

export const REQUEST_KEY = "request";
const ROUTERS = "routers/";
export const routerKey = (id: string): string => `${ROUTERS}${id}`;

const command = {
  id: z.string().min(1),
  /** Who asked, for people: `user@host`. */
  by: z.string(),
  /** When, as ISO 8601, for people: clocks differ. */
  since: z.string(),
};

const switchoverSchema = z.object({
  kind: z.literal("switchover"),
  ...command,
  /** The leadership that it is about: who, and the revision of its leader key. */
  leader: z.string().min(1),
  revision: z.string().regex(/^\d{1,19}$/),
  /** Null: Patroni chooses. */
  candidate: z.string().nullable(),
  /** How long a router may take to drain, counted from when it sees this. */
  deadline_ms: z.number().int().positive(),
});

const requestSchema = z.discriminatedUnion("kind", [
  switchoverSchema,
  z.object({ kind: z.literal("pause"), ...command }),
]);

const routerStates = ["serving", "draining", "drained", "holding", "paused", "cannot"] as const;

const announcementSchema = z.object({
  id: z.string().min(1),
  version: z.string(),
  host: z.string(),
  /** Base URL of its HTTP endpoints; null when it has none. */
  http: z.string().nullable(),
  state: z.enum(routerStates),
  /** Of which request: also of one that is over for this router, while the request still stands. */
  request: z.string().nullable(),
  /** Since when it is in this state: milliseconds since 1970, by its own clock. */
  since_ms: z.number(),
  /** Transactions that it still waits for. */
  open: z.number(),
  /** Clients that keep a server between transactions, where the request concerns it. */
  sessions: z.number(),
  /** Clients that it holds. */
  held: z.number(),
  /** The leader that it serves; null while it serves none. */
  leader: z.string().nullable(),
  /** For how long it held transactions back for this request; null while it does, or did not. */
  held_ms: z.number().nullable(),
  /** Why it cannot, or why it resumed; empty otherwise. */
  reason: z.string(),
});

export type SwitchoverRequest = z.infer<typeof switchoverSchema>;
export type CoordinationRequest = z.infer<typeof requestSchema>;
export type RouterState = (typeof routerStates)[number];
export type RouterAnnouncement = z.infer<typeof announcementSchema>;

/** All that stands below the prefix. */
export interface Coordination {
  readonly request: CoordinationRequest | null;
  /** Revision at which the request was written; 0n without one. */
  readonly requestRevision: bigint;
  /** By id. */
  readonly routers: ReadonlyMap<string, RouterAnnouncement>;
  /** What could not be understood, such as keys of another version. */
  readonly problems: readonly string[];
}

function decoded<Value>(schema: z.ZodType<Value>, text: string): Value | null {
  try {
    const parsed = schema.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

/** Decodes the keys, by names relative to the prefix. */
export function decodeCoordination(keys: ReadonlyMap<string, KeyEntry>): Coordination {
  const problems: string[] = [];
  const routers = new Map<string, RouterAnnouncement>();
  for (const [name, { value }] of keys) {
    if (!name.startsWith(ROUTERS)) continue;
    const announcement = decoded(announcementSchema, value);
    if (announcement === null) problems.push(`${name} cannot be decoded`);
    else routers.set(name.slice(ROUTERS.length), announcement);
  }
  const entry = keys.get(REQUEST_KEY);
  const request = entry === undefined ? null : decoded(requestSchema, entry.value);
  if (entry !== undefined && request === null) problems.push(`${REQUEST_KEY} cannot be decoded`);
  return { request, requestRevision: entry?.modRevision ?? 0n, routers, problems };
}
