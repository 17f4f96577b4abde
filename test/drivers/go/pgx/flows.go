// Scenarios of pgx about COPY, portals, notifications, cancel, large objects, and its pool.

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"pgsteer-drivers/scenario"
)

func portal(r *scenario.Run) {
	s := open(r)
	scenario.InTransaction(s, func() {
		wire := s.conn.PgConn().Frontend()
		wire.SendParse(&pgproto3.Parse{Query: "SELECT generate_series(1, 1000)"})
		wire.SendBind(&pgproto3.Bind{DestinationPortal: "pieces"})
		rows := 0
		for piece := 1; rows < 1000; piece++ {
			wire.SendExecute(&pgproto3.Execute{Portal: "pieces", MaxRows: 50})
			wire.Send(&pgproto3.Flush{})
			scenario.Must(wire.Flush())
			got, suspended := receivePiece(wire)
			scenario.Equal("rows of a piece", got, 50)
			scenario.Equal("suspended", suspended, true)
			rows += got
		}
		wire.SendSync(&pgproto3.Sync{})
		scenario.Must(wire.Flush())
		for {
			if _, ready := scenario.Value(wire.Receive()).(*pgproto3.ReadyForQuery); ready {
				break
			}
		}
	})
	scenario.Equal("afterwards", scenario.One(s, "SELECT 1"), 1)
}

func receivePiece(wire *pgproto3.Frontend) (rows int, suspended bool) {
	for {
		switch message := scenario.Value(wire.Receive()).(type) {
		case *pgproto3.DataRow:
			rows++
		case *pgproto3.PortalSuspended:
			return rows, true
		case *pgproto3.CommandComplete:
			return rows, false
		case *pgproto3.ErrorResponse:
			scenario.Fail("%s (%s)", message.Message, message.Code)
		}
	}
}

const copied = 20_000

func copyTable(r *scenario.Run, s *session, name string) string {
	scenario.Must(s.Exec("CREATE TABLE " + r.Name(name) + " (id int, word text)"))
	return r.Name(name)
}

func copyIn(r *scenario.Run) {
	s := open(r)
	table := copyTable(r, s, "copy_in")
	rows := pgx.CopyFromSlice(copied, func(i int) ([]any, error) { return []any{i, fmt.Sprintf("word %d", i)}, nil })
	place := pgx.Identifier(strings.Split(table, "."))
	count := scenario.Value(s.conn.CopyFrom(r.Ctx, place, []string{"id", "word"}, rows))
	scenario.Equal("copied", count, copied)
	scenario.Equal("sum", scenario.One(s, "SELECT count(*) || ' ' || sum(id) FROM "+table), fmt.Sprintf("%d %d", copied, copied*(copied-1)/2))
	tag := scenario.Value(s.conn.PgConn().CopyFrom(r.Ctx, strings.NewReader(""), "COPY "+table+" FROM STDIN"))
	scenario.Equal("empty", tag.RowsAffected(), 0)
}

func copyOut(r *scenario.Run) {
	s := open(r)
	var out bytes.Buffer
	sql := fmt.Sprintf("COPY (SELECT n, 'word ' || n FROM generate_series(1, %d) n) TO STDOUT", copied)
	tag := scenario.Value(s.conn.PgConn().CopyTo(r.Ctx, &out, sql))
	scenario.Equal("rows", tag.RowsAffected(), copied)
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	scenario.Equal("lines", len(lines), copied)
	scenario.Equal("the last", lines[copied-1], fmt.Sprintf("%d\tword %d", copied, copied))
}

type brokenReader struct{ rest io.Reader }

func (b brokenReader) Read(into []byte) (int, error) {
	count, err := b.rest.Read(into)
	if err == io.EOF {
		err = errors.New("no more")
	}
	return count, err
}

func copyInError(r *scenario.Run) {
	s := open(r)
	table := copyTable(r, s, "copy_in_error")
	bad := "1\ta\n2\tb\nthree\tc\n" + strings.Repeat("4\td\n", copied)
	_, err := s.conn.PgConn().CopyFrom(r.Ctx, strings.NewReader(bad), "COPY "+table+" FROM STDIN")
	r.Code("bad row", err, "22P02 22P04")
	_, err = s.conn.PgConn().CopyFrom(r.Ctx, brokenReader{strings.NewReader("1\ta\n")}, "COPY "+table+" FROM STDIN")
	r.Code("abort", err, "57014")
	scenario.Equal("rows", scenario.One(s, "SELECT count(*) FROM "+table), 0)
}

func listenNotify(r *scenario.Run) {
	listener, notifier := open(r), open(r)
	scenario.Must(listener.Exec("LISTEN " + r.Schema))
	var pid string
	scenario.InTransaction(notifier, func() {
		scenario.Must(notifier.Exec("SELECT pg_notify($1, 'the payload')", r.Schema))
		pid = scenario.One(notifier, "SELECT pg_backend_pid()")
	})
	got := scenario.Value(listener.conn.WaitForNotification(r.Ctx))
	scenario.Equal("notification", []any{got.Channel, got.Payload, got.PID}, []any{r.Schema, "the payload", pid})
	scenario.Must(listener.Exec("UNLISTEN *"))
	scenario.Must(notifier.Exec("SELECT pg_notify($1, 'another')", r.Schema))
	short, done := context.WithTimeout(r.Ctx, 200*time.Millisecond)
	defer done()
	if got, err := listener.conn.WaitForNotification(short); err == nil {
		scenario.Fail("got %q after UNLISTEN", got.Payload)
	}
}

func cancel(r *scenario.Run) {
	s, watcher := open(r), open(r)
	ended := make(chan error, 1)
	go func() { ended <- s.Exec("SELECT pg_sleep(15) /* " + r.Schema + " */") }()
	running := "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()"
	for scenario.One(watcher, running, "%pg_sleep(15) /* "+r.Schema+"%") == "0" {
		time.Sleep(10 * time.Millisecond)
	}
	scenario.Must(s.conn.PgConn().CancelRequest(r.Ctx))
	r.Code("canceled", <-ended, "57014")
	scenario.Equal("afterwards", scenario.One(s, "SELECT 1"), 1)
}

func largeObjects(r *scenario.Run) {
	s := open(r)
	content := bytes.Repeat([]byte("0123456789\x00\xff"), 50_000)
	var oid uint32
	scenario.InTransaction(s, func() {
		objects := s.tx.LargeObjects()
		oid = scenario.Value(objects.Create(r.Ctx, 0))
		object := scenario.Value(objects.Open(r.Ctx, oid, pgx.LargeObjectModeWrite))
		scenario.Value(object.Write(content))
		scenario.Must(object.Close())
	})
	scenario.InTransaction(s, func() {
		objects := s.tx.LargeObjects()
		object := scenario.Value(objects.Open(r.Ctx, oid, pgx.LargeObjectModeRead))
		if !bytes.Equal(scenario.Value(io.ReadAll(object)), content) {
			scenario.Fail("the large object came back changed")
		}
		scenario.Must(object.Close())
		scenario.Must(objects.Unlink(r.Ctx, oid))
	})
}

// By pgx's own interface: a transaction inside a transaction is a savepoint.
func savepoints(r *scenario.Run) {
	s := open(r)
	table := r.Name("savepoints")
	scenario.Must(s.Exec("CREATE TABLE " + table + " (id int)"))
	scenario.InTransaction(s, func() {
		scenario.Must(s.Exec("INSERT INTO " + table + " VALUES (1)"))
		inner := scenario.Value(s.tx.Begin(r.Ctx))
		_, err := inner.Exec(r.Ctx, "INSERT INTO "+table+" SELECT 1/0")
		r.Code("inside", err, "22012")
		scenario.Must(inner.Rollback(r.Ctx))
		inner = scenario.Value(s.tx.Begin(r.Ctx))
		scenario.Value(inner.Exec(r.Ctx, "INSERT INTO "+table+" VALUES (3)"))
		scenario.Must(inner.Commit(r.Ctx))
	})
	scenario.Equal("rows", scenario.Value(s.Rows("SELECT id FROM "+table+" ORDER BY id")), [][]string{{"1"}, {"3"}})
}

// pgxpool resets nothing between borrowers, but a connection that is in a transaction is closed.
func pool(r *scenario.Run) {
	config := scenario.Value(pgxpool.ParseConfig(configure(r.Target).ConnString()))
	config.MaxConns = 3
	pool := scenario.Value(pgxpool.NewWithConfig(r.Ctx, config))
	r.Defer(pool.Close)
	var dirty *pgx.Conn
	scenario.Must(pool.AcquireFunc(r.Ctx, func(conn *pgxpool.Conn) error {
		dirty = conn.Conn()
		_, err := conn.Exec(r.Ctx, "BEGIN")
		return err
	}))
	for range 30 {
		scenario.Must(pool.AcquireFunc(r.Ctx, func(conn *pgxpool.Conn) error {
			scenario.Equal("status", string(conn.Conn().PgConn().TxStatus()), "I")
			if conn.Conn() == dirty {
				scenario.Fail("a connection with an open transaction was lent again")
			}
			_, err := conn.Exec(r.Ctx, "SET work_mem = '5MB'")
			return err
		}))
	}
	var left string
	scenario.Must(pool.QueryRow(r.Ctx, "SHOW work_mem").Scan(&left))
	scenario.Equal("what the last one left", left, "5MB")
	failed := pgx.BeginFunc(r.Ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(r.Ctx, "SELECT 1/0")
		return err
	})
	r.Code("a transaction of the pool", failed, "22012")
	var one int
	scenario.Must(pool.QueryRow(r.Ctx, "SELECT 1").Scan(&one))
}
