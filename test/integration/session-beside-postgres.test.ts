// Sessions in transaction pooling, beside PostgreSQL: several clients take turns on few servers, with random scripts of what changes a
// session, in transactions, with savepoints and errors. Each must hear what a connection of its own would have said, and have what it
// would have: its settings, and what keeps it with its server.

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { APPLICATION, type Cluster, startCluster } from "../support/cluster.ts";
import { Conversation } from "../support/conversation.ts";
import { type Pgsteer, startPgsteer } from "../support/pgsteer.ts";
import { frontend } from "../support/raw-client.ts";

/** How many servers there are, and whether prepared statements follow clients. */
const variants = [
  { servers: 1, statements: 200 },
  { servers: 2, statements: 200 },
  { servers: 2, statements: 0 },
] as const;
/** For what pins: nobody has to wait. */
const roomy = { servers: 3, statements: 200 } as const;
type Variant = (typeof variants)[number] | typeof roomy;

let cluster: Cluster;
const routers = new Map<Variant, Pgsteer>();

beforeAll(async () => {
  cluster = await startCluster({ members: 1 });
  await cluster.sql("node1", `CREATE ROLE other; GRANT other TO ${APPLICATION.user}`);
  for (const [index, variant] of [...variants, roomy].entries()) {
    const pgsteer = await startPgsteer(cluster, {
      name: `pgsteer${index}`,
      configure: ({ pool }) => {
        pool["default_pool_size"] = variant.servers;
        pool["max_prepared_statements"] = variant.statements;
      },
    });
    routers.set(variant, pgsteer);
  }
});

afterAll(async () => {
  await cluster?.remove();
});

const values: Readonly<Record<string, readonly string[]>> = {
  statement_timeout: ["'1min'", "60000", "'60s'", "0", "'nonsense'"],
  work_mem: ["'4MB'", "4096", "'8192kB'", "'0'"],
  DateStyle: ["'German'", "ISO, DMY", "'SQL, MDY'", "'YMD'", "'nonsense'"],
  TimeZone: ["'UTC'", "'Asia/Tokyo'", "'europe/berlin'", "-7", "'nonsense'"],
  search_path: ['a, "B c", public', "'a, b'", "''", '"$user", public', "user"],
  "app.tenant": ["'1'", "'it''s'", "''", "on", "1.50", "'\\x'"],
  jit: ["on", "'off'", "true", "0"],
  extra_float_digits: ["0", "3", "-5", "99"],
  application_name: ["'one'", "two", "''"],
  synchronous_commit: ["off", "'LOCAL'", "1"],
  bytea_output: ["escape", "'HEX'"],
  IntervalStyle: ["iso_8601", "'SQL_STANDARD'"],
  default_transaction_isolation: ["'serializable'", "'REPEATABLE READ'"],
  default_text_search_config: ["'english'", "'pg_catalog.simple'"],
  random_page_cost: ["1.1", "2", "'0.5'"],
  xmloption: ["document", "'CONTENT'"],
};
const names = Object.keys(values);
const setting = fc
  .constantFrom(...names)
  .chain((name) => fc.tuple(fc.constant(name), fc.constantFrom(...(values[name] ?? []))));

const set = setting.map(([name, value]) => `SET ${name} = ${value}`);
const change: fc.Arbitrary<string> = fc.oneof(
  { weight: 6, arbitrary: set },
  { weight: 2, arbitrary: setting.map(([name, value]) => `SET LOCAL ${name} TO ${value}`) },
  { weight: 3, arbitrary: fc.constantFrom(...names).map((name) => `RESET ${name}`) },
  { weight: 1, arbitrary: fc.constantFrom(...names).map((name) => `SET SESSION ${name} TO DEFAULT`) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(setting, fc.boolean())
      .filter(([[, value]]) => /^'[^']*'$/.test(value))
      .map(([[name, value], local]) => `SELECT set_config('${name}', ${value}, ${local})`),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      "RESET ALL",
      "DISCARD ALL",
      "SET ROLE other",
      "RESET ROLE",
      "SET ROLE nobody_of_this_name",
      "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
      "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
      "SET TIME ZONE LOCAL",
      "SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE",
      "SET NAMES 'LATIN1'",
      "SET NAMES 'UTF8'",
      "SET work_mem FROM CURRENT",
      "DO $$ BEGIN PERFORM set_config('app.tenant', 'done', false); END $$",
    ),
  },
);
const control = fc.constantFrom(
  "BEGIN",
  "BEGIN",
  "COMMIT",
  "COMMIT",
  "ROLLBACK",
  "SAVEPOINT s",
  "ROLLBACK TO s",
  "RELEASE s",
  "SELECT 1/0",
  "SELECT 1",
  "COMMIT AND CHAIN",
);
const texts = fc.oneof(
  { weight: 5, arbitrary: change },
  { weight: 4, arbitrary: control },
  {
    weight: 1,
    arbitrary: fc.array(fc.oneof(set, set, control), { minLength: 2, maxLength: 4 }).map((all) => all.join("; ")),
  },
);

/** One turn of a client: messages that are sent in one go, and how many ReadyForQuery they bring. */
interface Drawn {
  readonly client: number;
  readonly shown: string;
  readonly bytes: Buffer;
  readonly ready: number;
}
const steps = (sql: string): Buffer =>
  Buffer.concat([frontend.parse(sql), frontend.bind(), frontend.describe(), frontend.execute()]);
/** `texts` in simple queries, alone and in a row, and by the extended protocol, alone and together in a batch. */
function turnsOf(texts: fc.Arbitrary<string>, single: fc.Arbitrary<string>): fc.Arbitrary<Drawn> {
  const sent: fc.Arbitrary<Omit<Drawn, "client">> = fc.oneof(
    { weight: 6, arbitrary: texts.map((sql) => ({ shown: sql, bytes: frontend.query(sql), ready: 1 })) },
    { weight: 3, arbitrary: texts.map((sql) => ({ shown: `PBDES ${sql}`, bytes: frontend.extended(sql), ready: 1 })) },
    {
      weight: 1,
      arbitrary: fc.array(single, { minLength: 2, maxLength: 3 }).map((all) => ({
        shown: `${all.map((sql) => `PBDE ${sql}`).join(" ")} S`,
        bytes: Buffer.concat([...all.map(steps), frontend.sync()]),
        ready: 1,
      })),
    },
    {
      weight: 1,
      arbitrary: fc.array(texts, { minLength: 2, maxLength: 3 }).map((all) => ({
        shown: all.map((sql) => `Q ${sql}`).join(" "),
        bytes: Buffer.concat(all.map((sql) => frontend.query(sql))),
        ready: all.length,
      })),
    },
  );
  return fc.record({ client: fc.nat(), sent }).map(({ client, sent: what }) => ({ client, ...what }));
}

const pinning = fc.constantFrom(
  "LISTEN a",
  "LISTEN b",
  "UNLISTEN a",
  "UNLISTEN *",
  "CREATE TEMP TABLE x (n int)",
  "CREATE TEMP TABLE y (n int) ON COMMIT DROP",
  "CREATE TABLE pg_temp.z (n int)",
  "DROP TABLE x",
  "DROP TABLE z",
  "DISCARD TEMP",
  "SELECT pg_try_advisory_lock_shared(1)",
  "SELECT pg_try_advisory_lock_shared(2), pg_try_advisory_xact_lock_shared(3)",
  "SELECT pg_advisory_unlock_shared(1)",
  "SELECT pg_advisory_unlock_all()",
  "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
  "CLOSE c",
  "CLOSE ALL",
  "PREPARE p AS SELECT pg_try_advisory_lock_shared(4)",
  "EXECUTE p",
  "DEALLOCATE p",
  "DEALLOCATE ALL",
  "DISCARD ALL",
  "SET app.tenant = 'x'",
  "DO $$ BEGIN EXECUTE 'LISTEN c'; END $$",
);
const pinningTexts = fc.oneof(
  { weight: 5, arbitrary: pinning },
  { weight: 3, arbitrary: control },
  {
    weight: 1,
    arbitrary: fc.array(fc.oneof(pinning, control), { minLength: 2, maxLength: 3 }).map((all) => all.join("; ")),
  },
);

/** What a session has. A setting of the user's own that was never made on a server is no setting there yet. */
const settingsLook = frontend.query(
  `SELECT ${[...names, "role", "client_encoding", "default_transaction_read_only"]
    .map((name) => `coalesce(current_setting('${name}', true), '')`)
    .join(", ")}`,
);

/** What a session holds that cannot follow it. */
const pinsLook = frontend.query(
  `SELECT (SELECT string_agg(channel, ',' ORDER BY channel) FROM pg_listening_channels() channel),
    (SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
    (SELECT string_agg(objid::text, ',' ORDER BY objid) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    (SELECT string_agg(name, ',' ORDER BY name) FROM pg_cursors WHERE is_holdable),
    (SELECT string_agg(name, ',' ORDER BY name) FROM pg_prepared_statements WHERE from_sql),
    coalesce(current_setting('app.tenant', true), '')`,
);

class Company {
  readonly #members: { readonly talk: Conversation; busy: boolean }[] = [];
  readonly #log: string[] = [];
  readonly #servers: number;
  readonly #look: Buffer;

  private constructor(servers: number, look: Buffer) {
    this.#servers = servers;
    this.#look = look;
  }

  /** `look`: the question that shows what a session has. */
  static async open(size: number, { servers }: Variant, pgsteer: Pgsteer, look: Buffer): Promise<Company> {
    const company = new Company(servers, look);
    for (let index = 0; index < size; index += 1) {
      const talk = await Conversation.open(cluster.login("node1", APPLICATION), pgsteer.login("write"));
      company.#members.push({ talk, busy: false });
    }
    return company;
  }

  /** The client that was drawn, or where it would have to wait for a server, one that has one. Then it says what it has. */
  async take({ client, shown, bytes, ready }: Drawn): Promise<void> {
    const holders = this.#members.filter(({ busy }) => busy);
    const eligible = holders.length >= this.#servers ? holders : this.#members;
    const member = eligible[client % eligible.length];
    if (member === undefined) throw new Error("nobody is here");
    this.#log.push(`${this.#members.indexOf(member)}: ${shown}`);
    await this.#say(member.talk, bytes, ready);
    await this.#say(member.talk, this.#look, 1);
    member.busy = member.talk.status !== "I";
  }

  async finish(): Promise<void> {
    const ended = this.#members.toSorted((a, b) => Number(b.busy) - Number(a.busy));
    for (const { talk } of ended) await this.#say(talk, frontend.query("ROLLBACK"), 1);
    for (const { talk } of ended) await this.#say(talk, this.#look, 1);
  }

  async #say(talk: Conversation, bytes: Buffer, ready: number): Promise<void> {
    const { truth, said } = await talk.take({ bytes, ready, open: false, cuts: [] });
    const log = `\n${this.#log.join("\n")}\n`;
    expect(said, log).toEqual(truth);
    if (bytes === this.#look) expect(talk.parameters.said, log).toEqual(talk.parameters.truth);
  }

  destroy(): void {
    for (const { talk } of this.#members) talk.destroy();
  }
}

async function compare(variant: Variant, turn: fc.Arbitrary<Drawn>, look: Buffer): Promise<void> {
  const pgsteer = routers.get(variant);
  if (pgsteer === undefined) throw new Error("no router");
  const size = fc.integer({ min: 2, max: 3 });
  const property = fc.asyncProperty(size, fc.array(turn, { maxLength: 16 }), async (clients, turns) => {
    const company = await Company.open(clients, variant, pgsteer, look);
    try {
      for (const drawn of turns) await company.take(drawn);
      await company.finish();
    } finally {
      company.destroy();
    }
  });
  const interruptAfterTimeLimit = Number(process.env["PROPERTY_MS"] ?? 2_000);
  const seed = Number(process.env["PROPERTY_SEED"] ?? 7);
  await fc.assert(property, { numRuns: 5_000, seed, interruptAfterTimeLimit });
}

describe("in transaction pooling, beside PostgreSQL", { timeout: 120_000 }, () => {
  test.each(variants)("settings are alike: $servers servers, $statements statements", async (variant) => {
    await compare(variant, turnsOf(texts, fc.oneof(change, control)), settingsLook);
  });

  test("what keeps a client with its server is alike", async () => {
    await compare(roomy, turnsOf(pinningTexts, fc.oneof(pinning, control)), pinsLook);
  });
});
