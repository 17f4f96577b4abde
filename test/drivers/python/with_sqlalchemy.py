"""SQLAlchemy 2 (https://docs.sqlalchemy.org/en/21/): its core, its ORM and its pool, over psycopg 3 (blocking) or asyncpg."""

import asyncio
import contextlib
import datetime
import decimal
import re
import ssl as tls_of_python
import sys
import threading
import uuid

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

import harness
from common import COMMON, SCHEMA, connected, two, value
from harness import check, environment, equal, finished, refused
from with_psycopg3 import Driver as Psycopg3, entered, libpq
from with_asyncpg import Driver as Asyncpg, arguments

ENVIRONMENT = environment()


class Connection:
    def __init__(self, engine, raw, dollars):
        self.engine = engine
        self.raw = raw
        self.dollars = dollars
        self.inside = False

    async def q(self, sql, *values):
        if values and not self.dollars:
            sql = re.sub(r"\$\d+", "%s", sql)
        try:
            result = await finished(self.raw.exec_driver_sql(sql, tuple(values) or None))
            return [tuple(row) for row in result.fetchall()] if result.returns_rows else []
        finally:
            if not self.inside and not self.raw.closed:
                # What SQLAlchemy has begun by itself; on the wire there is nothing of it.
                await finished(self.raw.rollback())

    @contextlib.asynccontextmanager
    async def tx(self):
        """A transaction on a connection that commits each statement by itself otherwise."""
        await finished(self.raw.execution_options(isolation_level="READ COMMITTED"))
        self.inside = True
        try:
            async with entered(self.raw.begin()):
                yield
        finally:
            self.inside = False
            if not self.raw.invalidated:
                await finished(self.raw.execution_options(isolation_level="AUTOCOMMIT"))

    async def close(self):
        await finished(self.raw.close())
        await finished(self.engine.dispose())

    async def drop(self):
        driver_connection = (await finished(self.raw.get_raw_connection()) if self.dollars else self.raw.connection)
        driver_connection = driver_connection.driver_connection
        if self.dollars:
            driver_connection.terminate()
        else:
            import os

            os.close(driver_connection.fileno())


class Driver:
    def __init__(self, below):
        self.dollars = below == "asyncpg"
        self.below = Asyncpg() if self.dollars else Psycopg3("sync")

    def engine(self, pool=None, **how):
        settings = pool or {"poolclass": NullPool, "isolation_level": "AUTOCOMMIT"}
        if self.dollars:
            return create_async_engine("postgresql+asyncpg://", connect_args=arguments(**how), **settings)
        return sa.create_engine("postgresql+psycopg://", connect_args=libpq(**how), **settings)

    async def connect(self, **how):
        engine = self.engine(**how)
        raw = engine.connect()
        return Connection(engine, await raw.start() if self.dollars else raw, self.dollars)

    async def administer(self, sql):
        async with connected(self) as c:
            await c.q(sql)

    def sqlstate(self, error):
        """SQLAlchemy wraps the driver's error, which asyncpg's dialect wraps once more."""
        seen = [error, getattr(error, "orig", None), getattr(getattr(error, "orig", None), "__cause__", None)]
        return next((state for each in seen if each is not None and (state := self.below.sqlstate(each))), None)

    def fields(self, error):
        return self.below.fields(error.orig.__cause__ if self.dollars else error.orig)

    async def all_at_once(self, works):
        await self.below.all_at_once(works)


async def multi_statement(driver):
    if driver.dollars:
        raise harness.Skip("asyncpg's dialect uses the extended protocol only")
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.multi (id int)")
        await refused(c.q(f"INSERT INTO {SCHEMA}.multi VALUES (1); SELECT 1 / 0"), "22012", driver.sqlstate)
        equal(await value(c, f"SELECT count(*) FROM {SCHEMA}.multi"), 0)


async def named_prepared(driver):
    """asyncpg's dialect prepares and keeps everything; psycopg prepares at the fifth execution."""
    async with two(driver) as (a, b):
        for i in range(30):
            for c, shift in ((a, 1), (b, 2)):
                equal(await value(c, f"SELECT CAST($1 AS int) + {shift}", i), i + shift)


async def prepared_many(driver):
    async with connected(driver) as c:
        for _ in range(2):
            for i in range(300):
                equal(await value(c, f"SELECT CAST($1 AS int) + {i}", 1), 1 + i)


async def prepared_after_ddl(driver):
    async with two(driver) as (a, b):
        await b.q(f"CREATE TABLE {SCHEMA}.ddl (id int)")
        await b.q(f"INSERT INTO {SCHEMA}.ddl VALUES (1)")
        sql = f"SELECT * FROM {SCHEMA}.ddl WHERE id = $1"
        for _ in range(8):
            equal(await a.q(sql, 1), [(1,)])
        await b.q(f"ALTER TABLE {SCHEMA}.ddl ADD COLUMN more int")
        try:
            rows = await a.q(sql, 1)
        except sa.exc.NotSupportedError as error:
            check("cached" in str(error), str(error))
            if driver.dollars:
                # Its dialect has forgotten the statement; psycopg keeps it until it is told otherwise.
                rows = await a.q(sql, 1)
            else:
                await a.q("DEALLOCATE ALL")
                rows = await a.q(sql, 1)
        equal(rows, [(1, None)])


async def cursor(driver):
    async with connected(driver) as c:
        async with c.tx():
            found = []
            if driver.dollars:
                async for row in await c.raw.stream(sa.text("SELECT i FROM generate_series(1, 1000) i")):
                    found.append(row[0])
            else:
                streaming = c.raw.execution_options(yield_per=70)
                for row in streaming.execute(sa.text("SELECT i FROM generate_series(1, 1000) i")):
                    found.append(row[0])
            equal(found, list(range(1, 1001)))
        if not driver.dollars:
            # The option stays with the connection, and cursors outside a transaction need WITH HOLD.
            return
        equal(await c.q("SELECT 1"), [(1,)])


async def ssl(driver):
    async with connected(driver, tls=True) as c:
        raw = (await finished(c.raw.get_raw_connection())) if driver.dollars else c.raw.connection
        raw = raw.driver_connection
        if driver.dollars:
            check(raw._transport.get_extra_info("ssl_object") is not None, "encrypted")
        else:
            check(raw.pgconn.ssl_in_use, "encrypted")
        equal(await c.q("SELECT 1"), [(1,)])


async def binary_types(driver):
    when = datetime.datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=datetime.timezone.utc)
    samples = [
        (sa.SmallInteger, -32768), (sa.BigInteger, -(2**63)), (sa.Double, 1.5e-300),
        (sa.Numeric, decimal.Decimal("1234567890123456789012345678.901234567891")), (sa.LargeBinary, bytes(range(256))),
        (sa.DateTime(timezone=True), when), (sa.Date, datetime.date(1999, 12, 31)),
        (sa.Interval, datetime.timedelta(days=3, seconds=4)), (sa.Uuid, uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")),
        (sa.Boolean, True), (postgresql.ARRAY(sa.Integer), [1, 2, None]), (postgresql.JSONB, {"a": [1, None, "ä"]}),
        (postgresql.INT4RANGE, postgresql.Range(1, 10)), (sa.Text, "ä€😀"),
    ]
    async with connected(driver) as c:
        for kind, sample in samples:
            row = (await finished(c.raw.execute(sa.select(sa.cast(sa.literal(sample, kind), kind))))).one()
            equal(row[0], sample, str(kind))


async def isolation_levels(driver):
    async with connected(driver) as c:
        await finished(c.raw.execution_options(isolation_level="SERIALIZABLE"))
        c.inside = True
        async with entered(c.raw.begin()):
            equal(await value(c, "SHOW transaction_isolation"), "serializable")
        c.inside = False
        await finished(c.raw.execution_options(isolation_level="AUTOCOMMIT"))
        equal(await value(c, "SHOW transaction_isolation"), "read committed")


async def read_only_session(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.by_driver (id int)")
        await finished(c.raw.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ"))
        for _ in range(2):
            c.inside = True
            transaction = await finished(c.raw.begin())
            await refused(c.q(f"INSERT INTO {SCHEMA}.by_driver VALUES (1)"), "25006", driver.sqlstate)
            await finished(transaction.rollback())
    await COMMON["read_only_session"](driver)


async def two_phase(driver):
    if driver.dollars:
        raise harness.Skip("asyncpg's dialect has no two-phase transactions")
    async with two(driver) as (a, b):
        await a.q(f"CREATE TABLE {SCHEMA}.two_phase (id int)")
        a.raw.execution_options(isolation_level="READ COMMITTED")
        for number, how in ((1, "commit"), (2, "rollback")):
            a.inside = True
            transaction = a.raw.begin_twophase(xid=f"{SCHEMA}-{number}")
            await a.q(f"INSERT INTO {SCHEMA}.two_phase VALUES ({number})")
            transaction.prepare()
            getattr(transaction, how)()
        equal(await b.q(f"SELECT id FROM {SCHEMA}.two_phase"), [(1,)])


async def savepoints(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.nested (id int)")
        async with c.tx():
            await c.q(f"INSERT INTO {SCHEMA}.nested VALUES (1)")
            with contextlib.suppress(ZeroDivisionError):
                async with entered(c.raw.begin_nested()):
                    await c.q(f"INSERT INTO {SCHEMA}.nested VALUES (2)")
                    raise ZeroDivisionError
            async with entered(c.raw.begin_nested()):
                await c.q(f"INSERT INTO {SCHEMA}.nested VALUES (3)")
        equal(await c.q(f"SELECT id FROM {SCHEMA}.nested ORDER BY 1"), [(1,), (3,)])
    await COMMON["savepoints"](driver)


async def pool(driver):
    engine = driver.engine(pool={"pool_size": 3, "max_overflow": 0, "pool_pre_ping": True})
    try:
        async with entered(engine.begin()) as c:
            await finished(c.exec_driver_sql(f"CREATE TABLE {SCHEMA}.pooled (id int)"))
        for _ in range(5):
            # Left open: the pool's reset rolls back.
            async with entered(engine.connect()) as c:
                await finished(c.exec_driver_sql(f"INSERT INTO {SCHEMA}.pooled VALUES (1)"))
            async with entered(engine.begin()) as c:
                await finished(c.exec_driver_sql(f"INSERT INTO {SCHEMA}.pooled VALUES (2)"))
        async with entered(engine.connect()) as c:
            found = (await finished(c.exec_driver_sql(f"SELECT count(*), sum(id) FROM {SCHEMA}.pooled"))).one()
            equal(tuple(found), (5, 10))
    finally:
        await finished(engine.dispose())


class Base(orm.DeclarativeBase):
    metadata = sa.MetaData(schema=SCHEMA)


class Author(Base):
    __tablename__ = "authors"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50), unique=True)
    born: orm.Mapped[datetime.datetime | None] = orm.mapped_column(sa.DateTime(timezone=True))
    books: orm.Mapped[list["Book"]] = orm.relationship(back_populates="author", lazy="selectin", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "books"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str]
    details: orm.Mapped[dict] = orm.mapped_column(postgresql.JSONB, default=dict)
    author_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey(Author.id))
    author: orm.Mapped[Author] = orm.relationship(back_populates="books")


async def orm_schema(driver):
    engine = driver.engine(pool={"pool_size": 2})
    new_session = (lambda: AsyncSession(engine)) if driver.dollars else (lambda: orm.Session(engine))

    async def on(connection, work):
        return await (connection.run_sync(work) if driver.dollars else finished(work(connection)))

    try:
        async with entered(engine.begin()) as c:
            await on(c, Base.metadata.create_all)
        async with entered(new_session()) as session:
            for n in range(50):
                books = [Book(title=f"book {n}.{k}", details={"k": k}) for k in range(3)]
                session.add(Author(name=f"author {n}", books=books))
            await finished(session.commit())
        async with entered(new_session()) as session:
            authors = (await finished(session.scalars(sa.select(Author).order_by(Author.id)))).all()
            equal([len(each.books) for each in authors], [3] * 50)
            authors[0].name = "renamed"
            await finished(session.delete(authors[1]))
            await finished(session.commit())
            session.add(Author(name="renamed"))
            await refused(session.commit, "23505", driver.sqlstate)
            await finished(session.rollback())
            count = await finished(session.scalar(sa.select(sa.func.count()).select_from(Book)))
            equal(count, 147)
        async with entered(engine.begin()) as c:
            found = await on(c, lambda raw: sa.inspect(raw).get_foreign_keys("books", schema=SCHEMA))
            equal(found[0]["referred_table"], "authors")
            reflected = sa.MetaData(schema=SCHEMA)
            await on(c, reflected.reflect)
            check({f"{SCHEMA}.authors", f"{SCHEMA}.books"} <= set(reflected.tables), "reflected")
            await on(c, Base.metadata.drop_all)
    finally:
        await finished(engine.dispose())


OWN = {
    work.__name__: work
    for work in (
        multi_statement, named_prepared, prepared_many, prepared_after_ddl, cursor, ssl, binary_types, isolation_levels,
        read_only_session, two_phase, savepoints, pool, orm_schema,
    )
}

NOT_OF_IT = "SQLAlchemy has no interface for it; its driver is run by itself"
SKIPS = dict.fromkeys(
    "pipeline cursor_fetch_portal copy_in copy_out copy_in_error listen_notify cancel large_objects notices backend_pid".split(),
    NOT_OF_IT,
)

if __name__ == "__main__":
    harness.main(Driver(sys.argv[1]), COMMON | OWN, SKIPS)
