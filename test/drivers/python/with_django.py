"""Django 5.2 (https://docs.djangoproject.com/en/5.2/ref/databases/#postgresql-notes) over psycopg 3: its connections, transactions
and server-side cursors, its ORM, migrations of one app's models, and its pool."""

import contextlib
import os
import re

# The scenarios are coroutines; what they call here blocks.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

import django
from django.conf import settings
from django.db import ConnectionHandler, connections, models, transaction

import harness
from common import COMMON, SCHEMA, connected, two, value
from harness import check, environment, equal, refused
from with_psycopg3 import Driver as Psycopg3, libpq

ENVIRONMENT = environment()


def database(pool=False, options=None, **how):
    words = libpq(**how)
    words.pop("host"), words.pop("port")
    rest = {name: word for name, word in words.items() if name not in ("user", "password", "dbname")}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": ENVIRONMENT["PGHOST"],
        "PORT": ENVIRONMENT["PGPORT"],
        "NAME": words["dbname"],
        "USER": words["user"],
        "PASSWORD": words["password"],
        # TIME_ZONE and the like are Django's: it sets them by itself when it connects.
        "OPTIONS": {**rest, **({"pool": {"min_size": 1, "max_size": 3}} if pool else {}), **(options or {})},
    }


settings.configure(
    DATABASES={
        "default": database(settings={"search_path": SCHEMA}),
        "binding": database(options={"server_side_binding": True}, settings={"search_path": SCHEMA}),
        "pool": database(pool=True, settings={"search_path": SCHEMA}),
    },
    INSTALLED_APPS=["library"],
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()


class Connection:
    def __init__(self, raw):
        self.raw = raw

    async def q(self, sql, *values):
        with self.raw.cursor() as cursor:
            cursor.execute(re.sub(r"\$\d+", "%s", sql) if values else sql, list(values) or None)
            return cursor.fetchall() if cursor.description else []

    @contextlib.asynccontextmanager
    async def tx(self):
        # transaction.atomic() by hand: it finds its connection by alias only.
        self.raw.set_autocommit(False)
        try:
            yield
        except BaseException:
            self.raw.rollback()
            raise
        else:
            self.raw.commit()
        finally:
            self.raw.set_autocommit(True)

    async def close(self):
        self.raw.close()

    async def drop(self):
        os.close(self.raw.connection.fileno())


class Driver(Psycopg3):
    def __init__(self):
        super().__init__("sync")

    async def connect(self, settings=None, **how):
        given = dict(settings or {})
        described = database(settings=given, **how)
        if "timezone" in given:
            described["TIME_ZONE"] = given["timezone"]
        raw = ConnectionHandler({"default": described})["default"]
        raw.ensure_connection()
        return Connection(raw)

    @staticmethod
    def sqlstate(error):
        return Psycopg3.sqlstate(error.__cause__ if error.__cause__ is not None else error)

    @staticmethod
    def fields(error):
        return Psycopg3.fields(error.__cause__)


async def multi_statement(driver):
    async with connected(driver) as c:
        await c.q(f"CREATE TABLE {SCHEMA}.multi (id int)")
        await refused(c.q(f"INSERT INTO {SCHEMA}.multi VALUES (1); SELECT 1 / 0"), "22012", driver.sqlstate)
        equal(await value(c, f"SELECT count(*) FROM {SCHEMA}.multi"), 0)


async def extended_query(driver):
    """With server_side_binding, which is off by default."""
    with connections["binding"].cursor() as cursor:
        cursor.execute("SELECT %s::int + 1, %s::text", [41, "ä"])
        equal(cursor.fetchall(), [(42, "ä")])
    connections["binding"].close()
    await COMMON["extended_query"](driver)


async def cursor(driver):
    del driver
    class Row(models.Model):
        class Meta:
            app_label = "cursor"
            db_table = "cursor_rows"

    with connections["default"].schema_editor() as editor:
        editor.create_model(Row)
    Row.objects.bulk_create([Row() for _ in range(1000)])
    # A server-side cursor: WITH HOLD outside a transaction, without inside one.
    equal(sum(1 for _ in Row.objects.iterator(chunk_size=70)), 1000)
    with transaction.atomic():
        equal(sum(1 for _ in Row.objects.iterator(chunk_size=70)), 1000)
    for _ in Row.objects.iterator(chunk_size=70):
        break
    equal(Row.objects.count(), 1000)


async def savepoints(driver):
    class Row(models.Model):
        class Meta:
            app_label = "savepoints"
            db_table = "savepoint_rows"

    with connections["default"].schema_editor() as editor:
        editor.create_model(Row)
    with transaction.atomic():
        Row(id=1).save(force_insert=True)
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            Row(id=2).save(force_insert=True)
            raise ZeroDivisionError
        with contextlib.suppress(django.db.IntegrityError), transaction.atomic():
            Row(id=1).save(force_insert=True)
        with transaction.atomic():
            Row(id=3).save(force_insert=True)
    equal(sorted(Row.objects.values_list("id", flat=True)), [1, 3])
    await COMMON["savepoints"](driver)


async def pool(driver):
    del driver
    for i in range(5):
        pooled = connections["pool"]
        with pooled.cursor() as cursor:
            cursor.execute("SELECT %s::int", [i])
            equal(cursor.fetchone(), (i,))
            cursor.execute("SHOW search_path")
            equal(cursor.fetchone(), (SCHEMA,))
        pooled.close()
    connections["pool"].close_pool()


async def orm_schema(driver):
    from library.models import Author, Book

    connection = connections["default"]
    with connection.schema_editor() as editor:
        editor.create_model(Author)
        editor.create_model(Book)
    check({"library_author", "library_book"} <= set(connection.introspection.table_names()), "introspected")
    authors = Author.objects.bulk_create([Author(name=f"author {n}") for n in range(50)])
    Book.objects.bulk_create([Book(title=f"{a.name}, {k}", details={"k": k}, author=a) for a in authors for k in range(3)])
    found = Author.objects.prefetch_related("books").annotate(many=models.Count("books")).order_by("id")
    equal([(each.many, len(each.books.all())) for each in found], [(3, 3)] * 50)
    equal(Book.objects.filter(details__k=2, author__name__startswith="author 1").count(), 11)
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        Author.objects.all().delete()
        raise ZeroDivisionError
    equal(Book.objects.count(), 150)
    with transaction.atomic():
        one = Author.objects.select_for_update().get(name="author 7")
        one.name = "renamed"
        one.save()
    await refused(lambda: Author.objects.create(name="renamed"), "23505", driver.sqlstate)
    await refused(lambda: Book.objects.create(title="t", price=-1, author=one), "23514", driver.sqlstate)
    equal(Author.objects.get(name="renamed").books.count(), 3)
    field = models.IntegerField(null=True)
    field.set_attributes_from_name("pages")
    with connection.schema_editor() as editor:
        editor.add_field(Book, field)
        editor.remove_field(Book, field)
        editor.delete_model(Book)
        editor.delete_model(Author)


OWN = {work.__name__: work for work in (multi_statement, extended_query, cursor, savepoints, pool, orm_schema)}

SIMPLE = "Django uses no prepared statements by default"
SKIPS = {
    **dict.fromkeys("named_prepared prepared_after_ddl prepared_many".split(), SIMPLE),
    **dict.fromkeys(
        "pipeline cursor_fetch_portal copy_in copy_out copy_in_error listen_notify cancel ssl large_objects binary_types notices "
        "backend_pid".split(),
        "Django has no interface for it; its driver is run by itself",
    ),
}

if __name__ == "__main__":
    harness.main(Driver(), COMMON | OWN, SKIPS)
