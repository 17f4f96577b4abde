// Prepared statements that follow clients, beside PostgreSQL: several clients take turns on fewer servers, and each must hear what
// a connection of its own would have said, message for message.

import fc from "fast-check";
import { serialize } from "pg-protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { Conversation, type Turn } from "../support/conversation.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { frontend } from "../support/raw-client.ts";
import { waitFor } from "../support/time.ts";

interface Variant {
  readonly servers: number;
  readonly statements: number;
}
const variants: readonly Variant[] = [
  { servers: 1, statements: 3 },
  { servers: 2, statements: 3 },
  { servers: 2, statements: 200 },
];

let cluster: Cluster;
const routers = new Map<Variant, Pgsteer>();

beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
  for (const [index, variant] of variants.entries()) {
    const pgsteer = await startPgsteer(cluster, {
      name: `pgsteer${index}`,
      configure: (configuration) => {
        configuration.pool["default_pool_size"] = variant.servers;
        configuration.pool["max_prepared_statements"] = variant.statements;
      },
    });
    routers.set(variant, pgsteer);
  }
});

afterAll(async () => {
  await cluster?.remove();
});

/** Messages that are sent in one go: what they are for a reader, and how they end. */
interface Segment {
  readonly shown: string;
  readonly messages: readonly Buffer[];
  readonly end: "sync" | "query" | "flush";
  /** Deallocates by a simple query. */
  readonly drops?: true;
}

const texts = [
  "SELECT 1",
  "SELECT 'two'",
  "SELECT generate_series(1, 3)",
  "SELECT $1::int",
  "SELECT 4 AS four, 'x'::text",
  "SELECT 1/0",
  "SELEC",
  "SELECT * FROM missing",
  "",
  "BEGIN",
  "COMMIT",
  "ROLLBACK",
] as const;
const text = fc.constantFrom(...texts);
const name = fc.constantFrom("", "a", "b", "c", "d");
const portal = fc.constantFrom("", "", "", "p");
const kind = fc.constantFrom("S" as const, "S" as const, "P" as const);

interface Step {
  readonly shown: string;
  readonly bytes: Buffer;
}
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.tuple(name, text).map(([to, sql]) => ({ shown: `P(${to}: ${sql})`, bytes: frontend.parse(sql, to) })),
  fc.tuple(name, portal).map(([of, to]) => ({ shown: `B(${of}→${to})`, bytes: frontend.bind(of, to) })),
  fc.tuple(kind, name).map(([what, of]) => ({ shown: `D(${what} ${of})`, bytes: frontend.describe(of, what) })),
  fc.tuple(portal, fc.constantFrom(0, 1)).map(([of, rows]) => ({
    shown: `E(${of} ${rows})`,
    bytes: frontend.execute(rows, of),
  })),
  fc.tuple(kind, name).map(([type, of]) => ({ shown: `C(${type} ${of})`, bytes: serialize.close({ type, name: of }) })),
);
const run: fc.Arbitrary<Step> = name.map((of) => ({
  shown: `BDE(${of})`,
  bytes: Buffer.concat([frontend.bind(of), frontend.describe(), frontend.execute()]),
}));
const whole: fc.Arbitrary<Step> = fc.tuple(name, text).map(([of, sql]) => ({
  shown: `PBE(${of}: ${sql})`,
  bytes: Buffer.concat([frontend.parse(sql, of), frontend.bind(of), frontend.execute()]),
}));
const steps = fc.array(
  fc.oneof({ weight: 8, arbitrary: step }, { weight: 4, arbitrary: run }, { weight: 4, arbitrary: whole }),
  { minLength: 1, maxLength: 5 },
);
const show = (list: readonly Step[]) => list.map(({ shown }) => shown).join(" ");
const bytes = (list: readonly Step[]) => list.map((each) => each.bytes);

const simpleText = fc.constantFrom("SELECT 1", "SELECT 1/0", "", "BEGIN", "BEGIN", "COMMIT", "ROLLBACK");
const simple = (sql: string): Segment => ({ shown: `Q(${sql})`, messages: [frontend.query(sql)], end: "query" });
const batch = (list: readonly Step[], end: "sync" | "flush"): Segment => ({
  shown: `${show(list)} ${end === "sync" ? "S" : "H"}`,
  messages: [...bytes(list), end === "sync" ? serialize.sync() : serialize.flush()],
  end,
});
const segment: fc.Arbitrary<Segment> = fc.oneof(
  { weight: 6, arbitrary: steps.map((list) => batch(list, "sync")) },
  { weight: 3, arbitrary: simpleText.map(simple) },
  { weight: 1, arbitrary: steps.map((list) => batch(list, "flush")) },
);
/** Statements that take prepared statements away, simple or extended. */
const drop: fc.Arbitrary<Segment> = fc
  .record({
    sql: fc.constantFrom(
      "DEALLOCATE a",
      'deallocate prepare "b";',
      "DEALLOCATE missing",
      "DEALLOCATE ALL",
      "DISCARD ALL",
    ),
    extended: fc.boolean(),
  })
  .map(({ sql, extended }) =>
    extended
      ? { shown: `PBDES(${sql})`, messages: [frontend.extended(sql)], end: "sync" }
      : { ...simple(sql), drops: true },
  );
interface Drawn {
  readonly client: number;
  readonly segments: readonly Segment[];
  readonly cuts: readonly number[];
}
const cuts = fc.array(fc.nat(), { maxLength: 3 });
const pipeline = (part: fc.Arbitrary<Segment>): fc.Arbitrary<Drawn> =>
  fc.record({ client: fc.nat(), segments: fc.array(part, { minLength: 1, maxLength: 3 }), cuts });
/** One batch, or one query, and its answer before anything follows it. */
const batches = fc.oneof(
  { weight: 6, arbitrary: fc.record({ client: fc.nat(), segments: segment.map((each) => [each]), cuts }) },
  { weight: 1, arbitrary: fc.record({ client: fc.nat(), segments: drop.map((each) => [each]), cuts }) },
);
/** What drops statements has been answered before anything follows it. */
const dropsApart: fc.Arbitrary<Drawn> = fc.oneof(
  { weight: 7, arbitrary: pipeline(segment) },
  { weight: 1, arbitrary: fc.record({ client: fc.nat(), segments: drop.map((each) => [each]), cuts }) },
);
/** What drops statements stands anywhere in a pipeline. */
const dropsAnywhere = pipeline(fc.oneof({ weight: 7, arbitrary: segment }, { weight: 1, arbitrary: drop }));

const refusals = /C=(?:25P02|26000|34000|42P05|08P01)/;

const isRefusal = (words: string): boolean => refusals.test(words);
const tellsStatement = (words: string): boolean => /^[tTn] /.test(words);

/**
 * What was said, where it may differ from the truth in the truth's words. In a failed transaction a message for a statement that
 * its server lacks is refused with the Parse in front of it: a Bind before its parameters are counted, a Describe that PostgreSQL
 * would have answered. In a pipeline in which a batch fails, the batches behind it, which were sent before that was known, are
 * refused where PostgreSQL refuses them, but perhaps for another of these reasons.
 */
function alike(said: readonly string[], truth: readonly string[], pipelined: boolean): string[] {
  const told: string[] = [];
  let at = 0;
  while (told.length < truth.length && at < said.length) {
    const words = said[at] ?? "";
    const wanted = truth[told.length] ?? "";
    at += 1;
    const inFailed = words.includes("C=25P02");
    if (inFailed && tellsStatement(wanted)) {
      while (told.length < truth.length && !truth[told.length]?.startsWith("Z ")) told.push(truth[told.length] ?? "");
    } else if (pipelined && isRefusal(words) && isRefusal(wanted)) told.push(wanted);
    else told.push(inFailed && wanted.includes("C=08P01") ? wanted : words);
  }
  return told;
}

/** Clients on `variant`, each with its direct counterpart. */
class Company {
  readonly #members: { readonly talk: Conversation; readonly log: string[]; unsynced: boolean; holds: boolean }[] = [];
  readonly #servers: number;
  readonly log: string[] = [];

  readonly #pipelined: boolean;

  private constructor(servers: number, pipelined: boolean) {
    this.#servers = servers;
    this.#pipelined = pipelined;
  }

  static async open(size: number, variant: Variant, pgsteer: Pgsteer, pipelined: boolean): Promise<Company> {
    const company = new Company(variant.servers, pipelined);
    for (let index = 0; index < size; index += 1) {
      const talk = await Conversation.open(cluster.login("node1", APPLICATION), pgsteer.login("write"));
      company.#members.push({ talk, log: [], unsynced: false, holds: false });
    }
    return company;
  }

  /** The client that was drawn, or where it would have to wait for a server, one that has one. */
  async take({ client, segments: drawn, cuts }: Drawn): Promise<void> {
    const holders = this.#members.filter(({ holds }) => holds);
    const eligible = holders.length >= this.#servers ? holders : this.#members;
    const member = eligible[client % eligible.length];
    if (member === undefined) throw new Error("nobody is here");
    let ready = 0;
    let open = false;
    // A query that deallocates in the middle of a batch goes to the server, which knows no such name: no driver does that.
    let unsynced = member.unsynced;
    const segments = drawn.flatMap((each) => {
      const apart = each.drops === true && unsynced;
      unsynced = each.end === "flush" || (each.end === "query" && unsynced && !apart);
      return apart ? [batch([], "sync"), each] : [each];
    });
    for (const { end } of segments) {
      // A simple query is skipped where its batch has failed.
      if (end === "sync" || (end === "query" && !member.unsynced)) ready += 1;
      else open = true;
      member.unsynced = end === "flush" || (end === "query" && member.unsynced);
    }
    const shown = segments.map((each) => each.shown).join(" | ");
    this.log.push(`${this.#members.indexOf(member)}: ${shown}`);
    const sent: Turn = { bytes: Buffer.concat(segments.flatMap(({ messages }) => messages)), ready, open, cuts };
    const { truth, said } = await member.talk.take(sent);
    this.#expect(said, truth);
    member.holds = member.unsynced || member.talk.status !== "I";
  }

  async finish(): Promise<void> {
    for (const { talk } of this.#members) {
      const { truth, said } = await talk.finish(serialize.end());
      this.#expect(said, truth);
    }
  }

  #expect(said: readonly string[], truth: readonly string[]): void {
    expect(alike(said, truth, this.#pipelined), `\n${this.log.join("\n")}\n`).toEqual(truth);
  }

  destroy(): void {
    for (const { talk } of this.#members) talk.destroy();
  }
}

/** New server connections for all: what an earlier run left on them is gone. */
async function renewServers(): Promise<void> {
  await waitFor(
    async () => {
      const { rowCount } = await cluster.sql(
        "node1",
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${APPLICATION.user}'`,
      );
      return rowCount === 0;
    },
    { timeoutMs: 30_000, what: "no connection of the application is left", intervalMs: 5 },
  );
}

async function compare(variant: Variant, turn: fc.Arbitrary<Drawn>): Promise<void> {
  const pgsteer = routers.get(variant);
  if (pgsteer === undefined) throw new Error("no router");
  let failed = false;
  const size = fc.integer({ min: 2, max: 4 });
  const property = fc.asyncProperty(size, fc.array(turn, { minLength: 1, maxLength: 14 }), async (clients, turns) => {
    if (failed) await renewServers();
    const company = await Company.open(clients, variant, pgsteer, turn !== batches);
    try {
      for (const drawn of turns) await company.take(drawn);
      await company.finish();
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      company.destroy();
    }
  });
  await fc.assert(property, {
    numRuns: 60,
    seed: 7,
    interruptAfterTimeLimit: 30_000,
  });
}

describe("prepared statements in transaction pooling, beside PostgreSQL", { timeout: 180_000 }, () => {
  test.each(variants)("answer alike, batch by batch: $servers servers, $statements statements", async (variant) => {
    await compare(variant, batches);
  });

  test.each(variants)("answer alike in pipelines: $servers servers, $statements statements", async (variant) => {
    await compare(variant, dropsApart);
  });

  test.each(variants)(
    "answer alike with drops in pipelines: $servers servers, $statements statements",
    async (variant) => {
      await compare(variant, dropsAnywhere);
    },
  );
});
