// What a client is from its login on: who, under which rules, sharing what with whom.

import type { Clock, Timer } from "../core/clock.ts";
import type { Server } from "../pool/server.ts";
import type { Balance } from "../routing/balance.ts";
import type { Target } from "../routing/target.ts";
import type { FailedTransaction } from "./failed-transaction.ts";
import type { Session } from "./session.ts";
import type { Group, Steering } from "./steering.ts";
import type { Traffic } from "./traffic.ts";

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
  readonly queryWaitTimeoutMs: number;
  /** 0: never. */
  readonly clientIdleTimeoutMs: number;
  /** Whether a statement's first words may choose the target. */
  readonly readsIntent: boolean;
}

/** A client is in exactly one of these. */
export type ClientState =
  | { readonly kind: "idle" }
  /** For a server. */
  | { readonly kind: "waiting"; readonly deadline: Timer }
  /** For the settings that its last transaction left. */
  | { readonly kind: "settling" }
  | { readonly kind: "active"; readonly server: Server }
  | { readonly kind: "failed"; readonly transaction: FailedTransaction }
  | { readonly kind: "closed" };

/** What its login settled. */
export interface ClientSession {
  readonly group: Group;
  readonly balance: Balance;
  readonly session: Session;
  readonly target: Target;
}
