// The stand-in for a lost server, message by message beside a real PostgreSQL in a failed transaction: same answers, same order,
// same end. Only syntax and names it cannot judge: there it says 25P02 where PostgreSQL has something more precise to say.

import fc from "fast-check";
import { serialize } from "pg-protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MessageWriter } from "../../src/protocol/writer.ts";
import { FailedTransaction } from "../../src/proxy/failed-transaction.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { outline, RawClient, type RawMessage } from "../support/raw-client.ts";

let postgres: Postgres;

beforeAll(async () => {
  postgres = await startPostgres("failed");
});

afterAll(async () => {
  await postgres.remove();
});

const { query, parse, bind, describe: describeIt, execute, close, sync, flush } = serialize;
const functionCall = Buffer.from("F\0\0\0\x0e\0\0\x07\xea\0\0\0\0\0\0", "latin1");

/** PostgreSQL's answers to `messages` and a Sync, in a transaction that has failed; one outline per message until it has ended. */
async function byPostgres(messages: readonly Buffer[]): Promise<string[]> {
  const client = await RawClient.login(postgres.login);
  try {
    await client.simple("BEGIN");
    await client.simple("SELECT 1/0");
    const fence = "SELECT 'fence'";
    client.send(...messages, sync(), query("ROLLBACK"), query(fence));
    const seen: (RawMessage | null)[] = [];
    for (;;) {
      const next = await client.next();
      if (next === null) throw new Error(`the end: ${outline(seen).join(", ")}`);
      seen.push(next);
      if (next.type === "D") break;
    }
    return outline(seen);
  } finally {
    client.destroy();
  }
}

/** Splits a buffer into messages. */
function split(bytes: Buffer): RawMessage[] {
  const messages: RawMessage[] = [];
  for (let at = 0; at < bytes.length; at += 1 + bytes.readInt32BE(at + 1)) {
    const end = at + 1 + bytes.readInt32BE(at + 1);
    messages.push({ type: bytes.toString("latin1", at, at + 1), body: bytes.subarray(at + 5, end) });
  }
  return messages;
}

/** The stand-in's answers to the same. It is asked no more once the transaction is over. */
function byStandIn(messages: readonly Buffer[]): { said: string[]; over: boolean } {
  const transaction = new FailedTransaction(null, false, true, null);
  const writer = new MessageWriter();
  let over = false;
  for (const { type, body } of split(Buffer.concat([...messages, sync()]))) {
    if (over) break;
    over = transaction.answer(type.charCodeAt(0), body, writer);
  }
  return { said: outline(split(writer.finish())), over };
}

async function compare(messages: readonly Buffer[]): Promise<void> {
  const { said, over } = byStandIn(messages);
  const truth = await byPostgres(messages);
  const shown = messages.map((message) => message.toString("latin1").replaceAll("\0", "·")).join(" | ");
  expect(truth.slice(0, said.length), shown).toEqual(said);
  if (over) expect(said.at(-1), shown).toBe("Z I");
  // What PostgreSQL says next answers what came behind: our Sync (if the stand-in was done before it) and the ROLLBACK.
  else expect(truth.slice(said.length, said.length + 2), shown).toEqual(["C ROLLBACK", "Z I"]);
}

const texts = fc.constantFrom(
  "SELECT 1",
  "ROLLBACK",
  "COMMIT",
  "END",
  "ABORT;",
  "COMMIT AND NO CHAIN",
  "INSERT INTO missing VALUES (1)",
);

describe("a failed transaction, beside PostgreSQL", () => {
  test.each<[string, Buffer[]]>([
    ["nothing", []],
    ["a query", [query("SELECT 1")]],
    ["queries and the end", [query("SELECT 1"), query("SELECT 2"), query("ROLLBACK")]],
    ["a COMMIT", [query("COMMIT")]],
    ["an END with comments", [query("/* x */ end -- y\n;")]],
    ["nothing but space", [query("")]],
    ["a semicolon", [query(" ; ")]],
    ["a comment, as drivers ping", [query("-- ping")]],
    ["a lookup of a savepoint that is not there", [query("RELEASE a")]],
    ["BEGIN", [query("BEGIN")]],
    ["an extended query", [parse({ text: "SELECT 1" }), bind(), describeIt({ type: "P" }), execute()]],
    ["an extended ROLLBACK", [parse({ text: "ROLLBACK" }), bind(), describeIt({ type: "P" }), execute()]],
    [
      "an extended ROLLBACK, described as a statement",
      [parse({ text: "ROLLBACK" }), describeIt({ type: "S" }), bind(), execute()],
    ],
    [
      "a named ROLLBACK in two batches",
      [parse({ text: "ROLLBACK", name: "r" }), sync(), bind({ statement: "r" }), execute()],
    ],
    ["an extended COMMIT", [parse({ text: "COMMIT" }), bind(), execute()]],
    ["an empty extended statement", [parse({ text: "" }), bind(), execute()]],
    ["bare Syncs", [sync(), sync(), query("SELECT 1")]],
    ["Flush", [flush(), parse({ text: "SELECT 1" }), flush()]],
    ["Close", [close({ type: "S", name: "x" }), close({ type: "P" })]],
    [
      "a failed batch and one behind it",
      [parse({ text: "SELECT 1" }), bind(), sync(), parse({ text: "ROLLBACK" }), bind(), execute()],
    ],
    ["a query that is skipped", [parse({ text: "SELECT 1" }), query("ROLLBACK"), sync(), query("SELECT 1")]],
    ["a function call", [functionCall]],
    [
      "the end of a copy that has failed",
      [serialize.copyData(Buffer.from("x")), serialize.copyDone(), query("SELECT 1")],
    ],
  ])("answers alike: %s", async (_name, messages) => {
    await compare(messages);
  });

  test("answers alike to random pipelines", { timeout: 120_000 }, async () => {
    const part = fc.oneof(
      texts.map((text) => [query(text)]),
      fc
        .record({ text: texts, described: fc.boolean(), synced: fc.boolean() })
        .map(({ text, described, synced }) => [
          parse({ text }),
          bind(),
          ...(described ? [describeIt({ type: "P" as const })] : []),
          execute(),
          ...(synced ? [sync()] : []),
        ]),
      fc.constantFrom([sync()], [flush()], [close({ type: "S" })], [functionCall]),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 5 }), async (parts) => {
        // What follows the transaction's end in its own batch is run by PostgreSQL, outside of any: nobody can stand in for that.
        const ending = parts.findIndex((messages) =>
          /ROLLBACK|COMMIT|END|ABORT/.test(Buffer.concat(messages).toString("latin1")),
        );
        const upToEnd = ending < 0 ? parts : parts.slice(0, ending + 1);
        const skipped = upToEnd.slice(0, -1).some((messages) => messages.at(-1)?.[0] === "E".charCodeAt(0));
        fc.pre(!skipped || ending < 0);
        await compare(upToEnd.flat());
      }),
      { numRuns: 120, seed: 12, interruptAfterTimeLimit: 40_000 },
    );
  });
});
