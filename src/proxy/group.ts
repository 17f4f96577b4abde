// Clients that are led to the same database as the same role, and what they share.

import type { MemberName } from "../discovery/topology.ts";
import type { Pool } from "../pool/pool.ts";
import type { Dedicated, Place } from "../pool/pool-terms.ts";

/** What a server said when it took a client's startup settings. */
export interface Greeting {
  readonly parameters: ReadonlyMap<string, string>;
  /** NoticeResponses as they came. */
  readonly notices: readonly Buffer[];
}

/** All that clients share who are led to the same database as the same role. */
export interface Group {
  readonly place: Place;
  /** Of a client that has a server to itself. */
  readonly dedicated?: Dedicated;
  /** Those who are connected. */
  clients: number;
  /** Pools that served last; asked for again once fenced. */
  write: Pool | null;
  readonly reads: Map<MemberName, Pool>;
  /** What is told at login, by target and settings; least recently used first. */
  readonly welcomes: Map<string, Greeting>;
  /** What the last server login reported: when it changes, the welcomes are no longer true. */
  reported: string;
}

/** One of nobody yet. */
export const newGroup = (place: Place): Group => ({
  place,
  clients: 0,
  write: null,
  reads: new Map(),
  welcomes: new Map(),
  reported: "",
});
