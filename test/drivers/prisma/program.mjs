// Prisma's client (https://www.prisma.io/docs/orm), which queries through node-postgres: raw queries, interactive transactions, and
// its models.

import { PrismaPg } from "@prisma/adapter-pg";
import { common, number, one, value } from "./common.mjs";
import { PrismaClient } from "./generated/client.ts";
import { check, environment, equal, main, refused, SCHEMA, track } from "./harness.mjs";

class Connection {
  constructor(client, whole) {
    this.raw = client;
    this.whole = whole ?? client;
  }

  async q(text, ...values) {
    const rows = await this.raw.$queryRawUnsafe(text, ...values);
    return rows.map((row) => Object.values(row));
  }

  tx(work) {
    return this.raw.$transaction((t) => work(new Connection(t, this.whole)), { maxWait: 15_000, timeout: 15_000 });
  }

  close() {
    return this.whole.$disconnect();
  }

  drop() {
    return this.whole.$disconnect();
  }
}

const driver = {
  connect: async ({ user, password, database, settings = {} } = {}) => {
    const { application_name, statement_timeout, ...others } = settings;
    const options = Object.entries(others).map(([name, setting]) => `-c ${name}=${setting}`);
    const adapter = new PrismaPg(
      {
        host: environment.PGHOST,
        port: Number(environment.PGPORT),
        user: user ?? environment.PGUSER,
        password: password ?? environment.PGPASSWORD,
        database: database ?? environment.PGDATABASE,
        max: 1,
        application_name,
        statement_timeout,
        options: options.join(" "),
      },
      { schema: SCHEMA },
    );
    return track(new Connection(new PrismaClient({ adapter })));
  },
};

const own = {
  errors: (d) =>
    one(d, async (c) => {
      await c.q(`CREATE TABLE ${SCHEMA}.errors (id int CONSTRAINT errors_key PRIMARY KEY)`);
      await c.q(`INSERT INTO ${SCHEMA}.errors VALUES (1)`);
      // It tells a unique violation by columns, and other errors by code and message.
      await refused(c.q(`INSERT INTO ${SCHEMA}.errors VALUES (1)`), "23505");
      await refused(c.q("SELEC 1"), "42601");
      await refused(c.q("SELECT 1 / 0"), "22012");
      equal(await c.q("SELECT 1"), [[1]]);
    }),

  isolation_levels: (d) =>
    one(d, async (c) => {
      await c.raw.$transaction(
        async (t) => equal(await value(new Connection(t), "SHOW transaction_isolation"), "serializable"),
        { isolationLevel: "Serializable" },
      );
      equal(await value(c, "SHOW transaction_isolation"), "read committed");
    }),

  pipeline: (d) =>
    one(d, async (c) => {
      const sums = await c.raw.$transaction(
        Array.from({ length: 20 }, (_, i) => c.raw.$queryRawUnsafe("SELECT CAST($1 AS int) + 1 AS x", i)),
      );
      equal(
        sums.map(([{ x }]) => x),
        Array.from({ length: 20 }, (_, i) => i + 1),
      );
    }),

  orm_schema: (d) =>
    one(d, async (c) => {
      const db = c.raw;
      await c.q(`CREATE TABLE ${SCHEMA}."Author" (id serial PRIMARY KEY, name varchar(50) NOT NULL UNIQUE)`);
      await c.q(`CREATE TABLE ${SCHEMA}."Book" (id serial PRIMARY KEY, title text NOT NULL, details jsonb NOT NULL,
        "authorId" int NOT NULL REFERENCES ${SCHEMA}."Author")`);
      for (let i = 0; i < 20; i += 1) {
        const books = { create: [1, 2, 3].map((k) => ({ title: `book ${k}`, details: { k } })) };
        await db.author.create({ data: { name: `author ${i}`, books } });
      }
      const found = await db.author.findMany({
        include: { books: { orderBy: { id: "asc" } } },
        orderBy: { id: "asc" },
      });
      equal(
        found.map((author) => author.books.length),
        Array(20).fill(3),
      );
      equal(found[0].books[2].details, { k: 3 });
      const changing = db.$transaction(async (t) => {
        await t.book.deleteMany();
        throw new Error("back");
      });
      await changing.catch((error) => equal(error.message, "back"));
      equal(await db.book.count({ where: { author: { name: { startsWith: "author 1" } } } }), 33);
      await db.author.update({ where: { id: found[0].id }, data: { name: "renamed" } });
      const twice = await db.author.create({ data: { name: "renamed" } }).then(
        () => null,
        (error) => error,
      );
      equal(twice?.code, "P2002", "a unique violation in Prisma's words");
      const upserted = await db.author.upsert({
        where: { name: "renamed" },
        update: { name: "again" },
        create: { name: "x" },
      });
      equal(upserted.id, found[0].id);
      check((await number(c, `SELECT count(*) FROM ${SCHEMA}."Author"`)) === 20, "20 authors");
      await c.q(`DROP TABLE ${SCHEMA}."Book", ${SCHEMA}."Author"`);
    }),
};

const skipped = (reason, names) => Object.fromEntries(names.split(" ").map((name) => [name, reason]));
const skips = {
  ...skipped(
    "Prisma has no interface for it; its driver is run by itself",
    "multi_statement named_prepared prepared_after_ddl prepared_many cursor cursor_fetch_portal copy_in copy_out copy_in_error listen_notify cancel ssl large_objects binary_types notices backend_pid pool",
  ),
  read_only_session: "after a statement that failed it takes another connection, and what was SET is gone",
  close_midway: "a client can only be closed when its transactions are over",
};

await main(driver, { ...common, ...own }, skips);
