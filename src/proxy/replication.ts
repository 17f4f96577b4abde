// Replication connections (https://www.postgresql.org/docs/current/protocol-replication.html): a client of its own kind, in session
// mode, with a server that is logged in with the client's own startup parameters, leads to the leader, and is closed with it. All that
// holds for clients holds for it: waiting for a leader, limits, cancel, and the end of its server when the leader changes.

import { SettingsSet } from "../pool/settings.ts";
import type { Balance } from "../routing/balance.ts";
import type { ClientFacts } from "./client-facts.ts";
import type { ClientSession } from "./client-session.ts";
import { Session, type SessionOptions } from "./session.ts";
import type { Steering } from "./steering.ts";

/** What the login of such a client settles; `client` is its number. */
export function replicationSession(
  steering: Steering,
  balance: Balance,
  client: number,
  facts: ClientFacts,
  options: SessionOptions,
): Omit<ClientSession, "lease"> {
  const replication = facts.replication === "database" ? "database" : "true";
  const parameters = new Map([["replication", replication], ...facts.settings]);
  // The server is logged in with the settings: there are none to bring about, nor could SQL do it in physical replication.
  const session = new Session(SettingsSet.empty, { ...options, poolMode: "session", replicates: true });
  return {
    group: steering.dedicatedGroup(facts.database, facts.user, { client, parameters }),
    balance,
    session,
    target: "primary",
  };
}
