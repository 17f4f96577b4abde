// Attacks by what is said, each beside PostgreSQL: clear text around the beginning of encryption, channel binding talked away, SCRAM and
// md5 messages of other logins. Passed when both refuse with the same SQLSTATE, and nobody was let in.

import { createHash } from "node:crypto";
import type { TLSSocket } from "node:tls";
import { endPointBinding } from "../../src/auth/channel-binding.ts";
import { gssRequest, lastWords, overTls, type ScramTalk, scramTalk, sslRequest } from "../support/hostile-client.ts";
import { cstring, frontend, message, RawClient, type RawMessage, startup } from "../support/raw-client.ts";
import type { Login } from "../support/sql.ts";
import type { Book } from "./book.ts";

/** Who attacks, and as whom. */
export interface Ground {
  /** Of a user with a SCRAM secret, of one with an md5 hash, and of one who is trusted. */
  readonly scram: Login;
  readonly md5: Login;
  readonly trusted: Login;
  readonly ca: string;
  /** The address that it is done from: failures of one are answered later and later. */
  readonly from: string;
}

type Seen = readonly (RawMessage | null)[];

interface Forgery {
  readonly name: string;
  /** What it gets from the server at this port: all messages. */
  readonly attempt: (ground: Ground, port: number) => Promise<Seen>;
  /** The SQLSTATE of both, `in` where both let it in, as they should. */
  readonly expected: string;
  /** Where PostgreSQL may do otherwise: it may be built to go on with GSSAPI, and then hears nothing more that is in clear. */
  readonly truth?: readonly string[];
}

/** Leaves a trace where it is run. */
const INJECTED = 471_100;
export const TRACE = `SELECT count(*)::int AS count FROM pg_largeobject_metadata WHERE oid = ${INJECTED}`;

const header = "p=tls-server-end-point,,";
const plus = "SCRAM-SHA-256-PLUS";
const plain = "SCRAM-SHA-256";
const honest: ScramTalk = { mechanism: plain, header: "n,," };
const nonceOf = (text: string): string => /r=([^,]+)/.exec(text)?.[1] ?? "";

async function withClient<T>({ from }: Ground, port: number, act: (client: RawClient) => Promise<T>): Promise<T> {
  const client = await RawClient.open(port, "127.0.0.1", from);
  try {
    return await act(client);
  } finally {
    client.destroy();
  }
}

async function secured<T>(
  ground: Ground,
  port: number,
  act: (client: RawClient & { socket: TLSSocket }) => Promise<T>,
): Promise<T> {
  return withClient(ground, port, async (raw) => {
    raw.send(sslRequest);
    await raw.bytes(1);
    return act(await overTls(raw, { ca: ground.ca }));
  });
}

/** In clear, behind `request`: a whole startup packet of somebody who is trusted, and a statement. */
async function injected(ground: Ground, port: number, request: Buffer, isTls: boolean): Promise<Seen> {
  const { user, database } = ground.trusted;
  return withClient(ground, port, async (raw) => {
    raw.send(request, startup({ user, database }), frontend.query(`SELECT lo_create(${INJECTED})`));
    const answer = (await raw.bytes(1)).toString("latin1");
    if (answer === "E") return restOfError(raw);
    // PostgreSQL waits for a handshake then, and has not read what came in clear.
    if (answer === "G") raw.socket.end();
    if (!isTls || answer !== "S") return raw.untilEnd();
    // The client that was imposed upon goes on with its handshake.
    const client = await overTls(raw, { ca: ground.ca }).catch(() => null);
    return client === null ? [null] : client.untilEnd();
  });
}

/** An error whose first byte has been read. */
async function restOfError(raw: RawClient): Promise<Seen> {
  const length = (await raw.bytes(4)).readInt32BE(0);
  return [{ type: "E", body: await raw.bytes(length - 4) }, ...(await raw.untilEnd())];
}

const says = (request: Buffer) => (ground: Ground, port: number) =>
  secured(ground, port, (client) => {
    client.send(request);
    return client.untilEnd();
  });

const bound = (talkOf: (binding: Buffer) => ScramTalk) => (ground: Ground, port: number) =>
  secured(ground, port, (client) => {
    const certificate = client.socket.getPeerX509Certificate()?.raw ?? Buffer.alloc(0);
    const binding = Buffer.concat([Buffer.from(header), endPointBinding(certificate) ?? Buffer.alloc(0)]);
    return scramTalk(client, ground.scram, talkOf(binding));
  });

const inClear = (final: ScramTalk["final"]) => (ground: Ground, port: number) =>
  withClient(ground, port, (client) =>
    scramTalk(client, ground.scram, { ...honest, ...(final === undefined ? {} : { final }) }),
  );

/** A login that succeeds, and all that the client sent in it. */
async function recorded(ground: Ground, port: number): Promise<string> {
  let record = "";
  const final = (right: string): string => {
    record = right;
    return right;
  };
  const seen = await withClient(ground, port, (client) => scramTalk(client, ground.scram, { ...honest, final }));
  if (seen.at(-1)?.type !== "Z") throw new Error(`the honest login was refused: ${lastWords(seen).error}`);
  return record;
}

const replayed = (change: (record: string, serverFirst: string) => string) => async (ground: Ground, port: number) => {
  const record = await recorded(ground, port);
  return inClear((_right, serverFirst) => change(record, serverFirst))(ground, port);
};

/** Its own proof, upon another connection's nonce of the same moment. */
async function crossed(ground: Ground, port: number): Promise<Seen> {
  let other = "";
  const steal = (right: string): string => {
    other = nonceOf(right);
    return right;
  };
  await inClear(steal)(ground, port);
  return inClear((right) => right.replace(nonceOf(right), other))(ground, port);
}

/** The server's signature of a login that succeeded, as a proof. */
async function reflected(ground: Ground, port: number): Promise<Seen> {
  const seen = await inClear(undefined)(ground, port);
  const final = seen.find((each) => each?.type === "R" && each.body.readInt32BE(0) === 12)?.body.toString("latin1", 4);
  const signature = /^v=(.+)$/.exec(final ?? "")?.[1] ?? "";
  return inClear((right) => right.replace(/p=.*/, `p=${signature}`))(ground, port);
}

const hash = (text: string): string => createHash("md5").update(text, "latin1").digest("hex");

/** md5: the answer to one salt, sent again upon the next. */
async function md5Again(ground: Ground, port: number, again: boolean): Promise<Seen> {
  const { user, password, database } = ground.md5;
  const inner = createHash("md5").update(`${password}${user}`).digest("hex");
  let answer: Buffer | null = null;
  for (let login = 0; ; login += 1) {
    const seen = await withClient(ground, port, async (client) => {
      client.send(startup({ user, database }));
      const request = await client.next();
      const salt = request?.body.toString("latin1", 4) ?? "";
      const right = message("p", cstring(`md5${hash(`${inner}${salt}`)}`));
      answer ??= right;
      client.send(again ? answer : right);
      for (const messages: (RawMessage | null)[] = [request]; ; ) {
        const next = await client.next();
        messages.push(next);
        if (next === null || next.type === "E" || next.type === "Z") return messages;
      }
    });
    if (login > 0) return seen;
    if (seen.at(-1)?.type !== "Z") throw new Error(`the honest login was refused: ${lastWords(seen).error}`);
  }
}

const forgeries: readonly Forgery[] = [
  {
    name: "login and query behind SSLRequest",
    attempt: (g, port) => injected(g, port, sslRequest, true),
    expected: "08P01",
  },
  {
    name: "login and query behind GSSENCRequest",
    attempt: (g, port) => injected(g, port, gssRequest, false),
    expected: "08P01",
    truth: ["08P01", "close"],
  },
  { name: "SSLRequest inside TLS", attempt: says(sslRequest), expected: "0A000" },
  { name: "GSSENCRequest inside TLS", attempt: says(gssRequest), expected: "0A000" },
  { name: "binding: right", attempt: bound((binding) => ({ mechanism: plus, header, binding })), expected: "in" },
  {
    name: "PLUS stripped from the offer (flag y)",
    attempt: bound(() => ({ mechanism: plain, header: "y,," })),
    expected: "28000",
  },
  { name: "PLUS with flag n", attempt: bound(() => ({ mechanism: plus, header: "n,," })), expected: "08P01" },
  { name: "PLUS with flag y", attempt: bound(() => ({ mechanism: plus, header: "y,," })), expected: "08P01" },
  {
    name: "flag p without PLUS",
    attempt: bound((binding) => ({ mechanism: plain, header, binding })),
    expected: "08P01",
  },
  {
    name: "binding to another certificate",
    attempt: bound(() => ({ mechanism: plus, header, binding: Buffer.from(`${header}${"x".repeat(32)}`) })),
    expected: "28000",
  },
  { name: "binding without its data", attempt: bound(() => ({ mechanism: plus, header })), expected: "28000" },
  {
    name: "another flag in the proof than before",
    attempt: bound(() => ({ mechanism: plain, header: "n,,", final: (right) => right.replace("c=biws", "c=eSws") })),
    expected: "08P01",
  },
  {
    name: "PLUS in clear",
    attempt: (ground, port) =>
      withClient(ground, port, (client) => scramTalk(client, ground.scram, { mechanism: plus, header })),
    expected: "08P01",
  },
  { name: "SCRAM: right", attempt: inClear(undefined), expected: "in" },
  { name: "replayed: both messages", attempt: replayed((record) => record), expected: "08P01" },
  {
    name: "replayed: proof with the new nonce",
    attempt: replayed((record, first) => record.replace(nonceOf(record), nonceOf(first))),
    expected: "28P01",
  },
  { name: "nonce of another connection", attempt: crossed, expected: "08P01" },
  {
    name: "reflected: the client's nonce alone",
    attempt: inClear((right) => right.replace(nonceOf(right), "fyko+d2lbbFgONRv9qkxdawL")),
    expected: "08P01",
  },
  {
    name: "reflected: the salt as nonce",
    attempt: inClear((right, first) => right.replace(nonceOf(right), /s=([^,]+)/.exec(first)?.[1] ?? "")),
    expected: "08P01",
  },
  { name: "reflected: the server's signature as proof", attempt: reflected, expected: "28P01" },
  {
    name: "a proof of zeroes",
    attempt: inClear((right) => right.replace(/p=.*/, `p=${Buffer.alloc(32).toString("base64")}`)),
    expected: "28P01",
  },
  { name: "md5: right", attempt: (ground, port) => md5Again(ground, port, false), expected: "in" },
  { name: "md5: replayed upon a new salt", attempt: (ground, port) => md5Again(ground, port, true), expected: "28P01" },
];

export const forgeryHeadings = ["attack", "PostgreSQL", "pgsteer"] as const;

function outcome(seen: Seen): string {
  if (seen.at(-1)?.type === "Z") return "in";
  return seen.some((each) => each?.type === "E") ? lastWords(seen).error : "closed";
}

/** Tries all of them at pgsteer and at PostgreSQL. Rows of the table. */
export async function tryForgeries(
  book: Book,
  who: Omit<Ground, "from">,
  asked: number,
  port: number,
): Promise<string[][]> {
  const rows: string[][] = [];
  for (const [index, { name, attempt, expected, truth: others = [expected] }] of forgeries.entries()) {
    const ground = { ...who, from: `127.0.${60 + index}.2` };
    const truth = outcome(await attempt(ground, asked));
    const ours = outcome(await attempt(ground, port));
    book.holds(`${name}: PostgreSQL: ${truth}`, others.includes(truth.slice(0, 5).trim()));
    book.equal(`${name}: pgsteer`, ours.slice(0, 5).trim(), expected);
    rows.push([name, truth, ours === truth ? "the same" : ours]);
  }
  return rows;
}
