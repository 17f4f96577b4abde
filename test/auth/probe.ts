// A login that fails, as cheap as it can be for the one who tries: what the server sends is measured message by message, and the time
// until it refuses. Nothing is derived from the password, so that the server's own work is what is seen.

import { randomBytes } from "node:crypto";
import { cstring, errorFields, int32, message, RawClient, startup } from "../support/raw-client.ts";

/** How a login went. */
export interface Refusal {
  readonly sqlstate: string;
  readonly message: string;
  /** Type, request code and length of each message of the server, and SCRAM's iterations: the same for all whom nobody shall tell apart. */
  readonly exchange: string;
  readonly ms: number;
}

const MECHANISM = "SCRAM-SHA-256";
const REQUEST = { clearText: 3, md5: 5, sasl: 10, saslContinue: 11 } as const;

/** Tries a password that is wrong for everybody, and follows the exchange to its end. Rejects when it lets us in. */
export async function refused(port: number, user: string, database: string, from?: string): Promise<Refusal> {
  const client = await RawClient.open(port, "127.0.0.1", from);
  try {
    const begun = performance.now();
    client.send(startup({ user, database }));
    const seen: string[] = [];
    for (;;) {
      const next = await client.next();
      if (next === null) throw new Error(`the connection ended behind ${seen.join(" ")}`);
      const { type, body } = next;
      if (type === "E") {
        const ms = performance.now() - begun;
        const { C = "", M = "" } = errorFields(body);
        return {
          sqlstate: C,
          message: M.replaceAll(user, "?"),
          exchange: [...seen, lengthOf(body, user)].join(" "),
          ms,
        };
      }
      const code = body.readInt32BE(0);
      const iterations = code === REQUEST.saslContinue ? (/,i=\d+/.exec(body.toString("latin1"))?.[0] ?? "") : "";
      seen.push(`${type}${code}:${body.length}${iterations}`);
      const answer = answerTo(code, body.subarray(4));
      if (type !== "R" || answer === null) throw new Error(`it is let in: ${seen.join(" ")}`);
      client.send(answer);
    }
  } finally {
    client.destroy();
  }
}

/** An error's length as it would be for a user without a name; where in the source it was raised is PostgreSQL's own affair. */
function lengthOf(body: Buffer, user: string): string {
  const { F = "", L = "", R = "", ...said } = errorFields(body);
  const length = body.length - Object.values(said).join("").split(user).length * user.length + user.length;
  return `E:${length - F.length - L.length - R.length}`;
}

function answerTo(code: number, payload: Buffer): Buffer | null {
  switch (code) {
    case REQUEST.clearText:
      return message("p", cstring("certainly wrong"));
    case REQUEST.md5:
      return message("p", cstring(`md5${randomBytes(16).toString("hex")}`));
    case REQUEST.sasl: {
      const first = Buffer.from(`n,,n=,r=${randomBytes(18).toString("base64")}`);
      return message("p", cstring(MECHANISM), int32(first.length), first);
    }
    case REQUEST.saslContinue: {
      const nonce = /^r=([^,]+)/.exec(payload.toString("latin1"))?.[1] ?? "";
      return message("p", Buffer.from(`c=biws,r=${nonce},p=${randomBytes(32).toString("base64")}`));
    }
    default:
      return null;
  }
}
