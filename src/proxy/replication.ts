// Replication connections (https://www.postgresql.org/docs/current/protocol-replication.html): a client of its own kind, in session
// mode, with a server that is logged in with the client's own startup parameters, leads to the leader, and is closed with it. All that
// holds for clients holds for it: waiting for a leader, limits, cancel, and the end of its server when the leader changes.

import type { Dedicated } from "../pool/pool-terms.ts";
import { SettingsSet } from "../pool/settings.ts";
import type { ClientFacts } from "./client-facts.ts";
import { Session, type SessionOptions } from "./session.ts";

/** What such a client's server is logged in with; null for any other client. `client` is its number. */
export function dedicatedTo(client: number, { replication, settings }: ClientFacts): Dedicated | null {
  if (replication === null) return null;
  const parameters = new Map([["replication", replication === "database" ? "database" : "true"], ...settings]);
  return { client, parameters };
}

/** Its server is logged in with its settings: there are none to bring about, nor could SQL do it in physical replication. */
export const replicationSession = (options: SessionOptions): Session =>
  new Session(SettingsSet.empty, { ...options, poolMode: "session", replicates: true });
