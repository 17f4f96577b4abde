"""psycopg2 (https://www.psycopg.org/docs/): libpq's simple protocol, values interpolated by the client."""

import asyncio
import contextlib
import datetime
import decimal
import io
import os
import re
import select
import threading
import uuid

import psycopg2
import psycopg2.extras
import psycopg2.pool
from psycopg2.extensions import ISOLATION_LEVEL_DEFAULT, ISOLATION_LEVEL_SERIALIZABLE

import harness
from common import COMMON, SCHEMA, connected, two, value
from harness import check, equal, refused
from with_psycopg3 import Driver as Psycopg3, libpq

psycopg2.extras.register_uuid()


class Connection:
    def __init__(self, raw):
        self.raw = raw

    async def q(self, sql, *values):
        with self.raw.cursor() as cursor:
            cursor.execute(re.sub(r"\$\d+", "%s", sql) if values else sql, values or None)
            return cursor.fetchall() if cursor.description else []

    @contextlib.asynccontextmanager
    async def tx(self):
        self.raw.autocommit = False
        try:
            with self.raw:
                yield
        finally:
            if not self.raw.closed:
                self.raw.autocommit = True

    async def close(self):
        self.raw.close()

    async def drop(self):
        os.close(self.raw.fileno())


class Driver(Psycopg3):
    def __init__(self):
        super().__init__("sync")

    async def connect(self, **how):
        raw = psycopg2.connect(**libpq(**how))
        raw.autocommit = True
        return Connection(raw)

    @staticmethod
    def sqlstate(error):
        found = getattr(error, "pgcode", None)
        if found is None:
            for words, state in (("password authentication failed", "28P01"), ("does not exist", "3D000")):
                if words in str(error):
                    return state
        return found


async def multi_statement(driver):
    async with connected(driver) as c:
        equal(await c.q("SELECT 1; SELECT 2"), [(2,)])
        await c.q(f"CREATE TABLE {SCHEMA}.multi (id int)")
        await refused(c.q(f"INSERT INTO {SCHEMA}.multi VALUES (1); SELECT 1 / 0"), "22012", driver.sqlstate)
        equal(await value(c, f"SELECT count(*) FROM {SCHEMA}.multi"), 0)


async def cursor(driver):
    async with connected(driver) as c:
        async with c.tx():
            with c.raw.cursor(name="pieces") as pieces:
                pieces.itersize = 70
                pieces.execute("SELECT i FROM generate_series(1, 1000) i")
                equal([row[0] for row in pieces], list(range(1, 1001)))
            with c.raw.cursor(name="early") as early:
                early.execute("SELECT i FROM generate_series(1, 1000) i")
                equal(early.fetchone(), (1,))
        equal(await c.q("SELECT 1"), [(1,)])


async def with_hold_cursor(driver):
    async with connected(driver) as c:
        async with c.tx():
            held = c.raw.cursor(name="of_the_driver", withhold=True)
            held.execute("SELECT i FROM generate_series(1, 10) i")
        equal(held.fetchmany(3), [(1,), (2,), (3,)])
        held.close()
    await COMMON["with_hold_cursor"](driver)


async def copy_in(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.copied (id int, t text)")
        rows = "".join(f"{i}\tä\n" for i in range(20_000))
        with c.raw.cursor() as cursor:
            cursor.copy_expert(f"COPY {SCHEMA}.copied FROM STDIN", io.StringIO(rows))
            cursor.copy_expert(f"COPY {SCHEMA}.copied FROM STDIN", io.StringIO(""))
        equal(await c.q(f"SELECT count(*), sum(id) FROM {SCHEMA}.copied"), [(20_000, 199_990_000)])


async def copy_out(driver):
    async with connected(driver) as c:
        into = io.StringIO()
        with c.raw.cursor() as cursor:
            cursor.copy_expert("COPY (SELECT i, 'ä' FROM generate_series(1, 20000) i) TO STDOUT", into)
        equal(into.getvalue().splitlines()[-1], "20000\tä")
        equal(len(into.getvalue().splitlines()), 20_000)
        equal(await c.q("SELECT 1"), [(1,)])


async def copy_in_error(driver):
    class Failing(io.StringIO):
        def read(self, *_):
            raise ZeroDivisionError("the client's own")

    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.refused (id int)")
        with c.raw.cursor() as cursor:
            copy = lambda source: cursor.copy_expert(f"COPY {SCHEMA}.refused FROM STDIN", source)
            await refused(lambda: copy(io.StringIO("1\n2\nthree\n")), "22P02", driver.sqlstate)
            try:
                copy(Failing("1\n"))
            except psycopg2.Error as error:
                equal(error.pgcode, "57014")
        equal(await value(c, f"SELECT count(*) FROM {SCHEMA}.refused"), 0)


async def listen_notify(driver):
    async with two(driver) as (a, b):
        await a.q(f"LISTEN {SCHEMA}_channel")
        async with b.tx():
            await b.q(f"NOTIFY {SCHEMA}_channel, 'payload ä'")
            pid = await value(b, "SELECT pg_backend_pid()")
        select.select([a.raw], [], [], 5)
        a.raw.poll()
        found = [(each.channel, each.payload, each.pid) for each in a.raw.notifies]
        equal(found, [(f"{SCHEMA}_channel", "payload ä", pid)])
        a.raw.notifies.clear()
        await a.q(f"UNLISTEN {SCHEMA}_channel")
        await b.q(f"NOTIFY {SCHEMA}_channel")
        select.select([a.raw], [], [], 0.3)
        a.raw.poll()
        equal(len(a.raw.notifies), 0)


async def cancel(driver):
    async with connected(driver) as c:
        timer = threading.Timer(0.5, c.raw.cancel)
        timer.start()
        await refused(c.q("SELECT pg_sleep(15)"), "57014", driver.sqlstate)
        timer.join()
        equal(await c.q("SELECT 1"), [(1,)])


async def ssl(driver):
    async with connected(driver, tls=True) as c:
        check(c.raw.info.ssl_in_use, "encrypted")
        equal(await c.q("SELECT 1"), [(1,)])


async def large_objects(driver):
    async with connected(driver) as c:
        content = bytes(range(256)) * 4000
        async with c.tx():
            large = c.raw.lobject(0, "wb")
            equal(large.write(content), len(content))
            oid = large.oid
            large.close()
        async with c.tx():
            large = c.raw.lobject(oid, "rb")
            large.seek(1000)
            equal(large.read(), content[1000:])
            large.close()
        async with c.tx():
            c.raw.lobject(oid, "n").unlink()
        equal(await value(c, f"SELECT count(*) FROM pg_largeobject_metadata WHERE oid = {oid}"), 0)


async def binary_types(driver):
    when = datetime.datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=datetime.timezone.utc)
    samples = [
        ("int2", -32768), ("int4", 2**31 - 1), ("int8", -(2**63)), ("float8", 1.5e-300), ("float8", float("inf")),
        ("numeric", decimal.Decimal("1234567890123456789012345678.901234567891")), ("timestamptz", when),
        ("date", datetime.date(1999, 12, 31)), ("interval", datetime.timedelta(days=3, seconds=4)),
        ("uuid", uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")), ("bool", True), ("int4[]", [1, 2, None]),
        ("int4range", psycopg2.extras.NumericRange(1, 10)),
    ]
    async with connected(driver) as c:
        for name, sample in samples:
            equal(await value(c, f"SELECT CAST($1 AS {name})", sample), sample, name)
        equal(bytes(await value(c, "SELECT $1::bytea", psycopg2.Binary(bytes(range(256))))), bytes(range(256)))
        equal(await value(c, "SELECT $1::jsonb", psycopg2.extras.Json({"a": [1, None]})), {"a": [1, None]})


async def notices(driver):
    async with connected(driver) as c:
        await c.q("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
        equal(list(c.raw.notices), ["NOTICE:  one\n", "WARNING:  two\n"])


async def backend_pid(driver):
    async with connected(driver) as c:
        for _ in range(3):
            equal(await value(c, "SELECT pg_backend_pid()"), c.raw.info.backend_pid)


async def two_phase(driver):
    async with two(driver) as (a, b):
        await a.q(f"CREATE TABLE {SCHEMA}.two_phase (id int)")
        a.raw.autocommit = False
        a.raw.tpc_begin(a.raw.xid(1, SCHEMA, "branch"))
        await a.q(f"INSERT INTO {SCHEMA}.two_phase VALUES (1)")
        a.raw.tpc_prepare()
        a.raw.tpc_commit()
        equal(await value(b, f"SELECT count(*) FROM {SCHEMA}.two_phase"), 1)
        a.raw.tpc_begin(a.raw.xid(1, SCHEMA, "other"))
        await a.q(f"INSERT INTO {SCHEMA}.two_phase VALUES (2)")
        a.raw.tpc_prepare()
        a.raw.reset()
        found = [each for each in b.raw.tpc_recover() if each.gtrid == SCHEMA]
        equal(len(found), 1)
        b.raw.tpc_rollback(found[0])
        equal(await value(b, f"SELECT count(*) FROM {SCHEMA}.two_phase"), 1)


async def read_only_session(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.by_driver (id int)")
        c.raw.set_session(readonly=True, autocommit=True)
        for _ in range(2):
            await refused(c.q(f"INSERT INTO {SCHEMA}.by_driver VALUES (1)"), "25006", driver.sqlstate)
        c.raw.set_session(readonly=False, autocommit=True)
        await c.q(f"INSERT INTO {SCHEMA}.by_driver VALUES (1)")
    await COMMON["read_only_session"](driver)


async def isolation_levels(driver):
    async with connected(driver) as c:
        c.raw.set_isolation_level(ISOLATION_LEVEL_SERIALIZABLE)
        equal(await value(c, "SHOW transaction_isolation"), "serializable")
        c.raw.rollback()
        c.raw.set_isolation_level(ISOLATION_LEVEL_DEFAULT)
        equal(await value(c, "SHOW transaction_isolation"), "read committed")
        c.raw.rollback()
    await COMMON["isolation_levels"](driver)


async def pool(driver):
    pool = psycopg2.pool.ThreadedConnectionPool(1, 3, **libpq())
    try:
        raw = pool.getconn()
        before = raw.info.parameter_status("TimeZone")
        with raw.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {SCHEMA}.pooled (id int)")
            raw.commit()
            cursor.execute("SET timezone TO 'Asia/Tokyo'")
            raw.commit()
            cursor.execute(f"INSERT INTO {SCHEMA}.pooled VALUES (1)")
        pool.putconn(raw)  # rolls back
        taken = [pool.getconn() for _ in range(3)]
        for raw in taken:
            with raw.cursor() as cursor:
                cursor.execute(f"SELECT count(*) FROM {SCHEMA}.pooled")
                equal(cursor.fetchone(), (0,))
            raw.rollback()
        # connection.reset() is RESET ALL and SET SESSION AUTHORIZATION DEFAULT.
        for raw in taken:
            raw.reset()
            with raw.cursor() as cursor:
                cursor.execute("SHOW timezone")
                equal(cursor.fetchone(), (before,))
            pool.putconn(raw)
    finally:
        pool.closeall()


async def asynchronous(driver):
    """Its asynchronous mode goes other ways through libpq."""
    del driver
    raw = psycopg2.connect(**libpq(), async_=1)
    psycopg2.extras.wait_select(raw)
    cursor = raw.cursor()
    cursor.execute("SELECT 1")
    psycopg2.extras.wait_select(raw)
    equal(cursor.fetchall(), [(1,)])
    raw.close()


async def simple_query(driver):
    await asynchronous(driver)
    await COMMON["simple_query"](driver)


OWN = {
    work.__name__: work
    for work in (
        simple_query, multi_statement, cursor, with_hold_cursor, copy_in, copy_out, copy_in_error, listen_notify, cancel, ssl,
        large_objects, binary_types, notices, backend_pid, two_phase, read_only_session, isolation_levels, pool,
    )
}

SIMPLE = "psycopg2 speaks the simple protocol only"
SKIPS = {
    "extended_query": SIMPLE,
    "unnamed_prepared": SIMPLE,
    "named_prepared": SIMPLE,
    "prepared_after_ddl": SIMPLE,
    "prepared_many": SIMPLE,
    "pipeline": SIMPLE,
    "cursor_fetch_portal": SIMPLE,
    "orm_schema": "not an ORM",
}

if __name__ == "__main__":
    scenarios = {name: work for name, work in (COMMON | OWN).items() if name not in SKIPS}
    harness.main(Driver(), scenarios, SKIPS)
