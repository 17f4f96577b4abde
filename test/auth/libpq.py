# libpq itself, called so that its errors name their SQLSTATE already while it connects, which no psql can be told. One login per line of
# standard input (JSON: id, parameters, question), one line of standard output for each, in the order in which they end.

import ctypes
import json
import select
import sys
import threading

FAILED, READING, WRITING, OK = 1, 1, 2, 3
VERBOSE = 2
DEADLINE = 20

libpq = ctypes.CDLL("libpq.so.5")
for name, result, arguments in [
    ("PQconnectStartParams", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]),
    ("PQconnectPoll", ctypes.c_int, [ctypes.c_void_p]),
    ("PQsocket", ctypes.c_int, [ctypes.c_void_p]),
    ("PQstatus", ctypes.c_int, [ctypes.c_void_p]),
    ("PQsetErrorVerbosity", ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]),
    ("PQerrorMessage", ctypes.c_char_p, [ctypes.c_void_p]),
    ("PQsslInUse", ctypes.c_int, [ctypes.c_void_p]),
    ("PQexec", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
    ("PQgetvalue", ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]),
    ("PQclear", None, [ctypes.c_void_p]),
    ("PQfinish", None, [ctypes.c_void_p]),
]:
    function = getattr(libpq, name)
    function.restype = result
    function.argtypes = arguments

writing = threading.Lock()


def texts(values):
    """A zero-terminated array of C strings."""
    return (ctypes.c_char_p * (len(values) + 1))(*[value.encode() for value in values], None)


def connected(connection):
    """Goes on until it is connected or has failed."""
    step = WRITING
    while True:
        socket = libpq.PQsocket(connection)
        if socket >= 0:
            ready = select.select([socket] if step == READING else [], [socket] if step == WRITING else [], [], DEADLINE)
            if not (ready[0] or ready[1]):
                return False
        step = libpq.PQconnectPoll(connection)
        if step in (0, OK):
            return step == OK


def login(parameters, question):
    names, values = texts(list(parameters.keys())), texts(list(parameters.values()))
    connection = libpq.PQconnectStartParams(names, values, 0)
    try:
        libpq.PQsetErrorVerbosity(connection, VERBOSE)
        if libpq.PQstatus(connection) == FAILED or not connected(connection):
            return {"message": libpq.PQerrorMessage(connection).decode(errors="replace")}
        result = libpq.PQexec(connection, question.encode())
        value = libpq.PQgetvalue(result, 0, 0)
        libpq.PQclear(result)
        if value is None:
            return {"message": libpq.PQerrorMessage(connection).decode(errors="replace")}
        return {"value": value.decode(), "encrypted": libpq.PQsslInUse(connection) == 1}
    finally:
        libpq.PQfinish(connection)


def answer(line):
    asked = json.loads(line)
    said = {"id": asked["id"], **login(asked["parameters"], asked["question"])}
    with writing:
        print(json.dumps(said), flush=True)


for line in sys.stdin:
    threading.Thread(target=answer, args=(line,), daemon=True).start()
for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join(DEADLINE)
