// A connection of our own to one member, kept open between questions: asks PostgreSQL itself, not what others say of it.

import type { Clock } from "../core/clock.ts";
import { millis } from "../core/units.ts";
import type { OwnResult } from "./own-answer.ts";
import { Server } from "./server.ts";
import { type LoginFailure, type LoginOptions, ServerLogin } from "./server-login.ts";

/** The first row of an answer, or why there was none. */
export type ProbeAnswer =
  | { readonly ok: true; readonly row: readonly (string | null)[] }
  | { readonly ok: false; readonly reason: string };

export class ProbeConnection {
  readonly #clock: Clock;
  #options: Omit<LoginOptions, "timeoutMs">;
  #server: Server | null = null;
  #login: ServerLogin | null = null;

  constructor(clock: Clock, options: Omit<LoginOptions, "timeoutMs">) {
    this.#clock = clock;
    this.#options = options;
  }

  /** How it logs in the next time; a connection that works stays. */
  reconfigure(options: Omit<LoginOptions, "timeoutMs">): void {
    this.#options = options;
  }

  /** Runs `sql`; logs in first where needed. Never rejects. One call at a time. A question that takes too long costs the connection. */
  ask(sql: string, timeoutMs: number): Promise<ProbeAnswer> {
    return new Promise((resolve) => {
      let over = false;
      const finish = (answer: ProbeAnswer) => {
        if (over) return;
        over = true;
        timer.cancel();
        resolve(answer);
      };
      const timer = this.#clock.after(millis(timeoutMs), () => {
        finish({ ok: false, reason: "timeout expired" });
        this.close();
      });
      if (this.#server === null) this.#connect(sql, timeoutMs, finish);
      else this.#run(this.#server, sql, finish);
    });
  }

  #connect(sql: string, timeoutMs: number, finish: (answer: ProbeAnswer) => void): void {
    this.#login = new ServerLogin(
      this.#clock,
      { ...this.#options, timeoutMs },
      {
        loggedIn: (transport, facts) => {
          this.#login = null;
          this.#server = new Server(transport, facts, { serverClosed: (server) => this.#closed(server) });
          this.#run(this.#server, sql, finish);
        },
        failed: (failure: LoginFailure) => {
          this.#login = null;
          finish({ ok: false, reason: failure.reason });
        },
      },
    );
  }

  #run(server: Server, sql: string, finish: (answer: ProbeAnswer) => void): void {
    server.run(
      sql,
      () => this.#clock.now(),
      (result: OwnResult) => {
        if (!result.ok) finish({ ok: false, reason: result.fields.message });
        else finish(result.row === null ? { ok: false, reason: "no row" } : { ok: true, row: result.row });
      },
    );
  }

  #closed(server: Server): void {
    if (this.#server === server) this.#server = null;
  }

  /** Closes the connection; the next question opens a new one. */
  close(): void {
    this.#login?.abort();
    this.#login = null;
    this.#server?.close({ kind: "ours", reason: "probe closed" });
    this.#server = null;
  }
}
