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
import { parameterStatus } from "../protocol/messages.ts";
import type { Transport } from "../protocol/transport.ts";
import { MessageWriter } from "../protocol/writer.ts";
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
    wanted.sqlFrom(server.settings) ?? "",
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

/** Tells a client what came back into force with its server, where the server itself has nothing to report. */
export function tellUntold(session: Session, server: Server, transport: Transport): void {
  for (const [name, value] of session.untoldBy(server)) {
    const message = parameterStatus(name, value, new MessageWriter()).finish();
    transport.add(message, 0, message.length);
  }
}

/** Learns the settings, gives the server back, and says whether that went well. A server that does not tell is closed. */
export function settle(clock: Clock, server: Server, pool: Pool, session: Session, done: (ok: boolean) => void): void {
  const deadline = clock.after(millis(RESET_TIMEOUT_MS), () => server.close(untold));
  server.run(
    SETTINGS_QUESTION,
    () => clock.now(),
    (result) => {
      deadline.cancel();
      const inForce = result.ok ? session.settle(result.row?.[0]) : null;
      if (inForce === null) server.close(untold);
      else server.settings = inForce;
      pool.release(server, "transaction");
      done(inForce !== null);
    },
  );
}
