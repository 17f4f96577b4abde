// Free ports on 127.0.0.1, from below the kernel's ephemeral range: a port from inside it could be taken by any outgoing
// connection before the server that it was meant for has started.

import { createServer } from "node:net";

const FIRST = 16_000;
const LAST = 31_999;
const handedOut = new Set<number>();

/** Whether one can listen on it now. */
function isFree(port: number, address = "127.0.0.1"): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: address, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** A port that is free now and that this process has not handed out before. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 1000; attempt += 1) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST + 1));
    if (handedOut.has(port) || !(await isFree(port))) continue;
    handedOut.add(port);
    return port;
  }
  throw new Error(`no free port between ${FIRST} and ${LAST}`);
}

/** `preferred` when there is one and it is free, another free port otherwise. */
export async function preferredPort(preferred: number | undefined): Promise<number> {
  if (preferred === undefined || handedOut.has(preferred) || !(await isFree(preferred))) return freePort();
  handedOut.add(preferred);
  return preferred;
}
