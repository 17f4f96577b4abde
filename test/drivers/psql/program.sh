#!/usr/bin/env bash
# psql, and with it libpq's simple protocol, COPY, notifications, cancel requests and large objects. Each scenario is a function
# here and a process of its own, ended by timeout(1); sessions that have to stay open are psql processes behind named pipes.
set -euo pipefail

program=$0
seconds=20
scenarios=(simple_query multi_statement extended_query parameters_null_and_arrays named_prepared unnamed_prepared
  prepared_after_ddl prepared_many pipeline cursor cursor_fetch_portal copy_in copy_out copy_in_error listen_notify cancel ssl
  large_objects binary_types errors error_in_transaction savepoints set_show set_local startup_options temp_tables
  advisory_locks with_hold_cursor sql_prepare isolation_levels read_only_session notices backend_pid two_phase reconnect
  wrong_password unknown_database concurrency pool close_midway orm_schema)

declare -A skipped=(
  [extended_query]="psql 15 has no \\bind" [parameters_null_and_arrays]="psql 15 has no \\bind"
  [named_prepared]="psql 15 has no \\bind_named" [unnamed_prepared]="psql 15 has no \\bind"
  [prepared_many]="psql 15 has no \\bind_named"
  [pipeline]="psql 15 has no \\startpipeline" [cursor_fetch_portal]="libpq has no row limit"
  [binary_types]="psql shows text only" [pool]="psql has no pool"
  [backend_pid]="psql tells it in an interactive prompt only" [orm_schema]="not an ORM")

# libpq takes the contract's variable for itself, and would verify with it.
authority=$PGSSLROOTCERT
export PGSSLROOTCERT=/nonexistent PGSSLMODE=prefer

# --- what scenarios are written with

psql_() { psql -X -A -t -q -v ON_ERROR_STOP=1 "$@" 2>&1; }

fail() {
  echo "$*"
  exit 1
}

# equal FOUND EXPECTED
equal() { [[ "$1" == "$2" ]] || fail "'${1:0:300}', not '${2:0:300}'"; }

# has TEXT PATTERN
has() { [[ "$1" == *"$2"* ]] || fail "no '$2' in '${1:0:300}'"; }

# open NAME [argument of psql...]: a session that stays
open() {
  local name=$1
  shift
  mkfifo "$folder/$name.in" "$folder/$name.out"
  psql -X -A -t -q -v VERBOSITY=verbose -v SHOW_CONTEXT=never "$@" <"$folder/$name.in" >"$folder/$name.out" 2>&1 &
  printf -v "pid_$name" %s $!
  disown # or the shell tells of its end
  local in out
  exec {in}>"$folder/$name.in" {out}<"$folder/$name.out"
  printf -v "in_$name" %s "$in"
  printf -v "out_$name" %s "$out"
}

# ask NAME SQL: leaves in $answer what psql prints for it, lines joined by a blank
ask() {
  local in=in_$1 out=out_$1 line
  printf '%s\n\\echo --end--\n' "$2" >&"${!in}"
  answer=""
  while IFS= read -r line <&"${!out}"; do
    if [[ $line == --end-- ]]; then return; fi
    answer+="${answer:+ }$line"
  done
  answer+=" (psql ended)"
}

# is NAME SQL EXPECTED
is() {
  ask "$1" "$2"
  equal "$answer" "$3"
}

# elsewhere NAME: that session opens a transaction, and so takes the server that was used last
elsewhere() { is "$1" "BEGIN; SELECT 'taken';" taken; }

# --- the scenarios

simple_query() {
  equal "$(psql_ -c "SELECT 'it''s \"quoted\" \\ back ä€😀'")" "it's \"quoted\" \\ back ä€😀"
  equal "$(psql_ -c "SELECT i FROM generate_series(1, 2000) i" | wc -l)" 2000
  equal "$(psql_ -c "")" ""
  equal "$(psql_ -P null=NULL -c "SELECT NULL")" NULL
}

multi_statement() {
  equal "$(psql_ -c "SELECT 1; SELECT 2" | tr '\n' ,)" 1,2,
  psql_ -c "CREATE TABLE $SCHEMA.multi (id int)"
  has "$(psql_ -c "INSERT INTO $SCHEMA.multi VALUES (1); SELECT 1 / 0" || true)" "division by zero"
  equal "$(psql_ -c "SELECT count(*) FROM $SCHEMA.multi")" 0
}

cursor() {
  open a
  is a "BEGIN; DECLARE pieces CURSOR FOR SELECT i FROM generate_series(1, 1000) i; FETCH 3 FROM pieces; COMMIT;" "1 2 3"
  is a "\\set FETCH_COUNT 100
SELECT count(*) FROM generate_series(1, 5); SELECT 1;" "5 1"
  equal "$(psql_ -v FETCH_COUNT=70 -c "SELECT i FROM generate_series(1, 1000) i" | tail -1)" 1000
}

prepared_after_ddl() {
  open a
  is a "CREATE TABLE $SCHEMA.ddl (id int); INSERT INTO $SCHEMA.ddl VALUES (1); PREPARE every AS SELECT * FROM $SCHEMA.ddl;
EXECUTE every;" 1
  psql_ -c "ALTER TABLE $SCHEMA.ddl ADD COLUMN more int"
  ask a "EXECUTE every;"
  has "$answer" "0A000: cached plan must not change result type"
  is a "DEALLOCATE every; PREPARE every AS SELECT * FROM $SCHEMA.ddl; EXECUTE every;" "1|"
}

copy_in() {
  psql_ -c "CREATE TABLE $SCHEMA.copied (id int, t text)"
  seq 1 20000 | sed 's/$/\tä/' | psql_ -c "COPY $SCHEMA.copied FROM STDIN"
  psql_ -c "\\copy $SCHEMA.copied FROM /dev/null"
  equal "$(psql_ -c "SELECT count(*), sum(id) FROM $SCHEMA.copied")" "20000|200010000"
}

copy_out() {
  psql_ -c "COPY (SELECT i, 'ä' FROM generate_series(1, 20000) i) TO STDOUT" >"$folder/copied"
  equal "$(wc -l <"$folder/copied")" 20000
  equal "$(tail -1 "$folder/copied")" $'20000\tä'
}

copy_in_error() {
  open a
  is a "CREATE TABLE $SCHEMA.refused (id int);" ""
  ask a "COPY $SCHEMA.refused FROM STDIN;
1
2
three
\\."
  has "$answer" "22P02"
  is a "SELECT count(*) FROM $SCHEMA.refused;" 0
}

listen_notify() {
  open a
  open b
  is a "LISTEN ${SCHEMA}_channel;" ""
  ask b "BEGIN; NOTIFY ${SCHEMA}_channel, 'payload ä'; SELECT pg_backend_pid(); COMMIT;"
  local pid=$answer
  # psql looks for notifications after each statement.
  sleep 0.2
  ask a "SELECT 1;"
  has "$answer" "Asynchronous notification \"${SCHEMA}_channel\" with payload \"payload ä\" received from server process with PID $pid."
  is a "UNLISTEN ${SCHEMA}_channel;" ""
  is b "NOTIFY ${SCHEMA}_channel;" ""
  is a "SELECT 1;" 1
}

cancel() {
  # A shell's background processes ignore SIGINT, and psql leaves its script at one.
  python3 - <<'PYTHON'
import signal, subprocess, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
words = ["psql", "-X", "-A", "-t", "-q", "-v", "VERBOSITY=verbose", "-c", "SELECT pg_sleep(15)"]
with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as psql:
    time.sleep(1)
    psql.send_signal(signal.SIGINT)
    said = psql.communicate()[0]
    if "57014" not in said:
        raise SystemExit(f"no 57014 in {said!r}")
PYTHON
  equal "$(psql_ -c "SELECT 1")" 1
}

ssl() {
  export PGSSLROOTCERT=$authority PGSSLMODE=verify-full
  has "$(psql_ -c '\conninfo')" "SSL connection (protocol: TLSv1."
  equal "$(psql_ -c "SELECT 1")" 1
  export PGSSLROOTCERT=/nonexistent
  has "$(psql_ -c "SELECT 1" || true)" "certificate"
}

large_objects() {
  head -c 100000 /dev/urandom >"$folder/large"
  open a
  ask a "\\lo_import $folder/large
\\echo :LASTOID"
  local oid=${answer##* }
  ask a "\\lo_export $oid $folder/again"
  cmp "$folder/large" "$folder/again" || fail "another content"
  ask a "\\lo_unlink $oid"
  is a "SELECT count(*) FROM pg_largeobject_metadata WHERE oid = $oid;" 0
}

errors() {
  open a
  is a "CREATE TABLE $SCHEMA.errors (id int CONSTRAINT errors_key PRIMARY KEY); INSERT INTO $SCHEMA.errors VALUES (1);" ""
  ask a "INSERT INTO $SCHEMA.errors VALUES (1);"
  has "$answer" "ERROR:  23505"
  has "$answer" "DETAIL:  Key (id)=(1) already exists."
  has "$answer" "CONSTRAINT NAME:  errors_key"
  ask a "SELEC 1;"
  has "$answer" "42601: syntax error at or near \"SELEC\" LINE 1: SELEC 1;"
  ask a "SELECT 1 / 0;"
  has "$answer" 22012
  is a "SELECT 1;" 1
}

error_in_transaction() {
  open a
  ask a "CREATE TABLE $SCHEMA.failed (id int); BEGIN; INSERT INTO $SCHEMA.failed VALUES (1); SELECT 1 / 0;"
  has "$answer" 22012
  ask a "SELECT 1;"
  has "$answer" 25P02
  is a "COMMIT; SELECT count(*) FROM $SCHEMA.failed;" 0
}

savepoints() {
  open a -v ON_ERROR_ROLLBACK=on
  is a "CREATE TABLE $SCHEMA.saved (id int PRIMARY KEY); BEGIN; INSERT INTO $SCHEMA.saved VALUES (1); SAVEPOINT one;" ""
  ask a "INSERT INTO $SCHEMA.saved VALUES (2); INSERT INTO $SCHEMA.saved VALUES (1);"
  has "$answer" 23505
  is a "ROLLBACK TO one; INSERT INTO $SCHEMA.saved VALUES (3); COMMIT; SELECT id FROM $SCHEMA.saved ORDER BY id;" "1 3"
}

set_show() {
  open a
  open b
  ask a "SET search_path TO $SCHEMA, pg_catalog; SET timezone TO 'Asia/Tokyo'; SET work_mem TO '5MB';"
  ask b "SET search_path TO pg_catalog; SET timezone TO 'America/New_York'; SET work_mem TO '7MB';"
  local i
  for i in {1..20}; do
    is a "SHOW search_path; SHOW timezone; SHOW work_mem;" "$SCHEMA, pg_catalog Asia/Tokyo 5MB"
    is b "SHOW search_path; SHOW timezone; SHOW work_mem;" "pg_catalog America/New_York 7MB"
  done
  elsewhere b
  is a "SHOW timezone;" Asia/Tokyo
}

set_local() {
  open a
  open b
  ask a "SHOW work_mem;"
  local before=$answer
  is a "BEGIN; SET LOCAL work_mem TO '9MB'; SHOW work_mem;" 9MB
  is b "SHOW work_mem;" "$before"
  is a "COMMIT; SHOW work_mem;" "$before"
  is b "SHOW work_mem;" "$before"
}

startup_options() {
  PGOPTIONS="-c search_path=$SCHEMA -c statement_timeout=345 -c custom.setting=so" PGTZ=Asia/Kolkata PGAPPNAME="drivers' own" open a
  open b
  local all="SHOW application_name; SHOW search_path; SHOW statement_timeout; SHOW timezone; SHOW custom.setting;" i
  for i in 1 2; do
    is a "$all" "drivers' own $SCHEMA 345ms Asia/Kolkata so"
    ask b "SHOW timezone;"
    [[ $answer != Asia/Kolkata ]] || fail "the setting of another connection"
  done
  elsewhere b
  is a "$all" "drivers' own $SCHEMA 345ms Asia/Kolkata so"
  is a "SET timezone TO 'UTC'; SET search_path TO pg_catalog; SHOW timezone;" UTC
  is a "RESET timezone; RESET search_path; SHOW timezone; SHOW search_path;" "Asia/Kolkata $SCHEMA"
  ask a "SELECT pg_sleep(5);"
  has "$answer" 57014
  is a "SET timezone TO 'UTC'; RESET ALL;" ""
  is a "$all" "drivers' own $SCHEMA 345ms Asia/Kolkata so"
  is a "DISCARD ALL;" ""
  is a "$all" "drivers' own $SCHEMA 345ms Asia/Kolkata so"
}

temp_tables() {
  open a
  open b
  is a "CREATE TEMP TABLE mine AS SELECT 1 AS id;" ""
  is b "CREATE TEMP TABLE mine AS SELECT 2 AS id;" ""
  local i
  for i in {1..5}; do
    is a "SELECT id FROM mine;" 1
    is b "SELECT id FROM mine;" 2
  done
  is a "DROP TABLE mine;" ""
}

advisory_locks() {
  open a
  open b
  is a "SELECT pg_advisory_lock($$);" ""
  local i
  for i in 1 2 3; do
    is b "SELECT pg_try_advisory_lock($$);" f
    is a "SELECT 1;" 1
  done
  is a "SELECT pg_advisory_unlock($$);" t
  is b "SELECT pg_try_advisory_lock($$); SELECT pg_advisory_unlock($$);" "t t"
}

with_hold_cursor() {
  open a
  open b
  is a "BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT i FROM generate_series(1, 10) i; COMMIT;" ""
  is a "FETCH 3 FROM held;" "1 2 3"
  elsewhere b
  is a "FETCH 2 FROM held; CLOSE held;" "4 5"
  ask a "FETCH 1 FROM held;"
  has "$answer" 34000
}

sql_prepare() {
  open a
  open b
  is a "PREPARE doubled (int) AS SELECT 2 * \$1;" ""
  elsewhere b
  is a "EXECUTE doubled(4);" 8
  is b "COMMIT;" ""
  is a "EXECUTE doubled(5); DEALLOCATE doubled;" 10
  ask a "EXECUTE doubled(1);"
  has "$answer" 26000
}

isolation_levels() {
  open a
  open b
  is a "BEGIN ISOLATION LEVEL SERIALIZABLE; SHOW transaction_isolation; COMMIT; SHOW transaction_isolation;" "serializable read committed"
  is a "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ;" ""
  local i
  for i in 1 2 3; do
    is a "SHOW transaction_isolation;" "repeatable read"
    is b "SHOW transaction_isolation;" "read committed"
  done
}

read_only_session() {
  open a
  open b
  is b "CREATE TABLE $SCHEMA.read_only (id int);" ""
  is a "SET default_transaction_read_only TO on;" ""
  local i
  for i in 1 2; do
    ask a "INSERT INTO $SCHEMA.read_only VALUES (1);"
    has "$answer" 25006
    is b "INSERT INTO $SCHEMA.read_only VALUES (2);" ""
  done
  is a "SET default_transaction_read_only TO off; INSERT INTO $SCHEMA.read_only VALUES (3); SELECT count(*) FROM $SCHEMA.read_only;" 3
  equal "$(PGOPTIONS="-c default_transaction_read_only=on" psql_ -c "SHOW transaction_read_only")" on
  # What libpq concludes from the server's parameters, or from SHOW.
  equal "$(PGTARGETSESSIONATTRS=read-write psql_ -c "SELECT 1")" 1
  equal "$(PGTARGETSESSIONATTRS=primary psql_ -c "SELECT 1")" 1
  has "$(PGTARGETSESSIONATTRS=standby psql_ -c "SELECT 1" || true)" "server is not in hot standby mode"
}

notices() {
  open a -v VERBOSITY=default
  is a "DO \$\$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END \$\$; SELECT 3;" "NOTICE:  one WARNING:  two 3"
}

two_phase() {
  open a
  is a "CREATE TABLE $SCHEMA.two_phase (id int); BEGIN; INSERT INTO $SCHEMA.two_phase VALUES (1); PREPARE TRANSACTION '$SCHEMA';" ""
  is a "SELECT count(*) FROM $SCHEMA.two_phase;" 0
  equal "$(psql_ -c "COMMIT PREPARED '$SCHEMA'")" ""
  is a "SELECT count(*) FROM $SCHEMA.two_phase;" 1
}

reconnect() {
  open a
  ask a "SELECT pg_terminate_backend(pg_backend_pid());"
  has "$answer" "57P01"
  equal "$(psql_ -c "SELECT 1")" 1
}

wrong_password() {
  has "$(PGPASSWORD=wrong psql_ -c "SELECT 1" || true)" "FATAL:  password authentication failed for user \"$PGUSER\""
}

unknown_database() {
  has "$(PGDATABASE=no_such_database psql_ -c "SELECT 1" || true)" "FATAL:  database \"no_such_database\" does not exist"
}

concurrency() {
  psql_ -c "CREATE TABLE $SCHEMA.sums AS SELECT i AS id, 0 AS sum FROM generate_series(0, 19) i"
  local workers=() i k
  for i in {0..19}; do
    for k in {1..50}; do
      echo "BEGIN; UPDATE $SCHEMA.sums SET sum = sum + $i WHERE id = $i; SELECT sum FROM $SCHEMA.sums WHERE id = $i; COMMIT;"
    done >"$folder/work.$i"
    psql_ -f "$folder/work.$i" >"$folder/answers.$i" &
    workers+=($!)
  done
  for i in "${workers[@]}"; do wait "$i" || fail "a worker failed"; done
  for i in {0..19}; do
    equal "$(tr '\n' ' ' <"$folder/answers.$i")" "$(for k in {1..50}; do printf '%d ' $((i * k)); done)"
  done
  equal "$(psql_ -c "SELECT count(*) FROM $SCHEMA.sums WHERE sum = 50 * id")" 20
}

close_midway() {
  psql_ -c "CREATE TABLE $SCHEMA.midway (id int)"
  open a
  is a "BEGIN; LOCK TABLE $SCHEMA.midway; INSERT INTO $SCHEMA.midway VALUES (1);" ""
  kill -KILL "$pid_a"
  equal "$(psql_ -c "SET lock_timeout TO '10s'" -c "LOCK TABLE $SCHEMA.midway" 2>&1 | grep -c timeout || true)" 0
  equal "$(psql_ -c "SELECT count(*) FROM $SCHEMA.midway")" 0
}

# --- running them

said() { printf '{"scenario":"%s","status":"%s","detail":"%s"}\n' "$1" "$2" "$(tr '\n\t' '  ' <<<"$3" | sed 's/["\\]/\\&/g')"; }

if [[ ${1:-} == run ]]; then
  folder=$(mktemp -d)
  # Sessions end when their standard input does, or with this process.
  trap 'for each in ${!pid_@}; do kill -KILL "${!each}" 2>/dev/null || true; done; rm -rf "$folder"' EXIT
  "$2"
  exit 0
fi

psql_ -c "CREATE SCHEMA $SCHEMA" >&2
for scenario in "${scenarios[@]}"; do
  if [[ -n ${ONLY:-} && ",$ONLY," != *",$scenario,"* ]]; then continue; fi
  if [[ -n ${skipped[$scenario]:-} ]]; then
    said "$scenario" skipped "${skipped[$scenario]}"
    continue
  fi
  code=0
  PGSSLROOTCERT=$authority timeout -k 2 $seconds bash "$program" run "$scenario" >/tmp/said.$$ 2>&1 || code=$?
  detail=$(tail -c 1000 /tmp/said.$$)
  if ((code == 0)); then said "$scenario" passed ""; else
    if ((code >= 124)); then detail="timed out; $detail"; fi
    said "$scenario" failed "$detail"
  fi
done
rm -f /tmp/said.$$
psql_ -c "DROP SCHEMA $SCHEMA CASCADE" >&2
