// What attackers say: SCRAM exchanges by hand, of which any part can be something else than it should; the beginnings of TLS.

import { Duplex } from "node:stream";
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from "node:tls";
import { authMessage, deriveScramKeys, hmacSha256, xorKeys } from "../../src/auth/scram.ts";
import { cstring, errorFields, int32, message, RawClient, type RawMessage, startup } from "./raw-client.ts";
import type { Login } from "./sql.ts";

export const sslRequest = message("", int32(80_877_103));
export const gssRequest = message("", int32(80_877_104));

/** What a client says in a SCRAM exchange. */
export interface ScramTalk {
  readonly mechanism: string;
  readonly header: string;
  /** What `c=` says, where it is not what the header says. */
  readonly binding?: Buffer;
  /** In place of the client-final-message that would be right. */
  readonly final?: (right: string, serverFirst: string) => string;
  readonly nonce?: string;
}

/** Logs in by hand; all that the server said, up to an error, ReadyForQuery or the end. */
export async function scramTalk(
  client: RawClient,
  login: Pick<Login, "user" | "password" | "database">,
  talk: ScramTalk,
): Promise<(RawMessage | null)[]> {
  const { mechanism, header, nonce = "fyko+d2lbbFgONRv9qkxdawL" } = talk;
  const { user, password, database } = login;
  client.send(startup({ user, database }));
  const seen = [await client.next()];
  const bare = `n=,r=${nonce}`;
  const first = Buffer.from(`${header}${bare}`);
  client.send(message("p", cstring(mechanism), int32(first.length), first));
  const answer = await client.next();
  seen.push(answer);
  if (answer?.type !== "R") return [...seen, ...(await client.untilEnd())];
  const serverFirst = answer.body.toString("latin1", 4);
  const [, theirs = "", salt = "", iterations = ""] = /^r=([^,]+),s=([^,]+),i=(\d+)$/.exec(serverFirst) ?? [];
  const keys = deriveScramKeys(password, Buffer.from(salt, "base64"), Number(iterations));
  const withoutProof = `c=${(talk.binding ?? Buffer.from(header)).toString("base64")},r=${theirs}`;
  const signature = hmacSha256(keys.storedKey, authMessage(bare, serverFirst, withoutProof));
  const right = `${withoutProof},p=${xorKeys(keys.clientKey, signature).toString("base64")}`;
  client.send(message("p", Buffer.from(talk.final?.(right, serverFirst) ?? right)));
  for (;;) {
    const next = await client.next();
    seen.push(next);
    if (next === null || next.type === "E" || next.type === "Z") return seen;
  }
}

/** SQLSTATE and words of the error that ends the stream, and all bytes of the last message. */
export function lastWords(seen: readonly (RawMessage | null)[]): { error: string; bytes: string } {
  const last = seen.findLast((each) => each !== null);
  const fields = last?.type === "E" ? errorFields(last.body) : {};
  return { error: `${fields["C"]} ${fields["M"]}`, bytes: last?.body.toString("latin1") ?? "" };
}

/** Speaks TLS over a connection whose server waits for it; `raw` must not be read any more. */
export async function overTls(raw: RawClient, options: ConnectionOptions): Promise<RawClient & { socket: TLSSocket }> {
  raw.socket.removeAllListeners("data");
  const socket = connectTls({ socket: raw.socket, checkServerIdentity: () => undefined, ...options });
  await new Promise<void>((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
  return Object.assign(RawClient.over(socket), { socket });
}

/** The bytes with which a TLS client begins. */
export function clientHello(): Promise<Buffer> {
  return new Promise((resolve) => {
    const below = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        resolve(chunk);
        done();
      },
    });
    connectTls({ socket: below }).on("error", () => {});
  });
}
