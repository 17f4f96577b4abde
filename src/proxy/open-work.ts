// What is under way on servers when a drain is asked for: how many transactions are open, how many clients merely keep a server, and
// who they are. A client that keeps its server (session mode, pinned, replication) is waited for only until it was once seen between
// two transactions: it could begin another one at any moment, unseen.

import type { Pool } from "../pool/pool.ts";
import type { Server } from "../pool/server.ts";
import { TransactionStatus } from "../protocol/constants.ts";
import type { Client } from "./client.ts";

/** Names at most so many of those who are in the way. */
const NAMED_MAX = 3;

export interface OpenWork {
  /** Servers with a transaction, a statement or a question of ours under way that has to be waited for. */
  readonly open: ReadonlySet<Server>;
  /** Servers that clients keep between transactions. */
  readonly sessions: number;
}

/** Looks at lent servers. `member`: of this one alone; null: of all. `passed` remembers kept servers that were seen at rest. */
export function openWork(pools: Iterable<Pool>, member: string | null, passed: WeakSet<Server>): OpenWork {
  const open = new Set<Server>();
  let sessions = 0;
  for (const pool of pools) {
    const { endpoint, dedicated } = pool.identity;
    if (member !== null && endpoint.member !== member) continue;
    for (const server of pool.lent) {
      const between = server.status === TransactionStatus.Idle && server.exchange.empty;
      // Tested: a client's settings are asked for, or brought about.
      const rests = between && server.state !== "tested";
      if (rests || dedicated !== undefined) passed.add(server);
      if (passed.has(server)) sessions += 1;
      else open.add(server);
    }
  }
  return { open, sessions };
}

/** In words: `2 transactions are open: app in database app from 10.0.0.7, …`. */
export function whoIsOpen(open: ReadonlySet<Server>, clients: Iterable<Client>): string {
  const names: string[] = [];
  for (const { server, identity } of clients) {
    if (server === null || !open.has(server)) continue;
    names.push(`${identity.user} in database ${identity.database} from ${identity.address || "a local socket"}`);
    if (names.length === NAMED_MAX) break;
  }
  const count = open.size === 1 ? "1 transaction is open" : `${open.size} transactions are open`;
  const more = open.size > names.length && names.length > 0 ? ", …" : "";
  return `${count}${names.length === 0 ? "" : `: ${names.join("; ")}${more}`}`;
}
