// The file of a Unix-domain socket: a process that was killed leaves it behind, and the next one cannot bind to it. It is taken
// away only when nobody answers on it, and only when it is a socket.

import { chmodSync, lstatSync, rmSync } from "node:fs";
import { connect } from "node:net";

/** Removes what a dead process left at `path`. Leaves everything else alone: binding will fail, and say so. */
export async function removeStaleSocket(path: string): Promise<void> {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return;
  if (await refuses(path)) rmSync(path, { force: true });
}

/** Whether nobody listens there. A peer that is only busy has another error. */
function refuses(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
    socket.once("error", (error) => resolve("code" in error && error.code === "ECONNREFUSED"));
  });
}

/** Says who may connect. */
export function protectSocket(path: string, mode: number): void {
  chmodSync(path, mode);
}
