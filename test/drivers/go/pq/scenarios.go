// What lib/pq and database/sql do in their own way.

package main

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/lib/pq"

	"pgsteer-drivers/scenario"
)

// Without arguments lib/pq takes the simple protocol.
func simpleQuery(r *scenario.Run) {
	s := open(r)
	scenario.Equal("one", scenario.One(s, "SELECT 1"), 1)
	scenario.Must(s.Exec(""))
	scenario.Equal("many", len(scenario.Value(s.Rows("SELECT generate_series(1, 2000)"))), 2000)
	scenario.Equal("null", scenario.One(s, "SELECT NULL::text"), "<nil>")
	text := `it's "quoted" \ and äöü€😀`
	scenario.Equal("text", scenario.One(s, "SELECT "+pq.QuoteLiteral(text)+"::text"), text)
}

func multiStatement(r *scenario.Run) {
	s := open(r)
	rows := scenario.Value(s.conn.QueryContext(r.Ctx, "SELECT 1; SELECT 2"))
	for want := 1; want <= 2; want++ {
		scenario.Equal("a row", rows.Next(), true)
		var got int
		scenario.Must(rows.Scan(&got))
		scenario.Equal("value", got, want)
		scenario.Equal("no second row", rows.Next(), false)
		scenario.Equal("another result", rows.NextResultSet(), want == 1)
	}
	scenario.Must(rows.Close())
	table := r.Name("multi")
	scenario.Must(s.Exec("CREATE TABLE " + table + " (id int)"))
	r.Code("the second", s.Exec("INSERT INTO "+table+" VALUES (1); SELECT 1/0"), "22012")
	scenario.Equal("rows", scenario.One(s, "SELECT count(*) FROM "+table), 0)
}

func roundTrip(s *session, sqlType string, value, into any) {
	scenario.Must(s.conn.QueryRowContext(s.ctx, "SELECT $1::"+sqlType, value).Scan(into))
}

func same[T any](s *session, sqlType string, value T) {
	var got T
	roundTrip(s, sqlType, value, &got)
	scenario.Equal(sqlType, got, value)
}

func parameters(r *scenario.Run) {
	s := open(r)
	same(s, "text", sql.NullString{})
	same(s, "text", "")
	same(s, "int4[]", pq.Int64Array{1, -2, math.MaxInt32})
	same(s, "int4[]", pq.Int64Array{})
	quoted := []sql.NullString{{String: `a "b" {c}, \d`, Valid: true}, {}}
	var got []sql.NullString
	roundTrip(s, "text[]", pq.Array(quoted), pq.Array(&got))
	scenario.Equal("text[]", got, quoted)
	large, back := strings.Repeat("äx", 500_000), ""
	roundTrip(s, "text", large, &back)
	if back != large {
		scenario.Fail("a large text came back changed")
	}
}

func valuesOfAllTypes(r *scenario.Run) {
	s := open(r)
	for _, number := range []int64{math.MinInt16, math.MaxInt16} {
		same(s, "int2", number)
		same(s, "int4", number)
	}
	same(s, "int8", int64(math.MinInt64))
	for _, number := range []float64{0.1, -1e300, math.Inf(1), math.NaN()} {
		same(s, "float8", number)
	}
	same(s, "numeric", "1234567890123456789012345678901234567890.0123456789")
	bytes := make([]byte, 256)
	for i := range bytes {
		bytes[i] = byte(i)
	}
	same(s, "bytea", bytes)
	moment := time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.UTC)
	var got time.Time
	roundTrip(s, "timestamptz", moment, &got)
	scenario.Equal("timestamptz", got.UTC(), moment)
	same(s, "interval", "1 year 2 mons 3 days 00:00:00.000001")
	same(s, "uuid", "01020304-0506-0708-090a-0b0c0d0e0fff")
	same(s, "jsonb", `{"a": [1.5, null, "ä"]}`)
	same(s, "bool", true)
	same(s, "int8[]", pq.Int64Array{1, math.MinInt64})
	same(s, "float8[]", pq.Float64Array{0.5, math.Inf(-1)})
	same(s, "int4range", "[1,9)")
}

func copyIn(r *scenario.Run) {
	s := open(r)
	const copied = 20_000
	scenario.Must(s.Exec("CREATE TABLE " + r.Name("copy_in") + " (id int, word text)"))
	for _, count := range []int{copied, 0} {
		scenario.InTransaction(s, func() {
			copying := scenario.Value(s.tx.PrepareContext(r.Ctx, pq.CopyInSchema(r.Schema, "copy_in", "id", "word")))
			for i := range count {
				scenario.Value(copying.Exec(i, fmt.Sprintf("word %d", i)))
			}
			scenario.Value(copying.Exec())
			scenario.Must(copying.Close())
		})
	}
	got := scenario.One(s, "SELECT count(*) || ' ' || sum(id) FROM "+r.Name("copy_in"))
	scenario.Equal("sum", got, fmt.Sprintf("%d %d", copied, copied*(copied-1)/2))
}

func copyInError(r *scenario.Run) {
	s := open(r)
	scenario.Must(s.Exec("CREATE TABLE " + r.Name("copy_in_error") + " (id int, word text)"))
	scenario.Must(s.Begin(scenario.TxOptions{}))
	copying := scenario.Value(s.tx.PrepareContext(r.Ctx, pq.CopyInSchema(r.Schema, "copy_in_error", "id", "word")))
	var err error
	for i := 0; err == nil && i < 20_000; i++ {
		id := any(i)
		if i == 2 {
			id = "three"
		}
		_, err = copying.Exec(id, "a")
	}
	if err == nil {
		_, err = copying.Exec()
	}
	r.Code("bad row", err, "22P02 22P04")
	_ = copying.Close()
	scenario.Must(s.Rollback())
	scenario.Equal("rows", scenario.One(s, "SELECT count(*) FROM "+r.Name("copy_in_error")), 0)
}

func listenNotify(r *scenario.Run) {
	notifier := open(r)
	listener := pq.NewListener(dsn(r.Target), time.Second, time.Second, nil)
	r.Defer(func() { _ = listener.Close() })
	scenario.Must(listener.Listen(r.Schema))
	var pid string
	scenario.InTransaction(notifier, func() {
		scenario.Must(notifier.Exec("SELECT pg_notify($1, 'the payload')", r.Schema))
		pid = scenario.One(notifier, "SELECT pg_backend_pid()")
	})
	select {
	case got := <-listener.Notify:
		scenario.Equal("notification", []any{got.Channel, got.Extra, got.BePid}, []any{r.Schema, "the payload", pid})
	case <-r.Ctx.Done():
		scenario.Fail("no notification")
	}
	scenario.Must(listener.Unlisten(r.Schema))
	scenario.Must(notifier.Exec("SELECT pg_notify($1, 'another')", r.Schema))
	scenario.Must(listener.Ping())
	select {
	case got := <-listener.Notify:
		scenario.Fail("got %q after UNLISTEN", got.Extra)
	case <-time.After(200 * time.Millisecond):
	}
}

// database/sql cancels by the context, and keeps the connection.
func cancel(r *scenario.Run) {
	s, watcher := open(r), open(r)
	ctx, stop := context.WithCancel(r.Ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		_, err := s.conn.ExecContext(ctx, "SELECT pg_sleep(15) /* "+r.Schema+" */")
		ended <- err
	}()
	running := "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(15) /* " + r.Schema + "%' AND pid <> pg_backend_pid()"
	for scenario.One(watcher, running) == "0" {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	if err := <-ended; err != context.Canceled {
		r.Code("canceled", err, "57014")
	}
	for scenario.One(watcher, running) != "0" {
		time.Sleep(10 * time.Millisecond)
	}
	scenario.Equal("a new connection", scenario.One(open(r), "SELECT 1"), 1)
}

// The pool of database/sql, for which lib/pq resets nothing.
func pool(r *scenario.Run) {
	db := scenario.Value(sql.Open("postgres", dsn(r.Target)))
	r.Defer(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	use := func(body func(conn *sql.Conn)) {
		conn := scenario.Value(db.Conn(r.Ctx))
		body(conn)
		scenario.Must(conn.Close())
	}
	use(func(conn *sql.Conn) {
		scenario.Value(conn.ExecContext(r.Ctx, "SET work_mem = '5MB'"))
		scenario.Value(conn.ExecContext(r.Ctx, "CREATE TEMPORARY TABLE left_behind AS SELECT 7 AS id"))
	})
	use(func(conn *sql.Conn) {
		var memory string
		scenario.Must(conn.QueryRowContext(r.Ctx, "SHOW work_mem").Scan(&memory))
		scenario.Equal("what the last one set", memory, "5MB")
		var id int
		scenario.Must(conn.QueryRowContext(r.Ctx, "SELECT id FROM left_behind").Scan(&id))
		scenario.Equal("what the last one made", id, 7)
		scenario.Value(conn.ExecContext(r.Ctx, "DISCARD ALL"))
	})
	db.SetMaxOpenConns(3)
	statement := scenario.Value(db.PrepareContext(r.Ctx, "SELECT $1::int4 + 1"))
	results := make(chan int, 60)
	for worker := range 6 {
		go func() {
			for i := range 10 {
				got := -1
				_ = statement.QueryRowContext(r.Ctx, worker*10+i).Scan(&got)
				results <- got - worker*10 - i
			}
		}()
	}
	for range 60 {
		scenario.Equal("difference", <-results, 1)
	}
}
