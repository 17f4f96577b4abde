// node-postgres (https://node-postgres.com): `pg`, with pg-cursor, pg-query-stream and pg-copy-streams.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { pipeline as streamed } from "node:stream/promises";
import pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import Cursor from "pg-cursor";
import QueryStream from "pg-query-stream";
import { common, elsewhere, number, one, two, value } from "./common.mjs";
import { check, environment, equal, main, refused, SCHEMA, sleep, sqlstateOf, track } from "./harness.mjs";

/** What the constructor of Client and Pool takes. */
export function options({ user, password, database, settings = {}, tls = false } = {}) {
  const { application_name, statement_timeout, ...others } = settings;
  return {
    host: environment.PGHOST,
    port: Number(environment.PGPORT),
    user: user ?? environment.PGUSER,
    password: password ?? environment.PGPASSWORD,
    database: database ?? environment.PGDATABASE,
    application_name,
    statement_timeout,
    options: Object.entries(others)
      .map(([name, setting]) => `-c ${name}=${setting}`)
      .join(" "),
    ssl: tls ? { ca: readFileSync(environment.PGSSLROOTCERT, "utf8"), rejectUnauthorized: true } : false,
  };
}

class Connection {
  constructor(client) {
    this.raw = client;
  }

  async q(text, ...values) {
    return (await this.raw.query({ text, ...(values.length > 0 && { values }), rowMode: "array" })).rows;
  }

  async tx(work) {
    await this.raw.query("BEGIN");
    try {
      const result = await work(this);
      await this.raw.query("COMMIT");
      return result;
    } catch (error) {
      await this.raw.query("ROLLBACK");
      throw error;
    }
  }

  close() {
    return this.raw.end();
  }

  drop() {
    this.raw.connection.stream.destroy();
  }
}

const driver = {
  connect: async (how) => {
    const client = new pg.Client(options(how));
    client.on("error", () => {});
    const connection = track(new Connection(client));
    await client.connect();
    return connection;
  },
  fields: ({ detail = null, constraint = null, table = null, schema = null, position = null }) => ({
    detail,
    constraint,
    table,
    schema,
    position,
  }),
};

async function* bytes(...pieces) {
  for (const piece of pieces) yield Buffer.from(piece);
}

const own = {
  simple_query: async (d) => {
    await one(d, async (c) => equal((await c.raw.query("")).rows, []));
    await common.simple_query(d);
  },

  multi_statement: (d) =>
    one(d, async (c) => {
      const results = await c.raw.query("SELECT 1 AS a; SELECT 2 AS a");
      equal(
        results.map(({ rows }) => rows),
        [[{ a: 1 }], [{ a: 2 }]],
      );
      await c.q(`CREATE TABLE ${SCHEMA}.multi (id int)`);
      await refused(c.q(`INSERT INTO ${SCHEMA}.multi VALUES (1); SELECT 1 / 0`), "22012");
      equal(await number(c, `SELECT count(*) FROM ${SCHEMA}.multi`), 0);
    }),

  named_prepared: (d) =>
    two(d, async (a, b) => {
      const doubled = (i) => a.raw.query({ name: "doubled", text: "SELECT $1::int * 2 AS x", values: [i] });
      for (let i = 0; i < 20; i += 1) {
        equal((await doubled(i)).rows, [{ x: 2 * i }]);
        await elsewhere(b, async () => equal((await doubled(i)).rows, [{ x: 2 * i }]));
      }
    }),

  prepared_after_ddl: (d) =>
    two(d, async (a, b) => {
      await b.q(`CREATE TABLE ${SCHEMA}.ddl (id int)`);
      await b.q(`INSERT INTO ${SCHEMA}.ddl VALUES (1)`);
      const all = (name) => a.raw.query({ name, text: `SELECT * FROM ${SCHEMA}.ddl`, rowMode: "array" });
      equal((await all("before")).rows, [[1]]);
      await b.q(`ALTER TABLE ${SCHEMA}.ddl ADD COLUMN more int`);
      const failure = await refused(all("before"), "0A000");
      check(failure.message.includes("cached plan"), failure.message);
      equal((await all("after")).rows, [[1, null]]);
    }),

  prepared_many: (d) =>
    one(d, async (c) => {
      for (let round = 0; round < 2; round += 1)
        for (let i = 0; i < 300; i += 1) {
          const { rows } = await c.raw.query({ name: `n${i}`, text: `SELECT $1::int + ${i} AS x`, values: [1] });
          equal(rows, [{ x: 1 + i }]);
        }
    }),

  cursor: (d) =>
    one(d, async (c) => {
      await c.tx(async (t) => {
        await t.q("DECLARE pieces CURSOR FOR SELECT i FROM generate_series(1, 1000) i");
        const found = [];
        for (let rows = await t.q("FETCH 70 FROM pieces"); rows.length > 0; rows = await t.q("FETCH 70 FROM pieces"))
          found.push(...rows);
        equal(found.length, 1000);
        await t.q("CLOSE pieces");
      });
      equal(await c.q("SELECT 1"), [[1]]);
    }),

  cursor_fetch_portal: (d) =>
    one(d, async (c) => {
      const sql = "SELECT i FROM generate_series(1, $1::int) i";
      await c.tx(async () => {
        const cursor = c.raw.query(new Cursor(sql, [1000]));
        let found = 0;
        for (let rows = await cursor.read(50); rows.length > 0; rows = await cursor.read(50)) found += rows.length;
        equal(found, 1000);
        await cursor.close();
        const early = c.raw.query(new Cursor(sql, [1000]));
        equal((await early.read(5)).length, 5);
        await early.close();
      });
      // Outside a transaction too: the portal lives until the Sync, which pg-cursor sends at its end.
      const stream = c.raw.query(new QueryStream(sql, [1000], { batchSize: 50 }));
      let found = 0;
      for await (const _ of stream) found += 1;
      equal(found, 1000);
      equal(await c.q("SELECT 1"), [[1]]);
    }),

  copy_in: (d) =>
    one(d, async (c) => {
      await c.q(`CREATE TABLE ${SCHEMA}.copied (id int, t text)`);
      const copy = () => c.raw.query(copyFrom(`COPY ${SCHEMA}.copied FROM STDIN`));
      const rows = function* () {
        for (let i = 0; i < 20_000; i += 1) yield `${i}\tä\n`;
      };
      await streamed(Readable.from(rows()), copy());
      await streamed(bytes(""), copy());
      equal((await c.q(`SELECT count(*), sum(id) FROM ${SCHEMA}.copied`))[0].map(Number), [20_000, 199_990_000]);
    }),

  copy_out: (d) =>
    one(d, async (c) => {
      const out = c.raw.query(copyTo("COPY (SELECT i, 'ä' FROM generate_series(1, 20000) i) TO STDOUT"));
      let text = "";
      for await (const piece of out.setEncoding("utf8")) text += piece;
      equal(text.trimEnd().split("\n").length, 20_000);
      check(text.endsWith("20000\tä\n"), "the last row");
      equal(await c.q("SELECT 1"), [[1]]);
    }),

  copy_in_error: (d) =>
    one(d, async (c) => {
      await c.q(`CREATE TABLE ${SCHEMA}.refused (id int)`);
      const copy = () => c.raw.query(copyFrom(`COPY ${SCHEMA}.refused FROM STDIN`));
      await refused(streamed(bytes("1\n2\nthree\n"), copy()), "22P02");
      equal(await number(c, `SELECT count(*) FROM ${SCHEMA}.refused`), 0);
      const aborted = copy();
      aborted.on("error", () => {});
      aborted.write("1\n");
      aborted.destroy();
      equal(await number(c, `SELECT count(*) FROM ${SCHEMA}.refused`), 0);
    }),

  listen_notify: (d) =>
    two(d, async (a, b) => {
      const channel = `${SCHEMA}_channel`;
      const heard = [];
      a.raw.on("notification", (notification) => heard.push(notification));
      await a.q(`LISTEN ${channel}`);
      const pid = await b.tx(async (t) => {
        await t.q(`NOTIFY ${channel}, 'payload ä'`);
        return value(t, "SELECT pg_backend_pid()");
      });
      if (heard.length === 0) await once(a.raw, "notification");
      const seen = heard.map((each) => [each.channel, each.payload, each.processId]);
      equal(seen, [[channel, "payload ä", pid]]);
      await a.q(`UNLISTEN ${channel}`);
      await b.q(`NOTIFY ${channel}`);
      await a.q("SELECT 1");
      await sleep(200);
      equal(heard.length, 1);
    }),

  cancel: (d) =>
    one(d, async (c) => {
      // What pg does for query_timeout is local; a cancel request is on a connection of its own.
      const sleeping = c.q("SELECT pg_sleep(15)");
      sleeping.catch(() => {});
      await sleep(500);
      const canceller = new pg.Client(options());
      canceller.on("error", () => {});
      canceller.cancel(c.raw, c.raw._getActiveQuery());
      await refused(sleeping, "57014");
      equal(await c.q("SELECT 1"), [[1]]);
    }),

  ssl: async (d) => {
    const c = await d.connect({ tls: true });
    check(c.raw.connection.stream.encrypted && c.raw.connection.stream.authorized, "encrypted and verified");
    equal(await c.q("SELECT 1"), [[1]]);
    await c.close();
  },

  binary_types: (d) =>
    one(d, async (c) => {
      const when = new Date("2026-02-03T04:05:06.789Z");
      const samples = [
        ["int2", -32768],
        ["int4", 2 ** 31 - 1],
        ["int8", "-9223372036854775808"],
        ["float8", 1.5e-300],
        ["float8", Number.POSITIVE_INFINITY],
        ["numeric", "1234567890123456789012345678.901234567891"],
        ["bytea", Buffer.from(Array.from({ length: 256 }, (_, i) => i))],
        ["timestamptz", when],
        ["uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
        ["jsonb", { a: [1, null, "ä"] }],
        ["bool", true],
        ["int4[]", [1, 2, null]],
        ["timestamptz[]", [when]],
        ["int4range", "[1,10)"],
      ];
      for (const [type, sample] of samples) equal(await value(c, `SELECT $1::${type}`, sample), sample, type);
    }),

  notices: (d) =>
    one(d, async (c) => {
      const heard = [];
      c.raw.on("notice", ({ severity, message }) => heard.push([severity, message]));
      await c.q("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$");
      equal(heard, [
        ["NOTICE", "one"],
        ["WARNING", "two"],
      ]);
    }),

  backend_pid: (d) =>
    one(d, async (c) => {
      for (let i = 0; i < 3; i += 1) equal(await value(c, "SELECT pg_backend_pid()"), c.raw.processID);
    }),

  pool: async () => {
    const pool = track(Object.assign(new pg.Pool({ ...options(), max: 3 }), { drop() {} }));
    pool.on("error", () => {});
    await pool.query(`CREATE TABLE ${SCHEMA}.pooled (id int)`);
    const work = async (id) => {
      for (let i = 0; i < 20; i += 1) {
        equal((await pool.query("SELECT $1::int AS x", [id])).rows, [{ x: id }]);
        const client = await pool.connect();
        await client.query("BEGIN");
        await client.query(`INSERT INTO ${SCHEMA}.pooled VALUES ($1)`, [id]);
        await client.query(i % 2 === 0 ? "COMMIT" : "ROLLBACK");
        client.release();
      }
    };
    await Promise.all(Array.from({ length: 8 }, (_, id) => work(id)));
    equal((await pool.query(`SELECT count(*)::int AS n FROM ${SCHEMA}.pooled`)).rows, [{ n: 80 }]);
    // The pool resets nothing: a setting stays with the connection that made it.
    const client = await pool.connect();
    await client.query("SET timezone TO 'Asia/Tokyo'");
    const id = client.processID;
    client.release();
    const again = [];
    for (let i = 0; i < 3; i += 1) again.push(await pool.connect());
    for (const each of again) {
      const zone = (await each.query("SHOW timezone")).rows[0].TimeZone;
      equal(zone === "Asia/Tokyo", each.processID === id, "the connection with the setting");
      each.release(true);
    }
    await pool.end();
  },

  isolation_levels: async (d) => {
    await one(d, async (c) => {
      await c.q("BEGIN ISOLATION LEVEL SERIALIZABLE");
      equal(await value(c, "SHOW transaction_isolation"), "serializable");
      await c.q("COMMIT");
    });
    await common.isolation_levels(d);
  },

  pipeline: (d) =>
    one(d, async (c) => {
      // pg sends a query when the one before it is done, unless it is told to pipeline.
      const client = track(new Connection(new pg.Client({ ...options(), pipeline: true })));
      client.raw.on("error", () => {});
      await client.raw.connect();
      check(client.raw.pipeline === true, "this version pipelines");
      const rows = await Promise.all(Array.from({ length: 100 }, (_, i) => value(client, "SELECT $1::int", i)));
      equal(
        rows,
        Array.from({ length: 100 }, (_, i) => i),
      );
      await c.q(`CREATE TABLE ${SCHEMA}.pipelined (id int)`);
      const settled = await Promise.allSettled([
        client.q(`INSERT INTO ${SCHEMA}.pipelined VALUES ($1)`, 1),
        client.q("SELECT 1 / $1::int", 0),
        client.q(`INSERT INTO ${SCHEMA}.pipelined VALUES ($1)`, 3),
      ]);
      equal(
        settled.map(({ status, reason }) => (status === "rejected" ? sqlstateOf(reason) : status)),
        ["fulfilled", "22012", "fulfilled"],
      );
      equal(await c.q(`SELECT id FROM ${SCHEMA}.pipelined ORDER BY id`), [[1], [3]]);
      await client.close();
    }),
};

const skips = { large_objects: "pg has no interface to large objects", orm_schema: "not an ORM" };

await main(driver, { ...common, ...own }, skips);
