// postgres.js (https://github.com/porsager/postgres): a tagged template over a pool of its own; one connection per pool here.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { pipeline as streamed } from "node:stream/promises";
import postgres from "postgres";
import { common, elsewhere, number, one, two, value } from "./common.mjs";
import { check, environment, equal, main, refused, SCHEMA, sleep, sqlstateOf, track } from "./harness.mjs";

/** What postgres() takes. */
export function options({ user, password, database, settings = {}, tls = false, ...more } = {}) {
  return {
    host: environment.PGHOST,
    port: Number(environment.PGPORT),
    user: user ?? environment.PGUSER,
    password: password ?? environment.PGPASSWORD,
    database: database ?? environment.PGDATABASE,
    max: 1,
    connection: settings,
    ssl: tls ? { ca: readFileSync(environment.PGSSLROOTCERT, "utf8"), rejectUnauthorized: true } : false,
    onnotice: () => {},
    ...more,
  };
}

class Connection {
  constructor(sql) {
    this.raw = sql;
  }

  /** The simple protocol without values, named statements with them. */
  async q(text, ...values) {
    const rows = await this.raw.unsafe(text, values, { prepare: values.length > 0 }).values();
    return rows.map((row) => row.map((each) => (typeof each === "bigint" ? Number(each) : each)));
  }

  tx(work) {
    return this.raw.begin((sql) => work(new Connection(sql)));
  }

  close() {
    return this.raw.end({ timeout: 5 });
  }

  drop() {
    return this.raw.end({ timeout: 0 });
  }
}

const connect = async (how) => {
  const connection = track(new Connection(postgres(options(how))));
  await connection.raw`SELECT 1`;
  return connection;
};

const driver = {
  connect,
  fields: ({ detail = null, constraint_name = null, table_name = null, schema_name = null, position = null }) => ({
    detail,
    constraint: constraint_name,
    table: table_name,
    schema: schema_name,
    position,
  }),
};

const own = {
  multi_statement: (d) =>
    one(d, async (c) => {
      const results = await c.raw`SELECT 1 AS a; SELECT 2 AS a`.simple();
      equal(results, [[{ a: 1 }], [{ a: 2 }]]);
      await c.q(`CREATE TABLE ${SCHEMA}.multi (id int)`);
      await refused(c.q(`INSERT INTO ${SCHEMA}.multi VALUES (1); SELECT 1 / 0`), "22012");
      equal(await number(c, `SELECT count(*) FROM ${SCHEMA}.multi`), 0);
    }),

  // A template is a named statement, prepared at its first use on a connection.
  named_prepared: (d) =>
    two(d, async (a, b) => {
      for (let i = 0; i < 20; i += 1) {
        equal(await a.raw`SELECT ${i}::int * 2 AS x`, [{ x: 2 * i }]);
        await elsewhere(b, async () => equal(await a.raw`SELECT ${i}::int * 2 AS x`, [{ x: 2 * i }]));
      }
    }),

  unnamed_prepared: async (d) => {
    const a = await connect({ prepare: false });
    await two(d, async (b) => {
      for (let i = 0; i < 20; i += 1) {
        equal(await a.raw`SELECT ${i}::int AS x`, [{ x: i }]);
        equal(await b.raw.unsafe(`SELECT $1::int + ${i} AS x`, [1]), [{ x: 1 + i }]);
      }
    });
    await a.close();
  },

  prepared_after_ddl: (d) =>
    two(d, async (a, b) => {
      await b.q(`CREATE TABLE ${SCHEMA}.ddl (id int)`);
      await b.q(`INSERT INTO ${SCHEMA}.ddl VALUES (1)`);
      const all = () => a.raw`SELECT * FROM ${a.raw(SCHEMA)}.ddl WHERE id = ${1}`.values();
      equal(await all(), [[1]]);
      await b.q(`ALTER TABLE ${SCHEMA}.ddl ADD COLUMN more int`);
      // It prepares again by itself where the server says so.
      equal(await all(), [[1, null]]);
    }),

  prepared_many: (d) =>
    one(d, async (c) => {
      for (let round = 0; round < 2; round += 1)
        for (let i = 0; i < 300; i += 1) equal(await value(c, `SELECT $1::int + ${i}`, 1), 1 + i);
    }),

  pipeline: (d) =>
    one(d, async (c) => {
      const queries = Array.from({ length: 100 }, (_, i) => c.raw`SELECT ${i}::int AS x`);
      equal(
        (await Promise.all(queries)).map(([row]) => row.x),
        Array.from({ length: 100 }, (_, i) => i),
      );
      await c.q(`CREATE TABLE ${SCHEMA}.pipelined (id int)`);
      const insert = (id) => c.raw`INSERT INTO ${c.raw(SCHEMA)}.pipelined VALUES (${id})`;
      const settled = await Promise.allSettled([insert(1), c.raw`SELECT 1 / ${0}::int`, insert(3)]);
      equal(
        settled.map(({ status, reason }) => (status === "rejected" ? sqlstateOf(reason) : status)),
        ["fulfilled", "22012", "fulfilled"],
      );
      const both = c.raw.begin((sql) => [
        sql`SELECT 1 / ${0}::int`,
        sql`INSERT INTO ${sql(SCHEMA)}.pipelined VALUES (4)`,
      ]);
      await refused(both, "22012");
      equal(await c.q(`SELECT id FROM ${SCHEMA}.pipelined ORDER BY id`), [[1], [3]]);
    }),

  cursor: (d) =>
    one(d, async (c) => {
      await c.tx(async (t) => {
        await t.q("DECLARE pieces CURSOR FOR SELECT i FROM generate_series(1, 1000) i");
        let found = 0;
        for (let rows = await t.q("FETCH 70 FROM pieces"); rows.length > 0; rows = await t.q("FETCH 70 FROM pieces"))
          found += rows.length;
        equal(found, 1000);
      });
      equal(await c.q("SELECT 1"), [[1]]);
    }),

  cursor_fetch_portal: (d) =>
    one(d, async (c) => {
      const found = [];
      for await (const rows of c.raw`SELECT i FROM generate_series(1, ${1000}::int) i`.cursor(50)) found.push(...rows);
      equal(found.length, 1000);
      for await (const _ of c.raw`SELECT i FROM generate_series(1, ${1000}::int) i`.cursor(50)) break;
      equal(await c.q("SELECT 1"), [[1]]);
    }),

  copy_in: (d) =>
    one(d, async (c) => {
      await c.q(`CREATE TABLE ${SCHEMA}.copied (id int, t text)`);
      const copy = () => c.raw`COPY ${c.raw(SCHEMA)}.copied FROM STDIN`.writable();
      const rows = function* () {
        for (let i = 0; i < 20_000; i += 1) yield `${i}\tä\n`;
      };
      await streamed(Readable.from(rows()), await copy());
      await streamed(Readable.from([]), await copy());
      equal((await c.q(`SELECT count(*), sum(id) FROM ${SCHEMA}.copied`))[0].map(Number), [20_000, 199_990_000]);
    }),

  copy_out: (d) =>
    one(d, async (c) => {
      const out = await c.raw`COPY (SELECT i, 'ä' FROM generate_series(1, 20000) i) TO STDOUT`.readable();
      let text = "";
      for await (const piece of out.setEncoding("utf8")) text += piece;
      equal(text.trimEnd().split("\n").length, 20_000);
      equal(await c.q("SELECT 1"), [[1]]);
    }),

  copy_in_error: (d) =>
    one(d, async (c) => {
      await c.q(`CREATE TABLE ${SCHEMA}.refused (id int)`);
      const copying = await c.raw`COPY ${c.raw(SCHEMA)}.refused FROM STDIN`.writable();
      // Its stream does not hear of the server's error: nobody can wait for its end.
      copying.on("error", () => {});
      copying.end("1\n2\nthree\n");
      await sleep(500);
      equal(await number(c, `SELECT count(*) FROM ${SCHEMA}.refused`), 0);
    }),

  listen_notify: (d) =>
    two(d, async (a, b) => {
      const channel = `${SCHEMA}_channel`;
      const heard = [];
      const listening = await a.raw.listen(channel, (payload) => heard.push(payload));
      await b.raw.notify(channel, "payload ä");
      for (let left = 50; heard.length === 0 && left > 0; left -= 1) await sleep(50);
      equal(heard, ["payload ä"]);
      await listening.unlisten();
      await b.raw.notify(channel, "not heard");
      await sleep(200);
      equal(heard.length, 1);
    }),

  cancel: (d) =>
    one(d, async (c) => {
      const sleeping = c.raw`SELECT pg_sleep(15)`;
      const ended = refused(sleeping, "57014");
      await sleep(500);
      sleeping.cancel();
      await ended;
      equal(await c.q("SELECT 1"), [[1]]);
    }),

  ssl: async () => {
    const c = await connect({ tls: true });
    equal(await c.q("SELECT 1"), [[1]]);
    await c.close();
    // It has no way to say that it is encrypted: with the wrong authority it has to refuse.
    const wrong = postgres({ ...options(), ssl: { ca: [], rejectUnauthorized: true } });
    const failure = await wrong`SELECT 1`.then(
      () => null,
      (error) => error,
    );
    check(
      failure !== null && /certificate|self.signed|verify/i.test(`${failure.code} ${failure.message}`),
      String(failure),
    );
    await wrong.end({ timeout: 0 });
  },

  large_objects: (d) =>
    one(d, async (c) => {
      const content = Buffer.from(Array.from({ length: 50_000 }, (_, i) => i % 256));
      // It opens a transaction of its own for each, and does not tell the oid.
      const large = await c.raw.largeObject();
      const into = await large.writable();
      into.end(content);
      await once(into, "finish");
      await large.close();
      const oid = await value(c, "SELECT max(oid::int8)::int FROM pg_largeobject_metadata");
      const again = await c.raw.largeObject(oid);
      const pieces = [];
      for await (const piece of await again.readable()) pieces.push(piece);
      check(Buffer.concat(pieces).equals(content), "what was written");
      await again.close();
      await c.raw`SELECT lo_unlink(${oid})`;
    }),

  binary_types: (d) =>
    one(d, async (c) => {
      const when = new Date("2026-02-03T04:05:06.789Z");
      const samples = [
        ["int2", -32768],
        ["int4", 2 ** 31 - 1],
        ["float8", 1.5e-300],
        ["numeric", "1234567890123456789012345678.901234567891"],
        ["bytea", Buffer.from(Array.from({ length: 256 }, (_, i) => i))],
        ["timestamptz", when],
        ["uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
        ["bool", true],
        ["int4[]", [1, 2]],
        ["int4range", "[1,10)"],
      ];
      for (const [type, sample] of samples)
        equal((await c.raw.unsafe(`SELECT $1::${type} AS x`, [sample], { prepare: true }))[0].x, sample, type);
      equal((await c.raw`SELECT ${c.raw.json({ a: [1, null, "ä"] })}::jsonb AS x`)[0].x, { a: [1, null, "ä"] });
    }),

  savepoints: async (d) => {
    await one(d, async (c) => {
      await c.q(`CREATE TABLE ${SCHEMA}.nested (id int)`);
      await c.raw.begin(async (sql) => {
        await sql`INSERT INTO ${sql(SCHEMA)}.nested VALUES (1)`;
        const inner = sql.savepoint(async (s) => {
          await s`INSERT INTO ${s(SCHEMA)}.nested VALUES (2)`;
          throw new Error("back");
        });
        await inner.catch(() => {});
        await sql.savepoint((s) => s`INSERT INTO ${s(SCHEMA)}.nested VALUES (3)`);
      });
      equal(await c.q(`SELECT id FROM ${SCHEMA}.nested ORDER BY id`), [[1], [3]]);
    });
    // A transaction in which anything failed is rolled back by it, even if the failure was caught: SQL's own are tried
    // through a reserved connection.
    await one(d, async (c) => {
      const reserved = await c.raw.reserve();
      const q = (text) => reserved.unsafe(text).values();
      await q(`CREATE TABLE ${SCHEMA}.saved (id int PRIMARY KEY)`);
      await q("BEGIN");
      await q(`INSERT INTO ${SCHEMA}.saved VALUES (1)`);
      await q("SAVEPOINT one");
      await refused(q(`INSERT INTO ${SCHEMA}.saved VALUES (1)`), "23505");
      await q("ROLLBACK TO SAVEPOINT one");
      await q(`INSERT INTO ${SCHEMA}.saved VALUES (3)`);
      await q("COMMIT");
      equal(await q(`SELECT id FROM ${SCHEMA}.saved ORDER BY id`), [[1], [3]]);
      reserved.release();
    });
  },

  isolation_levels: async (d) => {
    await one(d, (c) =>
      c.raw.begin("ISOLATION LEVEL SERIALIZABLE READ ONLY", async (sql) =>
        equal(await sql`SHOW transaction_isolation`.values(), [["serializable"]]),
      ),
    );
    await common.isolation_levels(d);
  },

  notices: async () => {
    const heard = [];
    const c = await connect({ onnotice: ({ severity, message }) => heard.push([severity, message]) });
    await c.q("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$");
    equal(heard, [
      ["NOTICE", "one"],
      ["WARNING", "two"],
    ]);
    await c.close();
  },

  backend_pid: (d) =>
    one(d, async (c) => {
      const result = await c.raw`SELECT pg_backend_pid() AS pid`;
      equal(result[0].pid, result.state.pid);
    }),

  two_phase: (d) =>
    two(d, async (a, b) => {
      await a.q(`CREATE TABLE ${SCHEMA}.two_phase (id int)`);
      await a.raw.begin(async (sql) => {
        await sql`INSERT INTO ${sql(SCHEMA)}.two_phase VALUES (1)`;
        await sql.prepare(SCHEMA);
      });
      equal(await number(b, `SELECT count(*) FROM ${SCHEMA}.two_phase`), 0);
      await b.q(`COMMIT PREPARED '${SCHEMA}'`);
      equal(await number(a, `SELECT count(*) FROM ${SCHEMA}.two_phase`), 1);
    }),

  pool: async () => {
    const c = await connect({ max: 3, max_lifetime: null });
    await c.q(`CREATE TABLE ${SCHEMA}.pooled (id int)`);
    const work = async (id) => {
      for (let i = 0; i < 20; i += 1) {
        equal(await c.raw`SELECT ${id}::int AS x`, [{ x: id }]);
        const inserting = c.raw.begin(async (sql) => {
          await sql`INSERT INTO ${sql(SCHEMA)}.pooled VALUES (${id})`;
          if (i % 2 === 1) throw new Error("back");
        });
        await inserting.catch((error) => equal(error.message, "back"));
      }
    };
    await Promise.all(Array.from({ length: 8 }, (_, id) => work(id)));
    equal(await number(c, `SELECT count(*) FROM ${SCHEMA}.pooled`), 80);
    await c.close();
  },
};

const skips = { orm_schema: "not an ORM" };

await main(driver, { ...common, ...own }, skips);
