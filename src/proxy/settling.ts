// Settings between two clients of a server: what the last one left is asked for, what the next one needs is brought about, where
// it cannot go out in front of a statement.

import type { Clock } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import { RESET_TIMEOUT_MS } from "../core/limits.ts";
import { millis } from "../core/units.ts";
import type { LossCause } from "../pool/loss.ts";
import type { Pool } from "../pool/pool.ts";
import type { Server } from "../pool/server.ts";
import { SETTINGS_QUESTION } from "../pool/settings.ts";
import type { Session } from "./session.ts";

/** Brings a lent server's settings to the session's, and says what went wrong, if anything. Then the server is closed. */
export function prepare(
  clock: Clock,
  server: Server,
  session: Session,
  done: (error: ProxyError | null) => void,
): void {
  const wanted = session.settings;
  const deadline = clock.after(millis(RESET_TIMEOUT_MS), () => server.close(unprepared));
  server.run(
    wanted.sqlFrom(server.settings, server.base) ?? "",
    () => clock.now(),
    (result) => {
      deadline.cancel();
      if (result.ok) {
        server.settings = wanted;
        return done(null);
      }
      server.close(unprepared);
      const { message, sqlstate } = result.fields;
      done(new ProxyError("server_error", `could not restore session settings: ${message}`, { sqlstate }));
    },
  );
}

const unprepared: LossCause = { kind: "ours", reason: "it did not take the session's settings" };
const untold: LossCause = { kind: "ours", reason: "it did not tell its settings" };

/** Learns the settings, gives the server back, and says whether that went well. A server that does not tell is closed. */
export function settle(clock: Clock, server: Server, pool: Pool, session: Session, done: (ok: boolean) => void): void {
  const deadline = clock.after(millis(RESET_TIMEOUT_MS), () => server.close(untold));
  server.run(
    SETTINGS_QUESTION,
    () => clock.now(),
    (result) => {
      deadline.cancel();
      const inForce = result.ok ? session.settle(result.row?.[0], server.base) : null;
      if (inForce === null) server.close(untold);
      else {
        server.settings = inForce.beyond(server.base);
        server.baseLost ||= !inForce.covers(server.base);
      }
      pool.release(server, "transaction");
      done(inForce !== null);
    },
  );
}
