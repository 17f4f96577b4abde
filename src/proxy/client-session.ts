// What a client is from its login on: who, under which rules, sharing what with whom.

import type { Clock } from "../core/clock.ts";
import type { Pool } from "../pool/pool.ts";
import type { Server } from "../pool/server.ts";
import { TransactionStatus } from "../protocol/constants.ts";
import type { Balance } from "../routing/balance.ts";
import type { Target } from "../routing/target.ts";
import type { ClientPhase, ClientTimeouts } from "./client-times.ts";
import type { FailedTransaction } from "./failed-transaction.ts";
import type { Group } from "./group.ts";
import type { Session } from "./session.ts";
import type { Steering } from "./steering.ts";
import type { Traffic } from "./traffic.ts";
import type { WaitDeadlines } from "./wait-deadlines.ts";

export interface ClientIdentity {
  readonly id: number;
  readonly address: string;
  readonly user: string;
  readonly database: string;
  readonly listener: string;
}

/** Who keeps the list of clients. */
export interface ClientOwner {
  clientClosed(identity: ClientIdentity, reason: string): void;
}

/** Surroundings and rules of a client, the same for all of its listener. */
export interface ClientContext {
  readonly clock: Clock;
  readonly steering: Steering;
  readonly traffic: Traffic;
  readonly owner: ClientOwner;
  readonly deadlines: WaitDeadlines;
  readonly timeouts: ClientTimeouts;
  /** Whether a statement's first words may choose the target. */
  readonly readsIntent: boolean;
}

/** A client is in exactly one of these. */
export type ClientState =
  | { readonly kind: "idle" }
  /** For a server. */
  | { readonly kind: "waiting" }
  /** For the settings that its next transaction needs, or its last one left, or for the verdict on a server that was lost. */
  | { readonly kind: "settling" }
  | { readonly kind: "active"; readonly server: Server }
  | { readonly kind: "failed"; readonly transaction: FailedTransaction }
  | { readonly kind: "closed" };

/** What a client in this state is doing, as far as time limits go; null where others decide how long it takes. */
export function phaseOf(state: ClientState): ClientPhase | null {
  if (state.kind !== "active") return state.kind === "idle" ? "idle" : null;
  if (!state.server.exchange.empty) return "query";
  return state.server.status === TransactionStatus.Idle ? "idle" : "transaction";
}

/** A server that it has from its login on, and where that goes back to. */
export interface Lease {
  readonly pool: Pool;
  readonly server: Server;
}

/** What its login settled. */
export interface ClientSession {
  readonly group: Group;
  readonly balance: Balance;
  readonly session: Session;
  readonly target: Target;
  /** The server of a session that has one of its own; null where each transaction seeks one. */
  readonly lease: Lease | null;
}
