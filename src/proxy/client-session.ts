// What a client is from its login on: who, under which rules, sharing what with whom.

import type { SettingsSet } from "../pool/settings.ts";
import type { Balance } from "../routing/balance.ts";
import type { Target } from "../routing/target.ts";
import type { Group } from "./steering.ts";

export interface ClientIdentity {
  readonly id: number;
  readonly address: string;
  readonly user: string;
  readonly database: string;
  readonly listener: string;
}

export interface ClientOptions {
  readonly poolMode: "transaction" | "session";
  readonly queryWaitTimeoutMs: number;
  /** 0: never. */
  readonly clientIdleTimeoutMs: number;
  /** Whether a statement's first words may choose the target. */
  readonly readsIntent: boolean;
}

/** What its login settled. */
export interface ClientSession {
  readonly group: Group;
  readonly balance: Balance;
  readonly settings: SettingsSet;
  readonly target: Target;
}

/** Who keeps the list of clients. */
export interface ClientOwner<Client> {
  clientClosed(client: Client, reason: string): void;
}
