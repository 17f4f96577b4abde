// Clients at once, per database and per user (max_db_client_connections, max_user_client_connections). A client takes its seat once
// it has proved who it is, as in PostgreSQL, and keeps it until its connection ends.

import { ProxyError } from "../core/errors.ts";

/** How many there may be; 0: any number. */
export interface SeatLimits {
  databaseClients(name: string): number;
  userClients(name: string): number;
}

export class Seats {
  readonly #databases = new Map<string, number>();
  readonly #users = new Map<string, number>();
  #limits: SeatLimits;

  constructor(limits: SeatLimits) {
    this.#limits = limits;
  }

  /** Takes new limits; who is seated stays. */
  reconfigure(limits: SeatLimits): void {
    this.#limits = limits;
  }

  /** Takes a seat. The error for the client where there is none. */
  take(database: string, user: string): ProxyError | null {
    const perUser = this.#limits.userClients(user);
    if (isFull(this.#users, user, perUser)) {
      return tooMany(`too many connections for role "${user}"`, "max_user_client_connections", perUser);
    }
    const perDatabase = this.#limits.databaseClients(database);
    if (isFull(this.#databases, database, perDatabase)) {
      return tooMany(`too many connections for database "${database}"`, "max_db_client_connections", perDatabase);
    }
    add(this.#databases, database, 1);
    add(this.#users, user, 1);
    return null;
  }

  /** Gives one back that was taken. */
  leave(database: string, user: string): void {
    add(this.#databases, database, -1);
    add(this.#users, user, -1);
  }
}

const isFull = (taken: ReadonlyMap<string, number>, name: string, max: number): boolean =>
  max > 0 && (taken.get(name) ?? 0) >= max;

const tooMany = (message: string, setting: string, max: number): ProxyError =>
  new ProxyError("too_many_clients", message, { detail: `${setting} is ${max}.` });

function add(taken: Map<string, number>, name: string, by: number): void {
  const sum = (taken.get(name) ?? 0) + by;
  if (sum === 0) taken.delete(name);
  else taken.set(name, sum);
}
