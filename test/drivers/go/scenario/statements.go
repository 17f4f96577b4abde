// Scenarios that all drivers share: statements, transactions, errors.

package scenario

import (
	"fmt"
	"strings"
	"sync"
)

var shared = map[string]Scenario{
	"extended_query":       extendedQuery,
	"named_prepared":       namedPrepared,
	"unnamed_prepared":     unnamedPrepared,
	"prepared_after_ddl":   preparedAfterDdl,
	"prepared_many":        preparedMany,
	"cursor":               cursor,
	"errors":               errorsOfAllKinds,
	"error_in_transaction": errorInTransaction,
	"savepoints":           savepoints,
	"set_show":             setShow,
	"set_local":            setLocal,
	"startup_options":      startupOptions,
	"temp_tables":          tempTables,
	"advisory_locks":       advisoryLocks,
	"with_hold_cursor":     withHoldCursor,
	"sql_prepare":          sqlPrepare,
	"isolation_levels":     isolationLevels,
	"read_only_session":    readOnlySession,
	"notices":              notices,
	"backend_pid":          backendPid,
	"two_phase":            twoPhase,
	"reconnect":            reconnect,
	"wrong_password":       wrongPassword,
	"unknown_database":     unknownDatabase,
	"concurrency":          concurrency,
	"close_midway":         closeMidway,
	"orm_schema":           Skipped("a driver, not an ORM"),
}

// One is the only value of a row.
func One(s Session, sql string, args ...any) string {
	rows := Value(s.Rows(sql, args...))
	if len(rows) != 1 || len(rows[0]) != 1 {
		Fail("%s: got %v, expected one value", sql, rows)
	}
	return rows[0][0]
}

// InTransaction runs `body` in a transaction of `s`.
func InTransaction(s Session, body func()) {
	Must(s.Begin(TxOptions{}))
	body()
	Must(s.Commit())
}

// Elsewhere runs `body` while `other` holds, in a transaction, the server that was used last: what follows comes to another one.
func Elsewhere(other Session, body func()) {
	InTransaction(other, func() {
		Equal("the other", One(other, "SELECT 1"), 1)
		body()
	})
}

// AtServers runs `body` in turns at whatever server comes, and at another one.
func AtServers(other Session, times int, body func(turn int)) {
	for turn := range times {
		if turn%2 == 0 {
			Elsewhere(other, func() { body(turn) })
		} else {
			body(turn)
		}
	}
}

func extendedQuery(r *Run) {
	s := r.Connect()
	rows := Value(s.Rows("SELECT $1::int4 + $2::int4, $3::text, $4::bool", 40, 2, "a'b\\ä😀", true))
	Equal("row", rows, [][]string{{"42", "a'b\\ä😀", "true"}})
}

func namedPrepared(r *Run) {
	s, other := r.Connect(), r.Connect()
	add := Value(s.Prepare("adds", "SELECT $1::int4 + 1"))
	AtServers(other, 20, func(turn int) {
		Equal("sum", Value(add.Rows(turn)), [][]string{{fmt.Sprint(turn + 1)}})
	})
	Must(add.Close())
	_, err := add.Rows(1)
	if err == nil {
		Fail("a statement that was closed still runs")
	}
	Equal("afterwards", One(s, "SELECT 1"), 1)
}

func unnamedPrepared(r *Run) {
	s, other := r.Connect(), r.Connect()
	AtServers(other, 20, func(turn int) {
		mine := Value(s.Unnamed(fmt.Sprintf("SELECT $1::int4 + %d", turn), 1))
		Equal("mine", mine, [][]string{{fmt.Sprint(turn + 1)}})
		its := Value(other.Unnamed(fmt.Sprintf("SELECT $1::text || '%d'", turn), "x"))
		Equal("the other's", its, [][]string{{fmt.Sprintf("x%d", turn)}})
	})
}

func preparedAfterDdl(r *Run) {
	s, other := r.Connect(), r.Connect()
	table := r.Name("after_ddl")
	Must(s.Exec("CREATE TABLE " + table + " (a int)"))
	Must(s.Exec("INSERT INTO " + table + " VALUES (1)"))
	statement := Value(s.Prepare("star", "SELECT * FROM "+table))
	Equal("before", Value(statement.Rows()), [][]string{{"1"}})
	Must(other.Exec("ALTER TABLE " + table + " ADD COLUMN b int DEFAULT 2"))
	// At first elsewhere, where a router may have to prepare it anew: that must not change what the driver expects of it.
	AtServers(other, 6, func(turn int) {
		rows, err := statement.Rows()
		if err != nil {
			r.Code("after the change", err, "0A000")
			Must(statement.Close())
			statement = Value(s.Prepare("star", "SELECT * FROM "+table))
			rows = Value(statement.Rows())
		}
		Equal("after", rows, [][]string{{"1", "2"}})
	})
}

func preparedMany(r *Run) {
	s, other := r.Connect(), r.Connect()
	statements := make([]Prepared, 300)
	for i := range statements {
		statements[i] = Value(s.Prepare(fmt.Sprintf("many_%d", i), fmt.Sprintf("SELECT $1::int4 + %d", i)))
	}
	for _, count := range []int{300, 20} {
		for i := range count {
			Equal("sum", Value(statements[i].Rows(1)), [][]string{{fmt.Sprint(i + 1)}})
		}
	}
	Elsewhere(other, func() { Equal("elsewhere", Value(statements[0].Rows(1)), [][]string{{"1"}}) })
}

func cursor(r *Run) {
	s := r.Connect()
	InTransaction(s, func() {
		Must(s.Exec("DECLARE c CURSOR FOR SELECT generate_series(1, 1000)"))
		for piece := range 5 {
			rows := Value(s.Rows("FETCH 100 FROM c"))
			Equal("rows", len(rows), 100)
			Equal("first of the piece", rows[0][0], piece*100+1)
		}
		Must(s.Exec("CLOSE c"))
	})
	Equal("afterwards", One(s, "SELECT 1"), 1)
}

func errorsOfAllKinds(r *Run) {
	s := r.Connect()
	table := r.Name("errors")
	Must(s.Exec("CREATE TABLE " + table + " (id int CONSTRAINT errors_only_once UNIQUE)"))
	Must(s.Exec("INSERT INTO " + table + " VALUES (1)"))
	err := s.Exec("INSERT INTO "+table+" VALUES ($1)", 1)
	r.Code("duplicate", err, "23505")
	found := r.Driver.Details(err)
	Equal("constraint", found.Constraint, "errors_only_once")
	Equal("table", found.Table, "errors")
	Equal("detail", found.Detail, "Key (id)=(1) already exists.")
	err = s.Exec("SELECT 1 FORM nothing")
	r.Code("syntax", err, "42601")
	Equal("position", r.Driver.Details(err).Position, 15)
	r.Code("division", s.Exec("SELECT 1 / $1::int4", 0), "22012")
	Equal("afterwards", One(s, "SELECT 1"), 1)
}

func errorInTransaction(r *Run) {
	s := r.Connect()
	table := r.Name("aborted")
	Must(s.Exec("CREATE TABLE " + table + " (id int)"))
	Must(s.Begin(TxOptions{}))
	Must(s.Exec("INSERT INTO " + table + " VALUES (1)"))
	r.Code("the error", s.Exec("SELECT 1/0"), "22012")
	r.Code("what follows", s.Exec("SELECT 1"), "25P02")
	Must(s.Rollback())
	Must(s.Begin(TxOptions{}))
	Must(s.Exec("INSERT INTO " + table + " VALUES (2)"))
	r.Code("the second error", s.Exec("SELECT 1/0"), "22012")
	// Some drivers say that it was a rollback, and all of them leave a usable connection.
	_ = s.Commit()
	Equal("rows", One(s, "SELECT count(*) FROM "+table), 0)
}

func savepoints(r *Run) {
	s := r.Connect()
	table := r.Name("savepoints")
	Must(s.Exec("CREATE TABLE " + table + " (id int)"))
	insert := func(id int) { Must(s.Exec("INSERT INTO "+table+" VALUES ($1)", id)) }
	InTransaction(s, func() {
		insert(1)
		Must(s.Exec("SAVEPOINT a"))
		insert(2)
		r.Code("the error", s.Exec("SELECT 1/0"), "22012")
		r.Code("behind it", s.Exec("SELECT 1"), "25P02")
		Must(s.Exec("ROLLBACK TO SAVEPOINT a"))
		insert(3)
		Must(s.Exec("RELEASE SAVEPOINT a"))
	})
	Equal("rows", Value(s.Rows("SELECT id FROM "+table+" ORDER BY id")), [][]string{{"1"}, {"3"}})
}

func isolationLevels(r *Run) {
	s, other := r.Connect(), r.Connect()
	Must(s.Begin(TxOptions{Isolation: "serializable"}))
	Equal("in the transaction", One(s, "SHOW transaction_isolation"), "serializable")
	Must(s.Commit())
	Must(s.Exec("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
	AtServers(other, 4, func(int) {
		InTransaction(s, func() { Equal("in the session", One(s, "SHOW transaction_isolation"), "repeatable read") })
	})
	Equal("the other's", One(other, "SHOW transaction_isolation"), "read committed")
}

func readOnlySession(r *Run) {
	s, other := r.Connect(), r.Connect()
	table := r.Name("read_only")
	Must(s.Exec("CREATE TABLE " + table + " (id int)"))
	insert := "INSERT INTO " + table + " VALUES (1)"
	Must(s.Begin(TxOptions{ReadOnly: true}))
	r.Code("in a read-only transaction", s.Exec(insert), "25006")
	Must(s.Rollback())
	Must(s.Exec("SET default_transaction_read_only = on"))
	AtServers(other, 4, func(int) { r.Code("in a read-only session", s.Exec(insert), "25006") })
	Must(other.Exec(insert))
	Must(s.Exec("SET default_transaction_read_only = off"))
	Must(s.Exec(insert))
	Must(other.Exec(insert))
}

func notices(r *Run) {
	s := r.Connect()
	before := len(s.Notices())
	Must(s.Exec("DO $$BEGIN RAISE NOTICE 'first'; RAISE WARNING 'second'; END$$"))
	Equal("notices", strings.Join(s.Notices()[before:], ", "), "NOTICE first, WARNING second")
}

func twoPhase(r *Run) {
	s, other := r.Connect(), r.Connect()
	if One(s, "SHOW max_prepared_transactions") == "0" {
		Skip("max_prepared_transactions is 0")
	}
	table, name := r.Name("two_phase"), r.Schema+"_two"
	Must(s.Exec("CREATE TABLE " + table + " (id int)"))
	Must(s.Exec("BEGIN"))
	Must(s.Exec("INSERT INTO " + table + " VALUES (1)"))
	Must(s.Exec("PREPARE TRANSACTION '" + name + "'"))
	// Where it was not committed, it would hold its locks for ever.
	r.Defer(func() { _ = r.Connect().Exec("ROLLBACK PREPARED '" + name + "'") })
	Equal("before", One(s, "SELECT count(*) FROM "+table), 0)
	Must(other.Exec("COMMIT PREPARED '" + name + "'"))
	Equal("after", One(s, "SELECT count(*) FROM "+table), 1)
}

func reconnect(r *Run) {
	s := r.Connect()
	if err := s.Exec("SELECT pg_terminate_backend(pg_backend_pid())"); err == nil {
		Fail("terminated without an error")
	} else if code := r.Driver.Details(err).Code; code != "" && code != "57P01" {
		r.Code("terminated", err, "57P01")
	}
	Equal("a new connection", One(r.Connect(), "SELECT 1"), 1)
}

func wrongPassword(r *Run) {
	target := r.Target
	target.Password = "not this"
	_, err := r.Driver.Connect(r.Ctx, target)
	r.Code("wrong password", err, "28P01")
}

func unknownDatabase(r *Run) {
	target := r.Target
	target.Database = "there_is_no_such_database"
	_, err := r.Driver.Connect(r.Ctx, target)
	r.Code("unknown database", err, "3D000")
}

func concurrency(r *Run) {
	table := r.Name("concurrency")
	const workers, rounds = 20, 50
	s := r.Connect()
	Must(s.Exec("CREATE TABLE " + table + " (worker int PRIMARY KEY, total int NOT NULL)"))
	Must(s.Exec(fmt.Sprintf("INSERT INTO %s SELECT n, 0 FROM generate_series(0, %d) n", table, workers-1)))
	s.Close()
	var group sync.WaitGroup
	failures := make([]any, workers)
	for worker := range workers {
		group.Go(func() {
			defer func() { failures[worker] = recover() }()
			own := Value(r.Driver.Connect(r.Ctx, r.Target))
			defer own.Close()
			total := 0
			for round := range rounds {
				total += worker + round
				InTransaction(own, func() {
					Must(own.Exec("UPDATE "+table+" SET total = total + $2 WHERE worker = $1", worker, worker+round))
					Equal("total", One(own, "SELECT total FROM "+table+" WHERE worker = $1", worker), total)
					Equal("echo", One(own, "SELECT $1::int4 * 1000 + $2::int4", worker, round), worker*1000+round)
				})
			}
		})
	}
	group.Wait()
	for worker, failure := range failures {
		if failure != nil {
			Fail("worker %d: %v", worker, failure)
		}
	}
	rows := Value(r.Connect().Rows("SELECT worker, total FROM " + table + " ORDER BY worker"))
	for worker, row := range rows {
		Equal("sum", row, []string{fmt.Sprint(worker), fmt.Sprint(worker*rounds + rounds*(rounds-1)/2)})
	}
}

func closeMidway(r *Run) {
	s, other := r.Connect(), r.Connect()
	table := r.Name("midway")
	Must(s.Exec("CREATE TABLE " + table + " (id int)"))
	Must(s.Begin(TxOptions{}))
	Must(s.Exec("INSERT INTO " + table + " VALUES (1)"))
	Must(s.Exec("LOCK TABLE " + table + " IN ACCESS EXCLUSIVE MODE"))
	s.Drop()
	Must(other.Exec("SET lock_timeout = '10s'"))
	Equal("rows", One(other, "SELECT count(*) FROM "+table), 0)
}
