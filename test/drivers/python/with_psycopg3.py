"""psycopg 3 (https://www.psycopg.org/psycopg3/docs/), both of its flavours: `sync` blocks, `async` awaits; the calls are the
same but for that."""

import asyncio
import contextlib
import decimal
import datetime
import re
import sys
import threading
import uuid

import psycopg
import psycopg_pool
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

import harness
from common import COMMON, SCHEMA, connected, elsewhere, two, value
from harness import check, environment, equal, finished, refused

ENVIRONMENT = environment()
PREDEFINED = {"application_name"}


def libpq(user=None, password=None, database=None, settings=None, tls=False):
    """Keywords of a connection string; settings that are no keywords go into `options`."""
    words = {
        "host": ENVIRONMENT["PGHOST"],
        "port": ENVIRONMENT["PGPORT"],
        "user": user or ENVIRONMENT["PGUSER"],
        "password": password or ENVIRONMENT["PGPASSWORD"],
        "dbname": database or ENVIRONMENT["PGDATABASE"],
        "sslmode": "verify-full" if tls else "prefer",
    }
    if tls:
        words["sslrootcert"] = ENVIRONMENT["PGSSLROOTCERT"]
    else:
        # libpq takes the variable of the contract for itself, and would verify with it.
        words["sslrootcert"] = "/nonexistent"
    settings = dict(settings or {})
    for name in PREDEFINED & settings.keys():
        words[name] = settings.pop(name)
    if settings:
        words["options"] = " ".join(f"-c {name}={setting}" for name, setting in settings.items())
    return words


@contextlib.asynccontextmanager
async def entered(context):
    """`async with` for contexts of either flavour."""
    if hasattr(context, "__aenter__"):
        async with context as inner:
            yield inner
    else:
        with context as inner:
            yield inner


class Connection:
    def __init__(self, raw):
        self.raw = raw

    async def q(self, sql, *values, **how):
        if values:
            sql = re.sub(r"\$\d+", "%s", sql)
        cursor = await finished(self.raw.execute(sql, values or None, **how))
        return await finished(cursor.fetchall()) if cursor.description else []

    def tx(self):
        return entered(self.raw.transaction())

    async def close(self):
        await finished(self.raw.close())

    async def drop(self):
        """Closes the socket under libpq."""
        import os

        os.close(self.raw.fileno())


class Driver:
    def __init__(self, flavour):
        self.connection_class = psycopg.Connection if flavour == "sync" else psycopg.AsyncConnection
        self.pool_class = psycopg_pool.ConnectionPool if flavour == "sync" else psycopg_pool.AsyncConnectionPool
        self.sync = flavour == "sync"

    async def connect(self, **how):
        return Connection(await finished(self.connection_class.connect(**libpq(**how), autocommit=True)))

    async def administer(self, sql):
        async with connected(self) as c:
            await c.q(sql)

    @staticmethod
    def sqlstate(error):
        found = getattr(error, "sqlstate", None)
        if found is None and isinstance(error, psycopg.OperationalError):
            # What libpq hears while connecting has no SQLSTATE in its interface.
            for words, state in (("password authentication failed", "28P01"), ("does not exist", "3D000")):
                if words in str(error):
                    return state
        return found

    @staticmethod
    def fields(error):
        d = error.diag
        return {
            "detail": d.message_detail,
            "constraint": d.constraint_name,
            "table": d.table_name,
            "schema": d.schema_name,
            "position": d.statement_position,
        }

    async def all_at_once(self, works):
        if not self.sync:
            await asyncio.gather(*works)
            return
        failed = []

        def run(work):
            try:
                asyncio.run(work)
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=run, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in failed:
            raise error


async def multi_statement(driver):
    async with connected(driver) as c:
        cursor = await finished(c.raw.execute("SELECT 1; SELECT 2"))
        equal(await finished(cursor.fetchall()), [(1,)])
        check(cursor.nextset(), "a second result")
        equal(await finished(cursor.fetchall()), [(2,)])
        await c.q(f"CREATE TABLE {SCHEMA}.multi (id int)")
        await refused(c.q(f"INSERT INTO {SCHEMA}.multi VALUES (1); SELECT 1 / 0"), "22012", driver.sqlstate)
        equal(await value(c, f"SELECT count(*) FROM {SCHEMA}.multi"), 0)


async def named_prepared(driver):
    async with two(driver) as (a, b):
        for i in range(20):
            equal(await a.q("SELECT $1::int * 2", i, prepare=True), [(2 * i,)])
            async with elsewhere(b):
                equal(await a.q("SELECT $1::int * 2", i, prepare=True), [(2 * i,)])


async def prepared_after_ddl(driver):
    async with two(driver) as (a, b):
        await b.q(f"CREATE TABLE {SCHEMA}.ddl (id int)")
        await b.q(f"INSERT INTO {SCHEMA}.ddl VALUES (1)")
        sql = f"SELECT * FROM {SCHEMA}.ddl WHERE id = $1"
        equal(await a.q(sql, 1, prepare=True), [(1,)])
        await b.q(f"ALTER TABLE {SCHEMA}.ddl ADD COLUMN more int")
        try:
            rows = await a.q(sql, 1, prepare=True)
        except psycopg.errors.FeatureNotSupported as error:
            check("cached plan" in str(error), str(error))
            await a.q("DEALLOCATE ALL")
            rows = await a.q(sql, 1, prepare=True)
        equal(rows, [(1, None)])


async def prepared_many(driver):
    async with connected(driver) as c:
        c.raw.prepared_max = 1000
        for _ in range(2):
            for i in range(300):
                equal(await c.q(f"SELECT $1::int + {i}", 1, prepare=True), [(1 + i,)])


async def pipeline(driver):
    async with connected(driver) as c:
        async with entered(c.raw.pipeline()):
            cursors = [await finished(c.raw.execute("SELECT %s::int", (i,))) for i in range(100)]
            equal([(await finished(cursor.fetchone()))[0] for cursor in cursors], list(range(100)))
        await c.q(f"CREATE TABLE {SCHEMA}.pipelined (id int)")

        async def failing():
            async with entered(c.raw.pipeline()) as p:
                await finished(c.raw.execute(f"INSERT INTO {SCHEMA}.pipelined VALUES (1)"))
                await finished(p.sync())
                await finished(c.raw.execute(f"INSERT INTO {SCHEMA}.pipelined VALUES (2)"))
                await finished(c.raw.execute("SELECT 1 / 0"))
                await finished(c.raw.execute(f"INSERT INTO {SCHEMA}.pipelined VALUES (3)"))

        await refused(failing(), "22012", driver.sqlstate)
        equal(await c.q(f"SELECT id FROM {SCHEMA}.pipelined"), [(1,)])
        # In a transaction, with prepared statements, as executemany() does it.
        async with c.tx():
            cursor = c.raw.cursor()
            await finished(cursor.executemany(f"INSERT INTO {SCHEMA}.pipelined VALUES (%s)", [(i,) for i in range(500)]))
        equal(await value(c, f"SELECT count(*) FROM {SCHEMA}.pipelined"), 501)


async def cursor(driver):
    async with connected(driver) as c:
        async with c.tx():
            async with entered(c.raw.cursor(name="pieces")) as pieces:
                await finished(pieces.execute("SELECT i FROM generate_series(1, 1000) i"))
                found = []
                while piece := await finished(pieces.fetchmany(70)):
                    found += [row[0] for row in piece]
                equal(found, list(range(1, 1001)))
            async with entered(c.raw.cursor(name="early")) as early:
                await finished(early.execute("SELECT i FROM generate_series(1, 1000) i"))
                equal(await finished(early.fetchone()), (1,))
        equal(await c.q("SELECT 1"), [(1,)])


async def copy_in(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.copied (id int, t text)")
        cursor = c.raw.cursor()
        async with entered(cursor.copy(f"COPY {SCHEMA}.copied FROM STDIN")) as copy:
            for i in range(20_000):
                await finished(copy.write_row((i, "t\tä\n")))
        equal(await c.q(f"SELECT count(*), sum(id) FROM {SCHEMA}.copied"), [(20_000, 199_990_000)])
        async with entered(cursor.copy(f"COPY {SCHEMA}.copied FROM STDIN (FORMAT BINARY)")) as copy:
            copy.set_types(["int4", "text"])
            for i in range(100):
                await finished(copy.write_row((i, "x")))
        async with entered(cursor.copy(f"COPY {SCHEMA}.copied FROM STDIN")):
            pass
        equal(await value(c, f"SELECT count(*) FROM {SCHEMA}.copied"), 20_100)


async def copy_out(driver):
    async with connected(driver) as c:
        cursor = c.raw.cursor()
        found = []
        async with entered(cursor.copy("COPY (SELECT i, 'ä' FROM generate_series(1, 20000) i) TO STDOUT")) as copy:
            rows = copy.rows()
            if driver.sync:
                found = list(rows)
            else:
                found = [row async for row in rows]
        equal(len(found), 20_000)
        equal(found[-1], ("20000", "ä"))
        equal(await c.q("SELECT 1"), [(1,)])


async def copy_in_error(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.refused (id int)")
        cursor = c.raw.cursor()

        async def bad():
            async with entered(cursor.copy(f"COPY {SCHEMA}.refused FROM STDIN")) as copy:
                await finished(copy.write("1\n2\nthree\n4\n"))

        async def aborted():
            async with entered(cursor.copy(f"COPY {SCHEMA}.refused FROM STDIN")) as copy:
                await finished(copy.write("1\n2\n"))
                raise ZeroDivisionError("the client's own")

        await refused(bad(), "22P02", driver.sqlstate)
        with contextlib.suppress(ZeroDivisionError):
            await aborted()
        equal(await value(c, f"SELECT count(*) FROM {SCHEMA}.refused"), 0)


async def listen_notify(driver):
    async def next_of(c, seconds):
        notifications = c.raw.notifies(timeout=seconds, stop_after=1)
        return list(notifications) if driver.sync else [each async for each in notifications]

    async with two(driver) as (a, b):
        await a.q(f"LISTEN {SCHEMA}_channel")
        async with b.tx():
            await b.q(f"NOTIFY {SCHEMA}_channel, 'payload ä'")
            pid = await value(b, "SELECT pg_backend_pid()")
        found = await next_of(a, 5)
        equal([(each.channel, each.payload, each.pid) for each in found], [(f"{SCHEMA}_channel", "payload ä", pid)])
        await a.q(f"UNLISTEN {SCHEMA}_channel")
        await b.q(f"NOTIFY {SCHEMA}_channel")
        equal(await next_of(a, 0.3), [])


async def cancel(driver):
    async with connected(driver) as c:
        def soon():
            import time

            time.sleep(0.5)
            asyncio.run(cancel_now())

        async def cancel_now():
            await finished(c.raw.cancel_safe(timeout=5))

        thread = threading.Thread(target=soon) if driver.sync else None
        if thread is not None:
            thread.start()
            await refused(c.q("SELECT pg_sleep(15)"), "57014", driver.sqlstate)
            thread.join()
        else:
            sleeping = asyncio.ensure_future(c.q("SELECT pg_sleep(15)"))
            await asyncio.sleep(0.5)
            await cancel_now()
            await refused(sleeping, "57014", driver.sqlstate)
        equal(await c.q("SELECT 1"), [(1,)])


async def ssl(driver):
    async with connected(driver, tls=True) as c:
        check(c.raw.pgconn.ssl_in_use, "encrypted")
        equal(await c.q("SELECT 1"), [(1,)])


async def binary_types(driver):
    when = datetime.datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=datetime.timezone.utc)
    samples = [
        ("int2", -32768), ("int4", 2**31 - 1), ("int8", -(2**63)), ("float8", 1.5e-300), ("float8", float("inf")),
        ("numeric", decimal.Decimal("1234567890123456789012345678.901234567891")), ("bytea", bytes(range(256))),
        ("timestamptz", when), ("date", datetime.date(1999, 12, 31)), ("interval", datetime.timedelta(days=3, seconds=4)),
        ("uuid", uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")), ("bool", True),
        ("int4[]", [1, 2, None]), ("text[]", ["a", "b,c"]), ("timestamptz[]", [when]), ("int4range", Range(1, 10)),
    ]
    async with connected(driver) as c:
        for binary in (False, True):
            for name, sample in samples:
                cursor = c.raw.cursor(binary=binary)
                await finished(cursor.execute(f"SELECT %{'b' if binary else 't'}::{name}", (sample,)))
                equal((await finished(cursor.fetchone()))[0], sample, f"{name} binary={binary}")
            cursor = c.raw.cursor(binary=binary)
            await finished(cursor.execute("SELECT %s::jsonb, 'NaN'::float8", (Jsonb({"a": [1, None, "ä"]}),)))
            row = await finished(cursor.fetchone())
            equal(row[0], {"a": [1, None, "ä"]})
            check(row[1] != row[1], "NaN")


async def notices(driver):
    async with connected(driver) as c:
        heard = []
        c.raw.add_notice_handler(lambda notice: heard.append((notice.severity, notice.message_primary)))
        await c.q("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
        equal(heard, [("NOTICE", "one"), ("WARNING", "two")])


async def backend_pid(driver):
    async with connected(driver) as c:
        for _ in range(3):
            equal(await value(c, "SELECT pg_backend_pid()"), c.raw.info.backend_pid)


async def two_phase(driver):
    async with two(driver) as (a, b):
        await a.q(f"CREATE TABLE {SCHEMA}.two_phase (id int)")
        await finished(a.raw.set_autocommit(False))
        xid = a.raw.xid(1, SCHEMA, "branch")
        await finished(a.raw.tpc_begin(xid))
        await a.q(f"INSERT INTO {SCHEMA}.two_phase VALUES (1)")
        await finished(a.raw.tpc_prepare())
        await finished(a.raw.tpc_commit())
        equal(await value(b, f"SELECT count(*) FROM {SCHEMA}.two_phase"), 1)
        await finished(a.raw.tpc_begin(a.raw.xid(1, SCHEMA, "other")))
        await a.q(f"INSERT INTO {SCHEMA}.two_phase VALUES (2)")
        await finished(a.raw.tpc_prepare())
        found = [each for each in await finished(b.raw.tpc_recover()) if each.gtrid == SCHEMA]
        equal(len(found), 1)
        await finished(b.raw.set_autocommit(True))
        await finished(b.raw.tpc_rollback(found[0]))
        equal(await value(b, f"SELECT count(*) FROM {SCHEMA}.two_phase"), 1)


async def read_only_session(driver):
    async with two(driver) as (a, b):
        await b.q(f"CREATE TABLE {SCHEMA}.read_only (id int)")
        await finished(a.raw.set_autocommit(False))
        await finished(a.raw.set_read_only(True))
        for _ in range(2):
            await refused(a.q(f"INSERT INTO {SCHEMA}.read_only VALUES (1)"), "25006", driver.sqlstate)
            await finished(a.raw.rollback())
            await b.q(f"INSERT INTO {SCHEMA}.read_only VALUES (2)")
        await finished(a.raw.set_read_only(False))
        await a.q(f"INSERT INTO {SCHEMA}.read_only VALUES (3)")
        await finished(a.raw.commit())
        await finished(a.raw.set_autocommit(True))
    await COMMON["read_only_session"](Renamed(driver))


class Renamed:
    """The driver with the tables of its statements under other names."""

    def __init__(self, driver):
        self.driver = driver
        self.sqlstate = driver.sqlstate

    async def connect(self, **how):
        connection = await self.driver.connect(**how)
        q = connection.q
        connection.q = lambda sql, *values: q(sql.replace(".read_only", ".read_only_by_sql"), *values)
        return connection


async def isolation_levels(driver):
    async with connected(driver) as c:
        await finished(c.raw.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE))
        async with c.tx():
            equal(await value(c, "SHOW transaction_isolation"), "serializable")
        equal(await value(c, "SHOW transaction_isolation"), "read committed")
    await COMMON["isolation_levels"](driver)


async def pool(driver):
    pool = driver.pool_class(kwargs=libpq(), min_size=1, max_size=3, open=False)
    await finished(pool.open(wait=True, timeout=10))
    try:
        async with entered(pool.connection()) as raw:
            await finished(raw.execute(f"CREATE TABLE {SCHEMA}.pooled (id int)"))
        for i in range(10):
            with contextlib.suppress(ZeroDivisionError):
                async with entered(pool.connection()) as raw:
                    await finished(raw.execute(f"INSERT INTO {SCHEMA}.pooled VALUES (%s)", (i,)))
                    if i % 2 == 1:
                        raise ZeroDivisionError
            async with entered(pool.connection()) as first, entered(pool.connection()) as second:
                for raw in (first, second):
                    row = await finished((await finished(raw.execute(f"SELECT count(*) FROM {SCHEMA}.pooled"))).fetchone())
                    equal(row[0], i // 2 + 1)
        # What is left open is rolled back when it is given back.
        raw = await finished(pool.getconn())
        await finished(raw.execute(f"INSERT INTO {SCHEMA}.pooled VALUES (100)"))
        await finished(pool.putconn(raw))
        async with entered(pool.connection()) as raw:
            row = await finished((await finished(raw.execute(f"SELECT count(*) FROM {SCHEMA}.pooled"))).fetchone())
            equal(row[0], 5)
    finally:
        await finished(pool.close())


OWN = {
    work.__name__: work
    for work in (
        multi_statement, named_prepared, prepared_after_ddl, prepared_many, pipeline, cursor, copy_in, copy_out, copy_in_error,
        listen_notify, cancel, ssl, binary_types, notices, backend_pid, two_phase, read_only_session, isolation_levels, pool,
    )
}

SKIPS = {
    "cursor_fetch_portal": "libpq has no row limit",
    "large_objects": "psycopg 3 has no interface to large objects",
    "orm_schema": "not an ORM",
}

if __name__ == "__main__":
    harness.main(Driver(sys.argv[1]), COMMON | OWN, SKIPS)
