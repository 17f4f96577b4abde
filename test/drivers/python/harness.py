"""Runs the scenarios of one Python driver and reports them as SCENARIOS.md demands: each in a process of its own, which is
forked from this one and killed when its time is over, so that a driver that blocks in C cannot block the others."""

import asyncio
import inspect
import json
import os
import select
import signal
import sys
import time
import traceback

SCENARIO_SECONDS = 20

SCENARIOS = """
simple_query multi_statement extended_query parameters_null_and_arrays named_prepared unnamed_prepared prepared_after_ddl
prepared_many pipeline cursor cursor_fetch_portal copy_in copy_out copy_in_error listen_notify cancel ssl large_objects
binary_types errors error_in_transaction savepoints set_show set_local startup_options temp_tables advisory_locks
with_hold_cursor sql_prepare isolation_levels read_only_session notices backend_pid two_phase reconnect wrong_password
unknown_database concurrency pool close_midway orm_schema
""".split()


class Skip(Exception):
    """This driver has no interface for the scenario."""


def environment():
    """Where to connect."""
    names = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLROOTCERT", "SCHEMA")
    return {name: os.environ[name] for name in names}


def equal(found, expected, what=""):
    if found != expected:
        raise AssertionError(f"{what + ': ' if what else ''}{str(found)[:300]!r}, not {str(expected)[:300]!r}")


def check(condition, what):
    if not condition:
        raise AssertionError(what)


async def finished(value):
    """The result of a call that is a coroutine in one flavour of a driver and none in the other."""
    return await value if inspect.isawaitable(value) else value


async def refused(work, sqlstate, sqlstate_of):
    """Awaits `work`, which has to fail with `sqlstate` (or one of them); returns the error."""
    try:
        await finished(work() if callable(work) else work)
    except Exception as error:
        found = sqlstate_of(error)
        expected = (sqlstate,) if isinstance(sqlstate, str) else sqlstate
        if found not in expected:
            raise AssertionError(f"{type(error).__name__} {found}, not {sqlstate}: {error}") from error
        return error
    raise AssertionError(f"no error, but {sqlstate} was due")


def describe(error):
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    text = f"{type(error).__name__}: {error}".strip()
    return f"{text} [{state}]" if state else text


def report_to(pipe, status, detail=""):
    os.write(pipe, json.dumps({"status": status, "detail": detail[:1500]}).encode())


def run_here(pipe, work):
    """The child's part: never returns."""
    signal.alarm(SCENARIO_SECONDS + 5)
    try:
        result = work()
        if inspect.isawaitable(result):
            asyncio.run(result)
        report_to(pipe, "passed")
    except Skip as reason:
        report_to(pipe, "skipped", str(reason))
    except BaseException as error:  # whatever it is, it is this scenario's result
        traceback.print_exc()
        report_to(pipe, "failed", describe(error))
    finally:
        sys.stderr.flush()
        os._exit(0)


def run_scenario(work):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        run_here(writing, work)
    os.close(writing)
    heard = b""
    deadline = time.monotonic() + SCENARIO_SECONDS
    late = True
    while select.select([reading], [], [], max(0, deadline - time.monotonic()))[0]:
        piece = os.read(reading, 65536)
        if piece == b"":
            late = False
            break
        heard += piece
    os.close(reading)
    if heard == b"":
        os.kill(child, signal.SIGKILL)
    _, how = os.waitpid(child, 0)
    if heard != b"":
        return json.loads(heard)
    return {"status": "failed", "detail": "timed out" if late else f"its process ended with {how}"}


def main(driver, scenarios, skips):
    """Runs `scenarios` (functions of `driver` by name); the others have to be in `skips`, with the reason."""
    schema = environment()["SCHEMA"]
    asked = os.environ.get("ONLY", ",".join(SCENARIOS)).split(",")
    run = lambda statement: run_scenario(lambda: driver.administer(statement))
    begun = run(f"CREATE SCHEMA {schema}")
    for name in SCENARIOS:
        if name not in asked:
            continue
        if begun["status"] != "passed":
            outcome = {"status": "failed", "detail": f"no schema: {begun['detail']}"}
        elif name in scenarios:
            work = scenarios[name]
            outcome = run_scenario(lambda: work(driver))
        else:
            outcome = {"status": "skipped", "detail": skips[name]}
        print(json.dumps({"scenario": name, **outcome}), flush=True)
    run(f"DROP SCHEMA {schema} CASCADE")
