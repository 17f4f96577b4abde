// Logged-in clients that then do nothing, in a process of their own so that their memory is not the router's. Driven over
// standard input: a number is how many there shall be from now on, the answer is that number once they are there; at the end
// of the input they and the process are gone.

import { createInterface } from "node:readline";
import { type Connection, connect, type Login, query } from "../test/support/sql.ts";

/** Logins at once: enough to be quick, few enough that none waits longer than a client would. */
const LOGINS_AT_ONCE = 16;

/** Serves standard input until its end. Each client has run one statement, as clients that idle have. */
export async function serveIdleClients(login: Login): Promise<void> {
  const clients: Connection[] = [];
  const add = async (): Promise<void> => {
    const client = await connect(login, 30_000);
    await query(client, "SELECT 1", [], 30_000);
    clients.push(client);
  };
  for await (const line of createInterface({ input: process.stdin })) {
    const wanted = Number(line);
    while (clients.length < wanted) {
      const batch = Math.min(LOGINS_AT_ONCE, wanted - clients.length);
      await Promise.all(Array.from({ length: batch }, add));
    }
    const lost = clients.filter((client) => !client.open()).length;
    process.stdout.write(lost === 0 ? `${clients.length}\n` : `lost ${lost}\n`);
  }
  for (const client of clients) client.destroy();
}
