// A session between two transactions: what is left in it is asked for, and the settings that the next one needs are brought about
// where they cannot go out in front of a statement.

import type { Clock } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import { RESET_TIMEOUT_MS } from "../core/limits.ts";
import { millis } from "../core/units.ts";
import type { ServerHolder } from "../pool/holder.ts";
import type { LossCause } from "../pool/loss.ts";
import type { Server } from "../pool/server.ts";
import type { SettingsSet } from "../pool/settings.ts";
import { parameterStatus } from "../protocol/messages.ts";
import type { Transport } from "../protocol/transport.ts";
import { MessageWriter } from "../protocol/writer.ts";
import { settingsLost } from "./client-errors.ts";
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

/** Tells a client what came back into force with its server, where the server itself has nothing to report. */
export function tellUntold(session: Session, server: Server, transport: Transport): void {
  for (const [name, value] of session.untoldBy(server)) {
    const message = parameterStatus(name, value, new MessageWriter()).finish();
    transport.add(message, 0, message.length);
  }
}

/**
 * Learns what the session has, and says what went wrong, if anything: then the server is closed, otherwise it is idle. What comes
 * unasked meanwhile is for `holder`.
 */
export function settle(
  clock: Clock,
  server: Server,
  session: Session,
  holder: ServerHolder,
  done: (error: ProxyError | null) => void,
): void {
  const deadline = clock.after(millis(RESET_TIMEOUT_MS), () => server.close(untold));
  const learnt = (inForce: SettingsSet | null): void => {
    deadline.cancel();
    if (inForce === null) server.close(untold);
    else {
      server.settings = inForce.beyond(server.base);
      server.baseLost ||= !inForce.covers(server.base);
    }
    done(inForce === null ? settingsLost() : null);
  };
  // A cancel request that was meant for the statement before must not hit the question.
  server.cancels.whenLanded(() => {
    if (server.state === "closed") return learnt(null);
    server.run(
      session.questionFor(server),
      () => clock.now(),
      (result) => learnt(result.ok ? session.settle(result.row, server.base) : null),
      holder,
    );
  });
}
