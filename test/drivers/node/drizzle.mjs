// Drizzle (https://orm.drizzle.team) over node-postgres or postgres.js: `drizzle.mjs pg | postgres.js`.

import { count, eq, gt, sql } from "drizzle-orm";
import { drizzle as overPg } from "drizzle-orm/node-postgres";
import * as pgCore from "drizzle-orm/pg-core";
import { drizzle as overPostgres } from "drizzle-orm/postgres-js";
import { relations } from "drizzle-orm/relations";
import pg from "pg";
import postgres from "postgres";
import { common, elsewhere, number, one, two, value } from "./common.mjs";
import { check, environment, equal, main, refused, SCHEMA, track } from "./harness.mjs";

const below = process.argv[2];
const schema = pgCore.pgSchema(SCHEMA);
const authors = schema.table("authors", {
  id: pgCore.serial("id").primaryKey(),
  name: pgCore.varchar("name", { length: 50 }).notNull().unique("authors_name_key"),
  born: pgCore.timestamp("born", { withTimezone: true }),
});
const books = schema.table("books", {
  id: pgCore.serial("id").primaryKey(),
  title: pgCore.text("title").notNull(),
  details: pgCore.jsonb("details").notNull(),
  authorId: pgCore
    .integer("author_id")
    .notNull()
    .references(() => authors.id),
});
const tables = {
  authors,
  books,
  authorsRelations: relations(authors, ({ many }) => ({ books: many(books) })),
  booksRelations: relations(books, ({ one: single }) => ({
    author: single(authors, { fields: [books.authorId], references: [authors.id] }),
  })),
};

const whereTo = ({ user, password, database } = {}) => ({
  host: environment.PGHOST,
  port: Number(environment.PGPORT),
  user: user ?? environment.PGUSER,
  password: password ?? environment.PGPASSWORD,
  database: database ?? environment.PGDATABASE,
});

/** Puts values into a text with $1, $2, … as Drizzle's template would have them. */
function statement(text, values) {
  const pieces = text.split(/\$\d+/);
  if (pieces.length !== values.length + 1) return sql.raw(text);
  return pieces.reduce(
    (all, piece, i) => (i === 0 ? sql.raw(piece) : sql`${all}${values[i - 1]}${sql.raw(piece)}`),
    sql``,
  );
}

class Connection {
  constructor(db, ends) {
    this.db = db;
    this.ends = ends;
  }

  async q(text, ...values) {
    const result = await this.db.execute(statement(text, values));
    return (result.rows ?? [...result]).map((row) => Object.values(row));
  }

  tx(work) {
    return this.db.transaction((t) => work(new Connection(t, this.ends)));
  }

  close() {
    return this.ends.close();
  }

  drop() {
    return this.ends.drop();
  }
}

async function connectPg({ settings = {}, ...how } = {}) {
  const { application_name, statement_timeout, ...others } = settings;
  const options = Object.entries(others).map(([name, setting]) => `-c ${name}=${setting}`);
  const client = new pg.Client({ ...whereTo(how), application_name, statement_timeout, options: options.join(" ") });
  client.on("error", () => {});
  const ends = { close: () => client.end(), drop: () => client.connection.stream.destroy() };
  const connection = track(new Connection(overPg(client, { schema: tables }), ends));
  await client.connect();
  return connection;
}

async function connectPostgres({ settings = {}, ...how } = {}) {
  const client = postgres({ ...whereTo(how), max: 1, connection: settings, onnotice: () => {} });
  const ends = { close: () => client.end({ timeout: 5 }), drop: () => client.end({ timeout: 0 }) };
  return track(new Connection(overPostgres(client, { schema: tables }), ends));
}

/** Drizzle wraps what its driver throws. */
const thrown = (error) => (error.cause === undefined ? error : thrown(error.cause));

const driver = {
  connect: below === "pg" ? connectPg : connectPostgres,
  fields: (error) => {
    const found = thrown(error);
    return {
      detail: found.detail ?? null,
      constraint: found.constraint ?? found.constraint_name ?? null,
      table: found.table ?? found.table_name ?? null,
      schema: found.schema ?? found.schema_name ?? null,
      position: found.position ?? null,
    };
  },
};

const own = {
  parameters_null_and_arrays: (d) =>
    one(d, async (c) => {
      equal(await value(c, "SELECT CAST($1 AS text)", null), null);
      equal(await value(c, "SELECT CAST($1 AS text)", ""), "");
      const large = "äx".repeat(400_000);
      check((await value(c, "SELECT CAST($1 AS text)", large)) === large, "1 MB came back");
    }),

  named_prepared: (d) =>
    two(d, async (a, b) => {
      const prepared = a.db
        .select({ x: sql`${sql.placeholder("i")}::int * 2` })
        .from(sql`generate_series(1, 1)`)
        .prepare("doubled");
      for (let i = 0; i < 20; i += 1) {
        equal(await prepared.execute({ i }), [{ x: 2 * i }]);
        await elsewhere(b, async () => equal(await prepared.execute({ i }), [{ x: 2 * i }]));
      }
    }),

  savepoints: (d) =>
    one(d, async (c) => {
      await c.q(`CREATE TABLE ${SCHEMA}.nested (id int)`);
      await c.tx(async (t) => {
        await t.q(`INSERT INTO ${SCHEMA}.nested VALUES (1)`);
        const inner = t.tx(async (s) => {
          await s.q(`INSERT INTO ${SCHEMA}.nested VALUES (2)`);
          throw new Error("back");
        });
        await inner.catch((error) => equal(error.message, "back"));
        await t.tx((s) => s.q(`INSERT INTO ${SCHEMA}.nested VALUES (3)`));
      });
      equal(await c.q(`SELECT id FROM ${SCHEMA}.nested ORDER BY id`), [[1], [3]]);
    }),

  isolation_levels: (d) =>
    one(d, async (c) => {
      const how = { isolationLevel: "serializable", accessMode: "read only" };
      await c.db.transaction(async (t) => {
        equal(await value(new Connection(t), "SHOW transaction_isolation"), "serializable");
        equal(await value(new Connection(t), "SHOW transaction_read_only"), "on");
      }, how);
      equal(await value(c, "SHOW transaction_isolation"), "read committed");
    }),

  orm_schema: (d) =>
    one(d, async (c) => {
      const { db } = c;
      await c.q(`CREATE TABLE ${SCHEMA}.authors (id serial PRIMARY KEY,
        name varchar(50) NOT NULL CONSTRAINT authors_name_key UNIQUE, born timestamptz)`);
      await c.q(`CREATE TABLE ${SCHEMA}.books (id serial PRIMARY KEY, title text NOT NULL, details jsonb NOT NULL,
        author_id int NOT NULL REFERENCES ${SCHEMA}.authors)`);
      const born = new Date("1999-12-31T23:59:59Z");
      const made = await db
        .insert(authors)
        .values(Array.from({ length: 50 }, (_, i) => ({ name: `author ${i}`, born })))
        .returning();
      equal(made.length, 50);
      await db
        .insert(books)
        .values(made.flatMap(({ id }) => [1, 2, 3].map((k) => ({ title: `book ${k}`, details: { k }, authorId: id }))));
      const found = await db.query.authors.findMany({ with: { books: true }, orderBy: authors.id });
      equal(
        found.map((author) => author.books.length),
        Array(50).fill(3),
      );
      equal(found[0].born, born);
      equal(found[0].books[0].details, { k: 1 });
      const changing = db.transaction(async (t) => {
        await t.delete(books).where(gt(books.id, 10));
        t.rollback();
      });
      await changing.catch((error) => check(/rollback/i.test(error.message), error.message));
      equal(await db.select({ n: count() }).from(books), [{ n: 150 }]);
      await db.update(authors).set({ name: "renamed" }).where(eq(authors.id, made[0].id));
      await refused(db.insert(authors).values({ name: "renamed" }), "23505");
      const upserted = await db
        .insert(authors)
        .values({ name: "renamed" })
        .onConflictDoUpdate({ target: authors.name, set: { name: "again" } })
        .returning({ id: authors.id });
      equal(upserted, [{ id: made[0].id }]);
      await c.q(`DROP TABLE ${SCHEMA}.books, ${SCHEMA}.authors`);
      equal(
        await number(
          c,
          "SELECT count(*)::int FROM pg_class WHERE relname = 'authors' AND relnamespace = $1::regnamespace",
          SCHEMA,
        ),
        0,
      );
    }),
};

const skipped = (reason, names) => Object.fromEntries(names.split(" ").map((name) => [name, reason]));
const skips = {
  ...skipped(
    "Drizzle has no interface for it; its driver is run by itself",
    "multi_statement prepared_after_ddl prepared_many pipeline cursor cursor_fetch_portal copy_in copy_out copy_in_error listen_notify cancel ssl large_objects binary_types notices backend_pid pool",
  ),
};
if (below !== "pg") skips.error_in_transaction = "postgres.js, below, ends a transaction in which anything failed";

/** What node-postgres leaves to the statement: savepoints by SQL, and what postgres.js does not allow. */
await main(driver, { ...common, ...own }, skips);
