// How a client leaves: what it has said of it, whether it is gone already, and what becomes of what it left running.

import type { Clock } from "../core/clock.ts";
import { RESET_TIMEOUT_MS } from "../core/limits.ts";
import { millis } from "../core/units.ts";
import type { Server } from "../pool/server.ts";
import { parameterStatus } from "../protocol/messages.ts";
import type { Transport } from "../protocol/transport.ts";
import { MessageWriter } from "../protocol/writer.ts";
import { deliverCancel } from "./cancel-delivery.ts";
import type { Session } from "./session.ts";

export class Departure {
  /** Its sending side is closed, or it has said goodbye. */
  ended = false;
  /** It has said that it leaves: what it asked for before that is to be carried out. */
  saidGoodbye = false;

  /** What a client that is gone left running has this long to end, ms. */
  get graceMs(): number {
    return this.saidGoodbye ? Number.POSITIVE_INFINITY : RESET_TIMEOUT_MS;
  }

  /**
   * Asks a client that sends nothing more whether it has gone, or is only done with sending and waits for its answer: repeats a
   * parameter that it knows. The one that waits ignores that; the system of the one that has gone resets the connection, which the
   * next call, or the answer itself, runs into.
   */
  knock(transport: Transport, session: Session): void {
    if (!this.ended || this.saidGoodbye || transport.congested) return;
    const known = session.told("client_encoding");
    if (known === undefined) return;
    transport.say(parameterStatus("client_encoding", known, new MessageWriter()).finish());
  }
}

/**
 * Gives back the server of a client that leaves. What is under way there goes on, as PostgreSQL lets it, but not for ever: it holds
 * locks. After `graceMs` it is canceled; Infinity lets it end by itself. Settings that nobody has learnt yet stay for nobody.
 */
export function abandon(clock: Clock, server: Server, session: Session, giveBack: () => void, graceMs: number): void {
  const busy = !server.exchange.empty && server.state === "active";
  if (session.unsettled) server.close({ kind: "ours", reason: "its client left before it told its settings" });
  giveBack();
  if (!busy || !Number.isFinite(graceMs)) return;
  const stop = (): void =>
    deliverCancel(clock, server, { waitMs: RESET_TIMEOUT_MS, wanted: () => true, done: () => {} });
  if (graceMs === 0) stop();
  else clock.after(millis(graceMs), stop);
}
