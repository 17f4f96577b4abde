// Free ports on 127.0.0.1, from below the kernel's ephemeral range: a port from inside it could be taken by any outgoing
// connection before the server that it was meant for has started. Whoever is given one has it to himself until his process
// ends, whether or not a server listens there at the moment: several test processes run at a time, and servers of a test
// are stopped and started again.

import { createServer } from "node:net";

const FIRST = 16_000;
const LAST = 31_999;

/** Whether one can listen there now; one that stays is closed by the kernel when this process ends. */
function listens(where: { readonly port: number; readonly host: string } | { readonly path: string }, stay: boolean) {
  return new Promise<boolean>((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ ...where, exclusive: true }, () => {
      if (!stay) return server.close(() => resolve(true));
      server.unref();
      resolve(true);
    });
  });
}

/**
 * Takes the port for this process, if it is free and no other process of ours has taken it: by a name among the abstract
 * sockets of unix(7), which exists as long as its process does and leaves no file behind.
 */
async function take(port: number): Promise<boolean> {
  if (!(await listens({ path: `\0pgsteer-test-port-${port}` }, true))) return false;
  return listens({ port, host: "127.0.0.1" }, false);
}

/** A port that is free now and that nobody else is given while this process lives. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 1000; attempt += 1) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST + 1));
    if (await take(port)) return port;
  }
  throw new Error(`no free port between ${FIRST} and ${LAST}`);
}

/** `preferred` when there is one and it is free, another free port otherwise. */
export async function preferredPort(preferred: number | undefined): Promise<number> {
  return preferred !== undefined && (await take(preferred)) ? preferred : freePort();
}
