"""One connection of psycopg2, told what to do by JSON lines on standard input, each answered by one on standard output."""

import json
import sys

import psycopg2

connection = psycopg2.connect("")
# Transactions are begun and ended by statements, as they are told.
connection.autocommit = True


def answer(result):
    print(json.dumps(result), flush=True)


def told():
    line = sys.stdin.readline()
    if line == "":
        sys.exit(0)
    return json.loads(line)


class Rows:
    """What COPY reads: some rows, then nothing until it is told that this is the end."""

    def __init__(self, rows):
        self.rows = rows

    def read(self, size):
        part, self.rows = self.rows[:size], self.rows[size:]
        if part == "":
            told()
        return part


def query(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        rows = [] if cursor.description is None else [str(row[0]) for row in cursor.fetchall()]
    return {"ok": True, "rows": rows}


def copy(sql, rows):
    source = Rows(rows)
    try:
        with connection.cursor() as cursor:
            cursor.copy_expert(sql, source)
    finally:
        # An error may come before all was read; the end is still told.
        if source.rows != "":
            told()
    return {"ok": True, "rows": []}


while True:
    request = told()
    try:
        if request["do"] == "query":
            answer(query(request["sql"]))
        elif request["do"] == "copy":
            answer(copy(request["sql"], request["rows"]))
        else:
            answer({"ok": True, "rows": []} if connection.closed == 0 else {"ok": False, "code": "closed"})
    except psycopg2.Error as error:
        answer({"ok": False, "code": error.pgcode or str(error)})
