// What a server that comes back still needs before the next client may have it: nothing, mostly; or a few requests of our own.

import { TransactionStatus } from "../protocol/constants.ts";
import type { PoolOptions } from "./pool-terms.ts";
import type { Server } from "./server.ts";
import { SettingsSet } from "./settings.ts";
import { ROLE_QUESTION } from "./sqlstates.ts";
import type { TestedServers } from "./tested-servers.ts";

/** How a lease ends: after a transaction, or with the client's session. */
export type ReleaseMode = "transaction" | "session";

/** Why it cannot be made clean: something is under way that nobody waits for. Null where it can. */
export function spoilt(server: Server): string | null {
  if (!server.exchange.empty || server.midMessage) return "client left with a request under way";
  const hit = server.cancels.lost || (!server.cancels.none && server.status !== TransactionStatus.Idle);
  return hit ? "cancel request under way" : null;
}

/** Whether it can be lent as it is. */
export function isClean(server: Server, mode: ReleaseMode, options: PoolOptions): boolean {
  return server.status === TransactionStatus.Idle && !isReset(mode, options) && !server.baseLost && !server.doubtful;
}

const isReset = (mode: ReleaseMode, { serverResetQuery, serverResetQueryAlways }: PoolOptions): boolean =>
  serverResetQuery !== "" && (mode === "session" || serverResetQueryAlways);

/** A reset query of one's own may leave something behind. */
function forget(server: Server, resetQuery: string): void {
  if (/\bdiscard\s+all\b/i.test(resetQuery)) server.settings = SettingsSet.empty;
  else if (/\breset\s+all\b/i.test(resetQuery)) {
    // RESET ALL spares the role: a value that nobody asks for lets the next client's be brought about.
    server.settings = server.settings.hasRole ? SettingsSet.of([["role", ""]]) : SettingsSet.empty;
  }
  if (/\b(?:discard|deallocate)\s+all\b/i.test(resetQuery)) server.statements.clear();
}

/** What came of it. Where its role was dropped, so was that of all others of its pool. */
export type Cleaned = "clean" | "failed" | "role dropped";

/**
 * Makes a server clean: ROLLBACK, a look whether its role is still there, reset query, and connect_query again, as far as it needs
 * them.
 */
export function clean(
  tested: TestedServers,
  server: Server,
  mode: ReleaseMode,
  options: PoolOptions,
  connectQuery: string | null,
  done: (cleaned: Cleaned) => void,
): void {
  const steps: { readonly sql: string; readonly after: () => void; readonly failed?: Cleaned }[] = [];
  if (server.status !== TransactionStatus.Idle) steps.push({ sql: "ROLLBACK", after: () => {} });
  const certain = (): void => {
    server.doubtful = false;
  };
  if (server.doubtful) steps.push({ sql: ROLE_QUESTION, after: certain, failed: "role dropped" });
  const reset = isReset(mode, options);
  if (reset) steps.push({ sql: options.serverResetQuery, after: () => forget(server, options.serverResetQuery) });
  if (connectQuery !== null && (reset || server.baseLost)) steps.push({ sql: connectQuery, after: () => {} });
  const next = (): void => {
    const step = steps.shift();
    if (step === undefined) {
      server.baseLost = false;
      return done("clean");
    }
    tested.ask(server, step.sql, "reset", (result) => {
      if (!result.ok || server.status !== TransactionStatus.Idle) return done(step.failed ?? "failed");
      step.after();
      next();
    });
  };
  next();
}
