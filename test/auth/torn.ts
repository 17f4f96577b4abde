// TLS that is torn: the ClientHello cut, the handshake left, a record cut, no goodbye in the middle of a query. Whoever does that is gone,
// and so is all that was made for it; the servers of the pool are as before.

import { clientHello, overTls, scramTalk, sslRequest } from "../support/hostile-client.ts";
import { frontend, type RawClient } from "../support/raw-client.ts";
import type { Victim } from "./victim.ts";

const CUTS = 50;
/** Each with an end or a reset. */
const EACH = 10;

/** Ends it one way or the other. */
function leave({ socket }: RawClient, index: number): void {
  // Whatever still comes is of no interest.
  socket.on("error", () => {}).resume();
  if (index % 2 === 0) socket.end();
  else socket.resetAndDestroy();
}

/** The beginning, cut at many places; behind SSLRequest, and without. */
export async function cutHellos(victim: Victim): Promise<string> {
  const hello = await clientHello();
  let cut = 0;
  for (const direct of [false, true]) {
    for (let index = 0; index < CUTS; index += 1) {
      const client = await victim.open();
      if (!direct) {
        client.send(sslRequest);
        await client.bytes(1);
      }
      client.socket.write(hello.subarray(0, 1 + Math.floor((index * (hello.length - 1)) / CUTS)));
      leave(client, index);
      cut += 1;
    }
  }
  return `${cut} of a hello of ${hello.length} bytes`;
}

/** Left when the server has said its part. */
export async function leftHandshakes(victim: Victim): Promise<string> {
  const hello = await clientHello();
  for (let index = 0; index < 2 * EACH; index += 1) {
    const client = await victim.open();
    client.send(sslRequest);
    await client.bytes(1);
    client.socket.write(hello);
    victim.book.equal("the server's part of the handshake", (await client.bytes(1))[0], 0x16);
    leave(client, index);
  }
  return `${2 * EACH} left behind the ServerHello`;
}

/** Sessions that end in the middle of something. */
export async function cutSessions(victim: Victim): Promise<string> {
  const { login, ca } = victim;
  const session = async (): Promise<{ raw: RawClient; client: RawClient }> => {
    const raw = await victim.open();
    raw.send(sslRequest);
    await raw.bytes(1);
    const client = await overTls(raw, { ca });
    await scramTalk(client, login, { mechanism: "SCRAM-SHA-256", header: "n,," });
    return { raw, client };
  };
  for (let index = 0; index < EACH; index += 1) {
    // A record of 200 bytes of which three come, inside a transaction.
    const half = await session();
    await half.client.simple("BEGIN");
    half.raw.socket.write(Buffer.from([0x17, 0x03, 0x03, 0x00, 0xc8, 1, 2, 3]));
    leave(half.raw, index);
    // Gone without close_notify, with a statement and with a result under way.
    for (const statement of ["SELECT pg_sleep(0.3)", "SELECT repeat('x', 1000) FROM generate_series(1, 5000)"]) {
      const busy = await session();
      busy.client.send(frontend.query(`BEGIN; ${statement}`));
      if (statement.includes("repeat")) await busy.client.next();
      busy.client.socket.removeAllListeners("data").resume();
      leave(busy.raw, index);
    }
    // A record that nobody who has the keys can have written.
    const forged = await session();
    forged.raw.socket.write(Buffer.concat([Buffer.from([0x17, 0x03, 0x03, 0x00, 0x20]), Buffer.alloc(32, 7)]));
    victim.book.equal("behind a forged record", await forged.client.next(), null);
    forged.raw.destroy();
  }
  return `${4 * EACH} in the middle of a record, a statement, a result`;
}
