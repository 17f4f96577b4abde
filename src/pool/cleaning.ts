// What a server that comes back still needs before the next client may have it: nothing, mostly; or a few requests of our own.

import { TransactionStatus } from "../protocol/constants.ts";
import type { PoolOptions } from "./pool-terms.ts";
import type { Server } from "./server.ts";
import { SettingsSet } from "./settings.ts";
import type { TestedServers } from "./tested-servers.ts";

/** How a lease ends: after a transaction, or with the client's session. */
export type ReleaseMode = "transaction" | "session";

/** Why it cannot be made clean: something is under way that nobody waits for. Null where it can. */
export function spoilt(server: Server): string | null {
  if (!server.exchange.empty || server.midMessage) return "client left with a request under way";
  return server.cancelsInFlight > 0 ? "cancel request under way" : null;
}

/** Whether it can be lent as it is. */
export function isClean(server: Server, mode: ReleaseMode, options: PoolOptions): boolean {
  return server.status === TransactionStatus.Idle && !isReset(mode, options) && !server.baseLost;
}

const isReset = (mode: ReleaseMode, { serverResetQuery, serverResetQueryAlways }: PoolOptions): boolean =>
  serverResetQuery !== "" && (mode === "session" || serverResetQueryAlways);

/** A reset query of one's own may leave something behind. */
function forget(server: Server, resetQuery: string): void {
  if (/\bdiscard\s+all\b/i.test(resetQuery)) server.settings = SettingsSet.empty;
  else if (/\breset\s+all\b/i.test(resetQuery)) {
    // RESET ALL spares the role: a value that nobody asks for lets the next client's be brought about.
    server.settings = server.settings.has("role") ? SettingsSet.of([["role", ""]]) : SettingsSet.empty;
  }
  if (/\b(?:discard|deallocate)\s+all\b/i.test(resetQuery)) server.statements.clear();
}

/** Makes a server clean: ROLLBACK, reset query, and connect_query again, as far as it needs them. `done` hears whether it is. */
export function clean(
  tested: TestedServers,
  server: Server,
  mode: ReleaseMode,
  options: PoolOptions,
  connectQuery: string | null,
  done: (ok: boolean) => void,
): void {
  const steps: { readonly sql: string; readonly after: () => void }[] = [];
  if (server.status !== TransactionStatus.Idle) steps.push({ sql: "ROLLBACK", after: () => {} });
  const reset = isReset(mode, options);
  if (reset) steps.push({ sql: options.serverResetQuery, after: () => forget(server, options.serverResetQuery) });
  if (connectQuery !== null && (reset || server.baseLost)) steps.push({ sql: connectQuery, after: () => {} });
  const next = (): void => {
    const step = steps.shift();
    if (step === undefined) {
      server.baseLost = false;
      return done(true);
    }
    tested.ask(server, step.sql, "reset", (result) => {
      if (!result.ok || server.status !== TransactionStatus.Idle) return done(false);
      step.after();
      next();
    });
  };
  next();
}
