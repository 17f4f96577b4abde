// Takes one cancel request to a server, on a connection of its own, as the protocol asks
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS). The postmaster closes that
// connection when it has sent the signal: from then on nothing can be hit by it that is not at work already.

import { connect } from "node:net";
import { netAddress } from "../core/addresses.ts";
import type { Clock } from "../core/clock.ts";
import { CANCEL_TIMEOUT_MS } from "../core/limits.ts";
import { millis } from "../core/units.ts";
import type { Server } from "../pool/server.ts";
import { cancelRequest } from "../protocol/startup.ts";

export interface Delivery {
  /** Longest time until the request is sent; 0: no limit. */
  readonly waitMs: number;
  /** Asked when it could be sent: whether there is still something to cancel. */
  readonly wanted: () => boolean;
  /** The server has taken it, or it was dropped. */
  readonly done: (taken: boolean) => void;
}

/** Delivers a cancel request to `server`, which is lent to nobody else meanwhile. */
export function deliverCancel(clock: Clock, server: Server, { waitMs, wanted, done }: Delivery): void {
  const { host, port } = server.endpoint;
  const socket = connect(netAddress(host, port));
  let timer = waitMs > 0 ? clock.after(millis(waitMs), () => socket.destroy()) : null;
  let sent = false;
  let certain = true;
  server.cancels.sent();
  socket.on("connect", () => {
    timer?.cancel();
    if (!wanted()) return socket.destroy();
    sent = true;
    socket.write(cancelRequest(server.pid, server.key));
    timer = clock.after(millis(CANCEL_TIMEOUT_MS), () => {
      certain = false;
      socket.destroy();
    });
  });
  socket.on("error", () => {
    certain = !sent;
  });
  socket.on("close", () => {
    timer?.cancel();
    server.cancels.landed(certain);
    done(sent);
  });
  socket.resume();
}
