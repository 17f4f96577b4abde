// Scenarios that need nothing of a driver but connections, statements, transactions and SQLSTATEs.
//
// A driver is { connect({ user, password, database, settings, tls }), fields(error) }; a connection is
//   q(sql, ...values)  rows as arrays; placeholders are $1, $2, …
//   tx(work)           a transaction by the driver's own means; work(t) uses t.q(…); it rolls back what throws
//   close(), drop()    politely, and at once

import { check, equal, refused, SCHEMA, sleep } from "./harness.mjs";

const TEXT = 'it\'s "quoted" \\ back ä€😀 %s $1 ?';

/** `work` with new connections, one for each description of how to connect. */
export async function connected(driver, hows, work) {
  const connections = [];
  for (const how of hows) connections.push(await driver.connect(how));
  const result = await work(...connections);
  for (const connection of connections) await connection.close();
  return result;
}
export const one = (driver, work) => connected(driver, [{}], work);
export const two = (driver, work) => connected(driver, [{}, {}], work);

/** While another connection is inside a transaction, the server that was used last is taken. */
export const elsewhere = (other, work) =>
  other.tx(async (t) => {
    await t.q("SELECT 1");
    return work();
  });

export const value = async (connection, sql, ...values) => (await connection.q(sql, ...values))[0]?.[0];
/** count(*) and sum() are bigint, which drivers represent in three ways. */
export const number = async (connection, sql, ...values) => Number(await value(connection, sql, ...values));

export const common = {
  simple_query: (driver) =>
    one(driver, async (c) => {
      equal(await c.q("SELECT 1"), [[1]]);
      equal((await c.q("SELECT i, NULL FROM generate_series(1, 2000) i")).length, 2000);
      equal(await c.q("SELECT NULL"), [[null]]);
      equal(await value(c, "SELECT 'it''s \"quoted\" \\ back ä€😀'"), 'it\'s "quoted" \\ back ä€😀');
    }),

  extended_query: (driver) =>
    one(driver, async (c) => {
      equal(await c.q("SELECT CAST($1 AS int) + 1 AS a, CAST($2 AS text) || '!' AS b", 41, TEXT), [[42, `${TEXT}!`]]);
    }),

  parameters_null_and_arrays: (driver) =>
    one(driver, async (c) => {
      equal(await value(c, "SELECT CAST($1 AS text)", null), null);
      equal(await value(c, "SELECT CAST($1 AS text)", ""), "");
      equal(await value(c, "SELECT CAST($1 AS int[])", [1, 2, 3]), [1, 2, 3]);
      const texts = ["a", 'b"c', "d,e", "{f}", "\\", "", "NULL"];
      equal(await value(c, "SELECT CAST($1 AS text[])", texts), texts);
      equal(await value(c, "SELECT CAST($1 AS int[])", []), []);
      const large = "äx".repeat(400_000);
      check((await value(c, "SELECT CAST($1 AS text)", large)) === large, "1 MB came back");
    }),

  unnamed_prepared: (driver) =>
    two(driver, async (a, b) => {
      for (let i = 0; i < 20; i += 1) {
        equal(await value(a, `SELECT CAST($1 AS int) + ${i}`, 1), 1 + i);
        equal(await value(b, `SELECT CAST($1 AS int) + ${i + 1}`, 1), 2 + i);
      }
    }),

  errors: (driver) =>
    one(driver, async (c) => {
      await c.q(`CREATE TABLE ${SCHEMA}.errors (id int CONSTRAINT errors_key PRIMARY KEY)`);
      await c.q(`INSERT INTO ${SCHEMA}.errors VALUES (1)`);
      const fields = driver.fields(await refused(c.q(`INSERT INTO ${SCHEMA}.errors VALUES (1)`), "23505"));
      equal(fields, {
        detail: "Key (id)=(1) already exists.",
        constraint: "errors_key",
        table: "errors",
        schema: SCHEMA,
        position: null,
      });
      equal(await c.q("SELECT 1"), [[1]]);
      equal(driver.fields(await refused(c.q("SELEC 1"), "42601")).position, "1");
      await refused(c.q("SELECT 1 / 0"), "22012");
      equal(await c.q("SELECT 1"), [[1]]);
    }),

  error_in_transaction: (driver) =>
    one(driver, async (c) => {
      await c.q(`CREATE TABLE ${SCHEMA}.failed (id int)`);
      const failing = c.tx(async (t) => {
        await t.q(`INSERT INTO ${SCHEMA}.failed VALUES (1)`);
        await refused(t.q("SELECT 1 / 0"), "22012");
        await refused(t.q("SELECT 1"), "25P02");
        throw new Error("roll back");
      });
      const message = await failing.catch((error) => error.message);
      check(/roll back|22012|division/i.test(message), String(message));
      equal(await number(c, `SELECT count(*) FROM ${SCHEMA}.failed`), 0);
      await c.tx((t) => t.q(`INSERT INTO ${SCHEMA}.failed VALUES (2)`));
      equal(await c.q(`SELECT id FROM ${SCHEMA}.failed`), [[2]]);
    }),

  savepoints: (driver) =>
    one(driver, async (c) => {
      await c.q(`CREATE TABLE ${SCHEMA}.saved (id int PRIMARY KEY)`);
      await c.tx(async (t) => {
        await t.q(`INSERT INTO ${SCHEMA}.saved VALUES (1)`);
        await t.q("SAVEPOINT one");
        await t.q(`INSERT INTO ${SCHEMA}.saved VALUES (2)`);
        await refused(t.q(`INSERT INTO ${SCHEMA}.saved VALUES (1)`), "23505");
        await t.q("ROLLBACK TO SAVEPOINT one");
        await t.q(`INSERT INTO ${SCHEMA}.saved VALUES (3)`);
        await t.q("RELEASE SAVEPOINT one");
      });
      equal(await c.q(`SELECT id FROM ${SCHEMA}.saved ORDER BY id`), [[1], [3]]);
    }),

  set_show: (driver) =>
    two(driver, async (a, b) => {
      const wanted = [
        [a, { search_path: `${SCHEMA}, pg_catalog`, timezone: "Asia/Tokyo", work_mem: "5MB" }],
        [b, { search_path: "pg_catalog", timezone: "America/New_York", work_mem: "7MB" }],
      ];
      for (const [c, settings] of wanted)
        for (const [name, setting] of Object.entries(settings))
          await c.q(`SET ${name} TO ${name === "search_path" ? setting : `'${setting}'`}`);
      for (let i = 0; i < 20; i += 1)
        for (const [c, settings] of wanted)
          for (const [name, setting] of Object.entries(settings))
            equal(await value(c, `SHOW ${name}`), setting, `${name}, round ${i}`);
      await elsewhere(b, async () => equal(await value(a, "SHOW timezone"), "Asia/Tokyo"));
    }),

  set_local: (driver) =>
    two(driver, async (a, b) => {
      const before = await value(a, "SHOW work_mem");
      await a.tx(async (t) => {
        await t.q("SET LOCAL work_mem TO '9MB'");
        equal(await value(t, "SHOW work_mem"), "9MB");
        equal(await value(b, "SHOW work_mem"), before);
      });
      equal(await value(a, "SHOW work_mem"), before);
      equal(await value(b, "SHOW work_mem"), before);
    }),

  startup_options: (driver) => {
    const settings = {
      application_name: "drivers' own",
      search_path: SCHEMA,
      statement_timeout: 345,
      timezone: "Asia/Kolkata",
    };
    return connected(driver, [{ settings }, {}], async (a, b) => {
      for (let i = 0; i < 2; i += 1) {
        for (const [name, setting] of Object.entries({ ...settings, statement_timeout: "345ms" }))
          equal(await value(a, `SHOW ${name}`), setting, name);
        check((await value(b, "SHOW timezone")) !== "Asia/Kolkata", "the setting of another connection");
      }
      await elsewhere(b, async () => equal(await value(a, "SHOW timezone"), "Asia/Kolkata"));
      await a.q("SET timezone TO 'UTC'");
      await a.q("SET search_path TO pg_catalog");
      equal(await value(a, "SHOW timezone"), "UTC");
      await a.q("RESET timezone");
      await a.q("RESET search_path");
      equal(await value(a, "SHOW timezone"), "Asia/Kolkata");
      equal(await value(a, "SHOW search_path"), SCHEMA);
      await refused(a.q("SELECT pg_sleep(5)"), "57014");
      equal(await a.q("SELECT 1"), [[1]]);
    });
  },

  temp_tables: (driver) =>
    two(driver, async (...pair) => {
      for (const [index, c] of pair.entries()) {
        await c.q("CREATE TEMP TABLE mine (id int)");
        await c.q(`INSERT INTO mine VALUES (${index})`);
      }
      for (let i = 0; i < 5; i += 1)
        for (const [index, c] of pair.entries()) equal(await c.q("SELECT id FROM mine"), [[index]]);
      for (const c of pair) await c.q("DROP TABLE mine");
    }),

  advisory_locks: (driver) =>
    two(driver, async (a, b) => {
      const key = process.pid;
      await a.q(`SELECT pg_advisory_lock(${key})::text`);
      for (let i = 0; i < 3; i += 1) {
        equal(await value(b, `SELECT pg_try_advisory_lock(${key})`), false);
        equal(await a.q("SELECT 1"), [[1]]);
      }
      equal(await value(a, `SELECT pg_advisory_unlock(${key})`), true);
      equal(await value(b, `SELECT pg_try_advisory_lock(${key})`), true);
      equal(await value(b, `SELECT pg_advisory_unlock(${key})`), true);
    }),

  with_hold_cursor: (driver) =>
    two(driver, async (a, b) => {
      await a.tx((t) => t.q("DECLARE held CURSOR WITH HOLD FOR SELECT i FROM generate_series(1, 10) i"));
      equal(await a.q("FETCH 3 FROM held"), [[1], [2], [3]]);
      await elsewhere(b, async () => equal(await a.q("FETCH 2 FROM held"), [[4], [5]]));
      await a.q("CLOSE held");
      await refused(a.q("FETCH 1 FROM held"), "34000");
    }),

  sql_prepare: (driver) =>
    two(driver, async (a, b) => {
      await a.q("PREPARE doubled (int) AS SELECT 2 * $1");
      for (let i = 0; i < 3; i += 1)
        await elsewhere(b, async () => equal(await a.q(`EXECUTE doubled(${i})`), [[2 * i]]));
      await a.q("DEALLOCATE doubled");
      await refused(a.q("EXECUTE doubled(1)"), "26000");
    }),

  isolation_levels: (driver) =>
    two(driver, async (a, b) => {
      await a.tx(async (t) => {
        await t.q("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE");
        equal(await value(t, "SHOW transaction_isolation"), "serializable");
      });
      equal(await value(a, "SHOW transaction_isolation"), "read committed");
      await a.q("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ");
      for (let i = 0; i < 3; i += 1) {
        await a.tx(async (t) => equal(await value(t, "SHOW transaction_isolation"), "repeatable read"));
        await b.tx(async (t) => equal(await value(t, "SHOW transaction_isolation"), "read committed"));
      }
    }),

  read_only_session: (driver) =>
    two(driver, async (a, b) => {
      await b.q(`CREATE TABLE ${SCHEMA}.read_only (id int)`);
      await a.q("SET default_transaction_read_only TO on");
      for (let i = 0; i < 2; i += 1) {
        await refused(a.q(`INSERT INTO ${SCHEMA}.read_only VALUES (1)`), "25006");
        await b.q(`INSERT INTO ${SCHEMA}.read_only VALUES (2)`);
      }
      await a.q("SET default_transaction_read_only TO off");
      await a.q(`INSERT INTO ${SCHEMA}.read_only VALUES (3)`);
      equal(await number(a, `SELECT count(*) FROM ${SCHEMA}.read_only`), 3);
    }),

  two_phase: (driver) =>
    two(driver, async (a, b) => {
      await a.q(`CREATE TABLE ${SCHEMA}.two_phase (id int)`);
      // PREPARE TRANSACTION ends it: what the driver sends after it is a COMMIT of nothing.
      await a.tx(async (t) => {
        await t.q(`INSERT INTO ${SCHEMA}.two_phase VALUES (1)`);
        await t.q(`PREPARE TRANSACTION '${SCHEMA}'`);
      });
      equal(await number(b, `SELECT count(*) FROM ${SCHEMA}.two_phase`), 0);
      await b.q(`COMMIT PREPARED '${SCHEMA}'`);
      equal(await number(a, `SELECT count(*) FROM ${SCHEMA}.two_phase`), 1);
    }),

  reconnect: async (driver) => {
    const c = await driver.connect();
    const lost = await c.q("SELECT pg_terminate_backend(pg_backend_pid())").then(
      () =>
        c.q("SELECT 1").then(
          () => null,
          (error) => error,
        ),
      (error) => error,
    );
    check(lost !== null, "nothing was lost");
    await one(driver, async (again) => equal(await again.q("SELECT 1"), [[1]]));
  },

  wrong_password: async (driver) => {
    await refused(async () => (await driver.connect({ password: "wrong" })).q("SELECT 1"), "28P01");
  },

  unknown_database: async (driver) => {
    await refused(async () => (await driver.connect({ database: "no_such_database" })).q("SELECT 1"), "3D000");
  },

  concurrency: async (driver) => {
    await one(driver, async (c) => {
      await c.q(`CREATE TABLE ${SCHEMA}.sums (id int PRIMARY KEY, sum int NOT NULL)`);
      await c.q(`INSERT INTO ${SCHEMA}.sums SELECT i, 0 FROM generate_series(0, 19) i`);
    });
    const work = (id) =>
      one(driver, async (c) => {
        for (let i = 1; i <= 50; i += 1)
          await c.tx(async (t) => {
            await t.q(`UPDATE ${SCHEMA}.sums SET sum = sum + CAST($1 AS int) WHERE id = CAST($2 AS int)`, id, id);
            equal(await t.q(`SELECT id, sum FROM ${SCHEMA}.sums WHERE id = $1`, id), [[id, id * i]]);
          });
      });
    await Promise.all(Array.from({ length: 20 }, (_, id) => work(id)));
    await one(driver, async (c) => {
      const expected = Array.from({ length: 20 }, (_, id) => [id, 50 * id]);
      equal(await c.q(`SELECT id, sum FROM ${SCHEMA}.sums ORDER BY id`), expected);
    });
  },

  close_midway: async (driver) => {
    await one(driver, (c) => c.q(`CREATE TABLE ${SCHEMA}.midway (id int)`));
    const a = await driver.connect();
    const dropped = a.tx(async (t) => {
      await t.q(`LOCK TABLE ${SCHEMA}.midway IN ACCESS EXCLUSIVE MODE`);
      await t.q(`INSERT INTO ${SCHEMA}.midway VALUES (1)`);
      await a.drop();
      await t.q("SELECT 1");
    });
    dropped.catch(() => {});
    await sleep(100);
    await one(driver, async (b) => {
      for (let left = 100; left > 0; left -= 1) {
        const lock = b.tx((t) => t.q(`LOCK TABLE ${SCHEMA}.midway IN ACCESS EXCLUSIVE MODE NOWAIT`));
        const failure = await lock.then(
          () => null,
          (error) => error,
        );
        if (failure === null) break;
        await refused(Promise.reject(failure), "55P03");
        check(left > 1, "the lock is still held");
        await sleep(50);
      }
      equal(await number(b, `SELECT count(*) FROM ${SCHEMA}.midway`), 0);
    });
  },
};
