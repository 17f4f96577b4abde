// TCP keepalive: how a peer that vanished without a word is found out (tcp(7), socket.setKeepAlive of node:net).

import { Socket } from "node:net";

/** When an idle connection is probed. */
export interface KeepAlive {
  /** Idle time before the first probe. Whole seconds, in ms. */
  readonly idleMs: number;
  /** Between two probes. Whole seconds, in ms; null: as Node.js has it, 1 s. */
  readonly intervalMs: number | null;
  /** Probes without an answer after which the connection is dropped; null: as Node.js has it, 10. */
  readonly count: number | null;
}

export const KEEPALIVE_IDLE_MS_DEFAULT = 30_000;

/** Whether this Node.js can set the interval and the count. */
export const setsProbes = Socket.prototype.setKeepAlive.length >= 4;

/** Switches keepalive on, or off for null. A Unix-domain socket needs none, and takes no notice. */
export function keepAlive(socket: Pick<Socket, "setKeepAlive">, options: KeepAlive | null): void {
  if (options === null) socket.setKeepAlive(false);
  else socket.setKeepAlive(true, options.idleMs, options.intervalMs ?? undefined, options.count ?? undefined);
}
