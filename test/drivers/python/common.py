"""Scenarios that need nothing of a driver but connections, statements, transactions and SQLSTATEs.

A driver is an object with
    connect(user=, password=, database=, settings={name: value}, tls=False)   a connection, in a coroutine
    sqlstate(error)                                                           five characters, or None
and a connection one with
    q(sql, *values)   rows as tuples; placeholders are $1, $2, …, in order and once each
    tx()              an asynchronous context: a transaction by the driver's own means
    close()
"""

import asyncio
import contextlib
import os

from harness import check, environment, equal, refused

SCHEMA = environment()["SCHEMA"]
TEXT = "it's \"quoted\" \\ back ä€😀 %s $1 ?"


@contextlib.asynccontextmanager
async def connected(driver, **how):
    connection = await driver.connect(**how)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def two(driver, first=None, second=None):
    async with connected(driver, **(first or {})) as a, connected(driver, **(second or {})) as b:
        yield a, b


@contextlib.asynccontextmanager
async def elsewhere(other):
    """While another connection is inside a transaction, the server that was used last is taken."""
    async with other.tx():
        await other.q("SELECT 1")
        yield


async def value(connection, sql, *values):
    return (await connection.q(sql, *values))[0][0]


async def simple_query(driver):
    async with connected(driver) as c:
        equal(await c.q("SELECT 1"), [(1,)])
        equal(len(await c.q("SELECT i, NULL FROM generate_series(1, 2000) i")), 2000)
        equal(await c.q("SELECT NULL"), [(None,)])
        quoted = "it''s \"quoted\" \\ back ä€😀"
        equal(await value(c, f"SELECT '{quoted}'"), quoted.replace("''", "'"))


async def extended_query(driver):
    async with connected(driver) as c:
        rows = await c.q("SELECT CAST($1 AS int) + 1, CAST($2 AS text) || '!'", 41, TEXT)
        equal(rows, [(42, TEXT + "!")])


async def parameters_null_and_arrays(driver):
    async with connected(driver) as c:
        equal(await value(c, "SELECT CAST($1 AS text)", None), None)
        equal(await value(c, "SELECT CAST($1 AS text)", ""), "")
        equal(list(await value(c, "SELECT CAST($1 AS int[])", [1, 2, 3])), [1, 2, 3])
        texts = ["a", None, 'b"c', "d,e", "{f}", "\\", "", "NULL"]
        equal(list(await value(c, "SELECT CAST($1 AS text[])", texts)), texts)
        equal(list(await value(c, "SELECT CAST($1 AS int[])", [])), [])
        large = "äx" * 400_000
        equal(await value(c, "SELECT CAST($1 AS text)", large), large)


async def unnamed_prepared(driver):
    async with two(driver) as (a, b):
        for i in range(20):
            for c, shift in ((a, 1), (b, 2)):
                equal(await value(c, f"SELECT CAST($1 AS int) + {shift + i}", i), 2 * i + shift)


async def errors(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.errors (id int CONSTRAINT errors_key PRIMARY KEY)")
        await c.q(f"INSERT INTO {SCHEMA}.errors VALUES (1)")
        twice = await refused(c.q(f"INSERT INTO {SCHEMA}.errors VALUES (1)"), "23505", driver.sqlstate)
        fields = driver.fields(twice)
        equal(fields["detail"], "Key (id)=(1) already exists.")
        equal(fields["constraint"], "errors_key")
        equal(fields["table"], "errors")
        equal(fields["schema"], SCHEMA)
        equal(await c.q("SELECT 1"), [(1,)])
        wrong = await refused(c.q("SELEC 1"), "42601", driver.sqlstate)
        equal(str(driver.fields(wrong)["position"]), "1")
        await refused(c.q("SELECT 1 / 0"), "22012", driver.sqlstate)
        equal(await c.q("SELECT 1"), [(1,)])


class Rollback(Exception):
    """Leaves a transaction's context so that the driver rolls back."""


async def error_in_transaction(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.failed (id int)")
        with contextlib.suppress(Rollback):
            async with c.tx():
                await c.q(f"INSERT INTO {SCHEMA}.failed VALUES (1)")
                await refused(c.q("SELECT 1 / 0"), "22012", driver.sqlstate)
                await refused(c.q("SELECT 1"), "25P02", driver.sqlstate)
                raise Rollback
        equal(await value(c, f"SELECT count(*) FROM {SCHEMA}.failed"), 0)
        async with c.tx():
            await c.q(f"INSERT INTO {SCHEMA}.failed VALUES (2)")
        equal(await c.q(f"SELECT id FROM {SCHEMA}.failed"), [(2,)])


async def savepoints(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.saved (id int PRIMARY KEY)")
        async with c.tx():
            await c.q(f"INSERT INTO {SCHEMA}.saved VALUES (1)")
            await c.q("SAVEPOINT one")
            await c.q(f"INSERT INTO {SCHEMA}.saved VALUES (2)")
            await refused(c.q(f"INSERT INTO {SCHEMA}.saved VALUES (1)"), "23505", driver.sqlstate)
            await c.q("ROLLBACK TO SAVEPOINT one")
            await c.q(f"INSERT INTO {SCHEMA}.saved VALUES (3)")
            await c.q("RELEASE SAVEPOINT one")
        equal(await c.q(f"SELECT id FROM {SCHEMA}.saved ORDER BY id"), [(1,), (3,)])


async def set_show(driver):
    wanted = (
        {"search_path": f"{SCHEMA}, pg_catalog", "timezone": "Asia/Tokyo", "work_mem": "5MB"},
        {"search_path": "pg_catalog", "timezone": "America/New_York", "work_mem": "7MB"},
    )
    async with two(driver) as pair:
        for c, settings in zip(pair, wanted):
            for name, setting in settings.items():
                await c.q(f"SET {name} TO {setting if name == 'search_path' else repr(setting)}")
        for i in range(20):
            for c, settings in zip(pair, wanted):
                for name, setting in settings.items():
                    equal(await value(c, f"SHOW {name}"), setting, f"{name} in round {i}")
        a, b = pair
        async with elsewhere(b):
            equal(await value(a, "SHOW timezone"), "Asia/Tokyo")


async def set_local(driver):
    async with two(driver) as (a, b):
        before = await value(a, "SHOW work_mem")
        async with a.tx():
            await a.q("SET LOCAL work_mem TO '9MB'")
            equal(await value(a, "SHOW work_mem"), "9MB")
            equal(await value(b, "SHOW work_mem"), before)
        equal(await value(a, "SHOW work_mem"), before)
        equal(await value(b, "SHOW work_mem"), before)


async def startup_options(driver):
    settings = {
        "application_name": "drivers' own",
        "search_path": SCHEMA,
        "statement_timeout": "345",
        "timezone": "Asia/Kolkata",
    }
    shown = {**settings, "statement_timeout": "345ms"}
    async with two(driver, first={"settings": settings}) as (a, b):
        for _ in range(2):
            for name, expected in shown.items():
                equal(await value(a, f"SHOW {name}"), expected, name)
            check(await value(b, "SHOW timezone") != "Asia/Kolkata", "the setting of another connection")
        async with elsewhere(b):
            equal(await value(a, "SHOW timezone"), "Asia/Kolkata")
        await a.q("SET timezone TO 'UTC'")
        await a.q("SET search_path TO pg_catalog")
        equal(await value(a, "SHOW timezone"), "UTC")
        await a.q("RESET timezone")
        await a.q("RESET search_path")
        equal(await value(a, "SHOW timezone"), "Asia/Kolkata")
        equal(await value(a, "SHOW search_path"), SCHEMA)
        await refused(a.q("SELECT pg_sleep(5)"), "57014", driver.sqlstate)
        equal(await a.q("SELECT 1"), [(1,)])


async def temp_tables(driver):
    async with two(driver) as pair:
        for number, c in enumerate(pair):
            await c.q("CREATE TEMP TABLE mine (id int)")
            await c.q(f"INSERT INTO mine VALUES ({number})")
        for _ in range(5):
            for number, c in enumerate(pair):
                equal(await c.q("SELECT id FROM mine"), [(number,)])
        for c in pair:
            await c.q("DROP TABLE mine")


async def advisory_locks(driver):
    async with two(driver) as (a, b):
        key = os.getpid()
        await a.q(f"SELECT pg_advisory_lock({key})")
        for _ in range(3):
            equal(await value(b, f"SELECT pg_try_advisory_lock({key})"), False)
            equal(await a.q("SELECT 1"), [(1,)])
        equal(await value(a, f"SELECT pg_advisory_unlock({key})"), True)
        equal(await value(b, f"SELECT pg_try_advisory_lock({key})"), True)
        equal(await value(b, f"SELECT pg_advisory_unlock({key})"), True)


async def with_hold_cursor(driver):
    async with two(driver) as (a, b):
        async with a.tx():
            await a.q("DECLARE held CURSOR WITH HOLD FOR SELECT i FROM generate_series(1, 10) i")
        equal(await a.q("FETCH 3 FROM held"), [(1,), (2,), (3,)])
        async with elsewhere(b):
            equal(await a.q("FETCH 2 FROM held"), [(4,), (5,)])
        await a.q("CLOSE held")
        await refused(a.q("FETCH 1 FROM held"), "34000", driver.sqlstate)


async def sql_prepare(driver):
    async with two(driver) as (a, b):
        await a.q("PREPARE doubled (int) AS SELECT 2 * $1")
        await b.q("SELECT 1")
        for i in range(3):
            async with elsewhere(b):
                equal(await a.q(f"EXECUTE doubled({i})"), [(2 * i,)])
        await a.q("DEALLOCATE doubled")
        await refused(a.q("EXECUTE doubled(1)"), "26000", driver.sqlstate)


async def isolation_levels(driver):
    async with two(driver) as (a, b):
        async with a.tx():
            await a.q("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            equal(await value(a, "SHOW transaction_isolation"), "serializable")
        equal(await value(a, "SHOW transaction_isolation"), "read committed")
        await a.q("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for _ in range(3):
            async with a.tx():
                equal(await value(a, "SHOW transaction_isolation"), "repeatable read")
            async with b.tx():
                equal(await value(b, "SHOW transaction_isolation"), "read committed")


async def read_only_session(driver):
    async with two(driver) as (a, b):
        await b.q(f"CREATE TABLE {SCHEMA}.read_only (id int)")
        await a.q("SET default_transaction_read_only TO on")
        for _ in range(2):
            await refused(a.q(f"INSERT INTO {SCHEMA}.read_only VALUES (1)"), "25006", driver.sqlstate)
            await b.q(f"INSERT INTO {SCHEMA}.read_only VALUES (2)")
        await a.q("SET default_transaction_read_only TO off")
        await a.q(f"INSERT INTO {SCHEMA}.read_only VALUES (3)")
        equal(await value(a, f"SELECT count(*) FROM {SCHEMA}.read_only"), 3)


async def two_phase(driver):
    async with two(driver) as (a, b):
        await a.q(f"CREATE TABLE {SCHEMA}.two_phase (id int)")
        await a.q("BEGIN")
        await a.q(f"INSERT INTO {SCHEMA}.two_phase VALUES (1)")
        await a.q(f"PREPARE TRANSACTION '{SCHEMA}'")
        equal(await value(b, f"SELECT count(*) FROM {SCHEMA}.two_phase"), 0)
        await b.q(f"COMMIT PREPARED '{SCHEMA}'")
        equal(await value(a, f"SELECT count(*) FROM {SCHEMA}.two_phase"), 1)


async def reconnect(driver):
    async with connected(driver) as c:
        lost = False
        try:
            await c.q("SELECT pg_terminate_backend(pg_backend_pid())")
            await c.q("SELECT 1")
        except Exception as error:
            lost = True
            check(driver.sqlstate(error) in ("57P01", None) or driver.sqlstate(error).startswith("08"), str(error))
        check(lost, "nothing was lost")
    async with connected(driver) as c:
        equal(await c.q("SELECT 1"), [(1,)])


async def wrong_password(driver):
    await refused(lambda: driver.connect(password="wrong"), "28P01", driver.sqlstate)


async def unknown_database(driver):
    await refused(lambda: driver.connect(database="no_such_database"), "3D000", driver.sqlstate)


async def concurrency(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.sums (id int PRIMARY KEY, sum int NOT NULL)")
        await c.q(f"INSERT INTO {SCHEMA}.sums SELECT i, 0 FROM generate_series(0, 19) i")

    async def work(number):
        async with connected(driver) as c:
            for i in range(50):
                async with c.tx():
                    await c.q(f"UPDATE {SCHEMA}.sums SET sum = sum + $1 WHERE id = $2", number, number)
                    found = await c.q(f"SELECT id, sum FROM {SCHEMA}.sums WHERE id = $1", number)
                    equal(found, [(number, number * (i + 1))])

    await driver.all_at_once([work(number) for number in range(20)])
    async with connected(driver) as c:
        rows = await c.q(f"SELECT id, sum FROM {SCHEMA}.sums ORDER BY id")
        equal(rows, [(number, 50 * number) for number in range(20)])


async def close_midway(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.midway (id int)")
    a = await driver.connect()
    dropping = a.tx()
    await dropping.__aenter__()
    await a.q(f"LOCK TABLE {SCHEMA}.midway IN ACCESS EXCLUSIVE MODE")
    await a.q(f"INSERT INTO {SCHEMA}.midway VALUES (1)")
    await a.drop()
    async with connected(driver) as b:
        for _ in range(100):
            try:
                async with b.tx():
                    await b.q(f"LOCK TABLE {SCHEMA}.midway IN ACCESS EXCLUSIVE MODE NOWAIT")
                break
            except Exception as error:
                equal(driver.sqlstate(error), "55P03")
                await asyncio.sleep(0.05)
        else:
            raise AssertionError("the lock is still held")
        equal(await value(b, f"SELECT count(*) FROM {SCHEMA}.midway"), 0)


COMMON = {
    work.__name__: work
    for work in (
        simple_query, extended_query, parameters_null_and_arrays, unnamed_prepared, errors, error_in_transaction, savepoints,
        set_show, set_local, startup_options, temp_tables, advisory_locks, with_hold_cursor, sql_prepare, isolation_levels,
        read_only_session, two_phase, reconnect, wrong_password, unknown_database, concurrency, close_midway,
    )
}
