"""asyncpg (https://magicstack.github.io/asyncpg/): binary, extended protocol, a cache of named statements by default."""

import asyncio
import contextlib
import datetime
import decimal
import io
import json
import ssl as tls_of_python
import uuid

import asyncpg

import harness
from common import COMMON, SCHEMA, connected, elsewhere, two, value
from harness import check, environment, equal, refused

ENVIRONMENT = environment()


def arguments(user=None, password=None, database=None, settings=None, tls=False):
    """Arguments of asyncpg.connect()."""
    return {
        "host": ENVIRONMENT["PGHOST"],
        "port": int(ENVIRONMENT["PGPORT"]),
        "user": user or ENVIRONMENT["PGUSER"],
        "password": password or ENVIRONMENT["PGPASSWORD"],
        "database": database or ENVIRONMENT["PGDATABASE"],
        "server_settings": settings,
        "ssl": tls_of_python.create_default_context(cafile=ENVIRONMENT["PGSSLROOTCERT"]) if tls else "prefer",
    }


class Connection:
    def __init__(self, raw):
        self.raw = raw

    async def q(self, sql, *values):
        return [tuple(row) for row in await self.raw.fetch(sql, *values)]

    def tx(self):
        return self.raw.transaction()

    async def close(self):
        await self.raw.close(timeout=5)

    async def drop(self):
        self.raw.terminate()


class Driver:
    async def connect(self, **how):
        return Connection(await asyncpg.connect(**arguments(**how)))

    async def administer(self, sql):
        async with connected(self) as c:
            await c.q(sql)

    @staticmethod
    def sqlstate(error):
        return getattr(error, "sqlstate", None)

    @staticmethod
    def fields(error):
        return {
            "detail": error.detail,
            "constraint": error.constraint_name,
            "table": error.table_name,
            "schema": error.schema_name,
            "position": error.position,
        }

    @staticmethod
    async def all_at_once(works):
        await asyncio.gather(*works)


async def simple_query(driver):
    async with connected(driver) as c:
        equal(await c.raw.execute("SELECT 1"), "SELECT 1")
        equal(await c.raw.fetch(""), [])
        equal(await c.raw.execute("SELECT i, NULL FROM generate_series(1, 2000) i"), "SELECT 2000")
    await COMMON["simple_query"](driver)


async def multi_statement(driver):
    async with connected(driver) as c:
        equal(await c.raw.execute("SELECT 1; SELECT 2 FROM generate_series(1, 2)"), "SELECT 2")
        await c.q(f"CREATE TABLE {SCHEMA}.multi (id int)")
        await refused(c.raw.execute(f"INSERT INTO {SCHEMA}.multi VALUES (1); SELECT 1 / 0"), "22012", driver.sqlstate)
        equal(await value(c, f"SELECT count(*) FROM {SCHEMA}.multi"), 0)


async def unnamed_prepared(driver):
    a, b = await asyncpg.connect(**arguments(), statement_cache_size=0), await asyncpg.connect(**arguments())
    try:
        for i in range(20):
            equal(await a.fetchval(f"SELECT $1::int + {i}", 1), 1 + i)
            equal(await b.fetchval(f"SELECT $1::int + {i + 1}", 1), 2 + i)
    finally:
        await a.close()
        await b.close()
    await COMMON["unnamed_prepared"](driver)


async def named_prepared(driver):
    async with two(driver) as (a, b):
        doubled = await a.raw.prepare("SELECT $1::int * 2")
        named = await a.raw.prepare("SELECT $1::int * 3", name="my own name")
        for i in range(20):
            equal(await doubled.fetchval(i), 2 * i)
            equal(await named.fetchval(i), 3 * i)
            async with elsewhere(b):
                equal(await doubled.fetchval(i), 2 * i)
                equal(await named.fetchval(i), 3 * i)


async def prepared_after_ddl(driver):
    async with two(driver) as (a, b):
        await b.q(f"CREATE TABLE {SCHEMA}.ddl (id int)")
        await b.q(f"INSERT INTO {SCHEMA}.ddl VALUES (1)")
        sql = f"SELECT * FROM {SCHEMA}.ddl WHERE id = $1"
        equal(await a.q(sql, 1), [(1,)])
        prepared = await a.raw.prepare(sql)
        # Preparing sends no Sync: until it is executed its locks are held, directly too.
        equal(len(await prepared.fetch(1)), 1)
        await b.q(f"ALTER TABLE {SCHEMA}.ddl ADD COLUMN more int")
        # Outside a transaction asyncpg prepares again by itself.
        equal(await a.q(sql, 1), [(1, None)])
        with contextlib.suppress(asyncpg.InvalidCachedStatementError):
            await prepared.fetch(1)
        await b.q(f"ALTER TABLE {SCHEMA}.ddl DROP COLUMN more")
        try:
            async with a.tx():
                rows = await a.q(sql, 1)
        except asyncpg.InvalidCachedStatementError:
            rows = await a.q(sql, 1)
        equal(rows, [(1,)])


async def prepared_many(driver):
    async with connected(driver) as c:
        statements = [await c.raw.prepare(f"SELECT $1::int + {i}") for i in range(300)]
        for _ in range(2):
            for i, statement in enumerate(statements):
                equal(await statement.fetchval(1), 1 + i)


async def pipeline(driver):
    """executemany() sends many executions before it reads an answer; all of them or none."""
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.pipelined (id int PRIMARY KEY)")
        insert = f"INSERT INTO {SCHEMA}.pipelined VALUES ($1)"
        await c.raw.executemany(insert, [(i,) for i in range(2000)])
        again = c.raw.executemany(insert, [(i,) for i in range(3000, 1000, -1)])
        await refused(again, "23505", driver.sqlstate)
        equal(await value(c, f"SELECT count(*) FROM {SCHEMA}.pipelined"), 2000)


async def cursor(driver):
    async with connected(driver) as c:
        async with c.tx():
            pieces = await c.raw.cursor("SELECT i FROM generate_series(1, 1000) i")
            equal(len(await pieces.fetch(70)), 70)
            await pieces.forward(30)
            equal((await pieces.fetchrow())[0], 101)
        equal(await c.q("SELECT 1"), [(1,)])


async def cursor_fetch_portal(driver):
    async with connected(driver) as c:
        async with c.tx():
            found = [row[0] async for row in c.raw.cursor("SELECT i FROM generate_series(1, $1) i", 1000, prefetch=50)]
            equal(found, list(range(1, 1001)))
            equal(len(await c.raw.fetch("SELECT generate_series(1, 10)")), 10)
            statement = await c.raw.prepare("SELECT i FROM generate_series(1, 10) i")
            equal((await statement.fetchrow())[0], 1)
        equal(await c.raw.fetchval("SELECT i FROM generate_series(5, 1000) i"), 5)


async def copy_in(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.copied (id int, t text)")
        to = {"schema_name": SCHEMA, "table_name": "copied"}
        tag = await c.raw.copy_records_to_table("copied", schema_name=SCHEMA, records=[(i, "ä\t") for i in range(20_000)])
        equal(tag, "COPY 20000")
        equal(await c.q(f"SELECT count(*), sum(id) FROM {SCHEMA}.copied"), [(20_000, 199_990_000)])
        equal(await c.raw.copy_to_table(**to, source=io.BytesIO(b"1\tx\n")), "COPY 1")
        equal(await c.raw.copy_to_table(**to, source=io.BytesIO(b"")), "COPY 0")


async def copy_out(driver):
    async with connected(driver) as c:
        into = io.BytesIO()
        await c.raw.copy_from_query("SELECT i, 'ä' FROM generate_series(1, 20000) i", output=into)
        lines = into.getvalue().decode().splitlines()
        equal((len(lines), lines[-1]), (20_000, "20000\tä"))
        equal(await c.q("SELECT 1"), [(1,)])


async def copy_in_error(driver):
    async def failing():
        yield b"1\n2\n"
        raise ZeroDivisionError("the client's own")

    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.refused (id int)")
        copy = lambda source: c.raw.copy_to_table("refused", schema_name=SCHEMA, source=source)
        await refused(copy(io.BytesIO(b"1\n2\nthree\n")), "22P02", driver.sqlstate)
        with contextlib.suppress(ZeroDivisionError):
            await copy(failing())
        equal(await value(c, f"SELECT count(*) FROM {SCHEMA}.refused"), 0)


async def listen_notify(driver):
    async with two(driver) as (a, b):
        heard = asyncio.Queue()
        hear = lambda _connection, pid, channel, payload: heard.put_nowait((pid, channel, payload))
        await a.raw.add_listener(f"{SCHEMA}_channel", hear)
        async with b.tx():
            await b.q(f"SELECT pg_notify('{SCHEMA}_channel', 'payload ä')")
            pid = await value(b, "SELECT pg_backend_pid()")
        equal(await asyncio.wait_for(heard.get(), 5), (pid, f"{SCHEMA}_channel", "payload ä"))
        await a.raw.remove_listener(f"{SCHEMA}_channel", hear)
        await b.q(f"NOTIFY {SCHEMA}_channel")
        await a.q("SELECT 1")
        check(heard.empty(), "nothing after UNLISTEN")


async def cancel(driver):
    async with connected(driver) as c:
        await refused_by_timeout(c)
        sleeping = asyncio.ensure_future(c.q("SELECT pg_sleep(15)"))
        await asyncio.sleep(0.5)
        sleeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sleeping
        equal(await c.q("SELECT 1"), [(1,)])


async def refused_by_timeout(c):
    """asyncpg's timeouts are cancel requests."""
    try:
        await c.raw.fetch("SELECT pg_sleep(15)", timeout=0.5)
        raise AssertionError("no timeout")
    except TimeoutError:
        pass
    equal(await c.q("SELECT 1"), [(1,)])


async def ssl(driver):
    async with connected(driver, tls=True) as c:
        check(c.raw._transport.get_extra_info("ssl_object") is not None, "encrypted")
        equal(await c.q("SELECT 1"), [(1,)])


async def binary_types(driver):
    when = datetime.datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=datetime.timezone.utc)
    samples = [
        ("int2", -32768), ("int4", 2**31 - 1), ("int8", -(2**63)), ("float8", 1.5e-300), ("float8", float("inf")),
        ("numeric", decimal.Decimal("1234567890123456789012345678.901234567891")), ("bytea", bytes(range(256))),
        ("timestamptz", when), ("date", datetime.date(1999, 12, 31)), ("interval", datetime.timedelta(days=3, seconds=4)),
        ("uuid", uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")), ("bool", True), ("int4[]", [1, 2, None]),
        ("text[]", ["a", "b,c"]), ("timestamptz[]", [when]), ("int4range", asyncpg.Range(1, 10)), ("jsonb", '{"a": [1, null]}'),
        ("point", asyncpg.Point(1, 2)), ("inet", __import__("ipaddress").ip_interface("10.0.0.1/8")),
    ]
    async with connected(driver) as c:
        for name, sample in samples:
            equal(await value(c, f"SELECT $1::{name}", sample), sample, name)
        nan = await value(c, "SELECT $1::float8", float("nan"))
        check(nan != nan, "NaN")
        # A type that asyncpg has to look up, in the middle of other statements.
        await c.q(f"CREATE TYPE {SCHEMA}.mood AS ENUM ('sad', 'happy')")
        await c.q(f"CREATE TYPE {SCHEMA}.pair AS (m {SCHEMA}.mood, n int[])")
        equal(tuple(await value(c, f"SELECT $1::{SCHEMA}.pair", ("sad", [1]))), ("sad", [1]))
        await c.raw.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        equal(await value(c, "SELECT $1::jsonb", {"a": 1}), {"a": 1})


async def notices(driver):
    async with connected(driver) as c:
        heard = []
        c.raw.add_log_listener(lambda _connection, message: heard.append((message.severity, message.message)))
        await c.raw.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
        await c.q("SELECT 1")
        equal(heard, [("NOTICE", "one"), ("WARNING", "two")])


async def backend_pid(driver):
    async with connected(driver) as c:
        for _ in range(3):
            equal(await value(c, "SELECT pg_backend_pid()"), c.raw.get_server_pid())


async def isolation_levels(driver):
    async with connected(driver) as c:
        async with c.raw.transaction(isolation="serializable", readonly=True, deferrable=True):
            equal(await value(c, "SHOW transaction_isolation"), "serializable")
            equal(await value(c, "SHOW transaction_read_only"), "on")
        equal(await value(c, "SHOW transaction_isolation"), "read committed")
    await COMMON["isolation_levels"](driver)


async def savepoints(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.nested (id int)")
        async with c.tx():
            await c.q(f"INSERT INTO {SCHEMA}.nested VALUES (1)")
            with contextlib.suppress(ZeroDivisionError):
                async with c.tx():
                    await c.q(f"INSERT INTO {SCHEMA}.nested VALUES (2)")
                    raise ZeroDivisionError
            async with c.tx():
                await c.q(f"INSERT INTO {SCHEMA}.nested VALUES (3)")
        equal(await c.q(f"SELECT id FROM {SCHEMA}.nested ORDER BY 1"), [(1,), (3,)])
    await COMMON["savepoints"](driver)


async def pool(driver):
    async with asyncpg.create_pool(**arguments(), min_size=1, max_size=3) as pool:
        async with pool.acquire() as raw:
            before = await raw.fetchval("SHOW timezone")
            await raw.execute(f"CREATE TABLE {SCHEMA}.pooled (id int)")
            # What its reset undoes: settings, listening, advisory locks, cursors.
            await raw.execute("SET timezone TO 'Asia/Tokyo'")
            await raw.execute(f"SELECT pg_advisory_lock({id(pool) % 2**31})")
            await raw.execute(f"LISTEN {SCHEMA}_pooled")
        async with pool.acquire() as first, pool.acquire() as second, pool.acquire() as third:
            for raw in (first, second, third):
                equal(await raw.fetchval("SHOW timezone"), before)
                equal(await raw.fetchval("SELECT count(*) FROM pg_listening_channels()"), 0)
                equal(await raw.fetchval(f"SELECT pg_try_advisory_lock({id(pool) % 2**31})"), True)
                await raw.execute(f"SELECT pg_advisory_unlock({id(pool) % 2**31})")

        async def work(number):
            for _ in range(20):
                async with pool.acquire() as raw, raw.transaction():
                    await raw.execute(f"INSERT INTO {SCHEMA}.pooled VALUES ($1)", number)
                equal(await pool.fetchval("SELECT $1::int", number), number)

        await asyncio.gather(*(work(number) for number in range(8)))
        equal(await pool.fetchval(f"SELECT count(*) FROM {SCHEMA}.pooled"), 160)


OWN = {
    work.__name__: work
    for work in (
        simple_query, multi_statement, unnamed_prepared, named_prepared, prepared_after_ddl, prepared_many, pipeline, cursor,
        cursor_fetch_portal, copy_in, copy_out, copy_in_error, listen_notify, cancel, ssl, binary_types, notices, backend_pid,
        isolation_levels, savepoints, pool,
    )
}

SKIPS = {"large_objects": "asyncpg has no interface to large objects", "orm_schema": "not an ORM"}

if __name__ == "__main__":
    harness.main(Driver(), COMMON | OWN, SKIPS)
