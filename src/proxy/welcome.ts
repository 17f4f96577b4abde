// What a client is told at the end of its login: the parameters of a server under this client's settings. The first client with a
// given set of settings asks a server, which also proves that the database exists and that PostgreSQL takes the settings; those
// that follow are answered from memory. A client whose server is its own for the whole session gets it here, and is told what that
// one says.

import type { Clock, Timer } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import { RESEND_MAX, WELCOME_PROFILES_MAX } from "../core/limits.ts";
import { type Millis, millis } from "../core/units.ts";
import type { OwnResult } from "../pool/own-answer.ts";
import type { Pool } from "../pool/pool.ts";
import type { Server } from "../pool/server.ts";
import type { SettingsSet } from "../pool/settings.ts";
import type { Balance } from "../routing/balance.ts";
import type { Target } from "../routing/target.ts";
import type { ClientSession, Lease } from "./client-session.ts";
import type { Greeting, Group } from "./group.ts";
import type { Seeker, Steering } from "./steering.ts";

export interface WelcomeSink {
  /** `lease`: the server of a session of its own, lent to nobody yet. */
  welcome(greeting: Greeting, lease: Lease | null): void;
  refused(error: ProxyError): void;
}

export class Welcome implements Seeker {
  readonly target: Target;
  readonly balance: Balance;
  readonly group: Group;
  readonly waitingSince: Millis;
  pool: Pool | null = null;
  readonly #clock: Clock;
  readonly #steering: Steering;
  readonly #settings: SettingsSet;
  readonly #ownsServer: boolean;
  readonly #sink: WelcomeSink;
  readonly #deadline: Timer;
  #attempts = 0;
  #over = false;

  constructor(
    clock: Clock,
    steering: Steering,
    session: Omit<ClientSession, "lease">,
    waitMs: number,
    sink: WelcomeSink,
  ) {
    this.#clock = clock;
    this.#steering = steering;
    this.#settings = session.session.settings;
    this.#ownsServer = session.session.ownsServer;
    this.#sink = sink;
    this.target = session.target;
    this.balance = session.balance;
    this.group = session.group;
    this.waitingSince = clock.now();
    this.#deadline = clock.after(millis(waitMs), () => {
      const detail = steering.whyWaiting(this);
      steering.leave(this);
      this.refused(new ProxyError("query_wait_timeout", "query_wait_timeout", { detail }));
    });
  }

  /** Answers now where the answer is known, otherwise asks a server. */
  begin(): void {
    const { welcomes } = this.group;
    const known = this.#ownsServer ? undefined : welcomes.get(this.#key);
    if (known === undefined) return this.#seek();
    welcomes.delete(this.#key);
    welcomes.set(this.#key, known);
    this.#finish(known, null);
  }

  /** The client is gone. */
  abandon(): void {
    if (this.#over) return;
    this.#over = true;
    this.#deadline.cancel();
    this.#steering.leave(this);
  }

  get #key(): string {
    return `${this.target} ${this.#settings.key}`;
  }

  #seek(): void {
    const server = this.#steering.seek(this);
    if (server !== null) this.granted(server);
  }

  granted(server: Server): void {
    this.#attempts += 1;
    this.#steering.witness.granted(this);
    // Others' prepared statements have no place in a session that has its server to itself.
    const drops = this.#ownsServer && server.statements.size > 0 ? "DEALLOCATE ALL;" : "";
    const sql = drops + (this.#settings.sqlFrom(server.settings, server.base) ?? "");
    if (sql === "") {
      this.#learnt(server, { ok: true, row: null, notices: [] });
      return;
    }
    server.run(
      sql,
      () => this.#clock.now(),
      (result) => this.#learnt(server, result),
    );
  }

  refused(error: ProxyError): void {
    if (this.#over) return;
    this.#over = true;
    this.#deadline.cancel();
    this.#steering.witness.gaveUp(this);
    this.#sink.refused(error);
  }

  evicted(): void {
    this.pool = null;
    this.#seek();
  }

  #learnt(server: Server, result: OwnResult): void {
    const parameters = new Map(server.parameters);
    const lost = server.state === "closed";
    const pool = this.pool;
    this.pool = null;
    if (result.ok) {
      server.settings = this.#settings;
      if (this.#ownsServer) server.statements.clear();
    } else {
      // Some of a failed set may be in force: this server is of no further use.
      server.close({ kind: "ours", reason: "settings refused" });
    }
    const keeps = this.#ownsServer && result.ok && !this.#over;
    if (!keeps) pool?.release(server, "transaction");
    if (this.#over) return;
    if (keeps && pool !== null) {
      this.#finish({ parameters: this.#toldOf(parameters), notices: result.notices }, { pool, server });
    } else if (result.ok) this.#remember(parameters, result.notices);
    else if (lost && this.#attempts <= RESEND_MAX) this.#seek();
    else {
      const { message, sqlstate } = result.fields;
      this.refused(new ProxyError("invalid_parameter", message, { sqlstate }));
    }
  }

  #remember(parameters: ReadonlyMap<string, string>, notices: readonly Buffer[]): void {
    const { welcomes } = this.group;
    for (const oldest of welcomes.keys()) {
      if (welcomes.size < WELCOME_PROFILES_MAX) break;
      welcomes.delete(oldest);
    }
    const greeting = { parameters: this.#toldOf(parameters), notices };
    welcomes.set(this.#key, greeting);
    this.#finish(greeting, null);
  }

  #toldOf(parameters: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
    const told = new Map(parameters);
    // The route decides these, whatever server happened to answer: libpq's target_session_attrs reads them.
    if (told.has("in_hot_standby")) told.set("in_hot_standby", this.target === "primary" ? "off" : "on");
    return told;
  }

  #finish(greeting: Greeting, lease: Lease | null): void {
    if (this.#over) return;
    this.#over = true;
    this.#deadline.cancel();
    this.#sink.welcome(greeting, lease);
  }
}
