// Program pq runs the driver scenarios with github.com/lib/pq behind database/sql.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/lib/pq"

	"pgsteer-drivers/scenario"
)

type driver struct{}

func dsn(target scenario.Target) string {
	words := map[string]string{
		"host": target.Host, "port": target.Port, "user": target.User, "password": target.Password,
		"dbname": target.Database, "sslmode": "disable",
	}
	if target.TLS {
		words["sslmode"], words["sslrootcert"] = "verify-full", target.RootCert
	}
	if target.Options != "" {
		words["options"] = target.Options
	}
	for name, value := range target.Settings {
		words[name] = value
	}
	var line strings.Builder
	for name, value := range words {
		fmt.Fprintf(&line, "%s='%s' ", name, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
	}
	return line.String()
}

// Remembers the socket, to cut it.
type dialer struct {
	net.Dialer
	socket net.Conn
}

func (d *dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d *dialer) DialTimeout(network, address string, _ time.Duration) (net.Conn, error) {
	return d.Dial(network, address)
}

func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	socket, err := d.Dialer.DialContext(ctx, network, address)
	// A cancel request comes on a connection of its own.
	if d.socket == nil {
		d.socket = socket
	}
	return socket, err
}

func (driver) Connect(ctx context.Context, target scenario.Target) (scenario.Session, error) {
	return connect(ctx, target)
}

func connect(ctx context.Context, target scenario.Target) (*session, error) {
	s := &session{ctx: ctx}
	connector, err := pq.NewConnector(dsn(target))
	if err != nil {
		return s, err
	}
	connector.Dialer(&s.dialer)
	s.db = sql.OpenDB(pq.ConnectorWithNoticeHandler(connector, func(notice *pq.Error) {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		s.notices = append(s.notices, notice.Severity+" "+notice.Message)
	}))
	s.db.SetMaxOpenConns(1)
	s.conn, err = s.db.Conn(ctx)
	return s, err
}

func (driver) Details(err error) scenario.Details {
	var found *pq.Error
	if !errors.As(err, &found) {
		return scenario.Details{}
	}
	return scenario.Details{
		Code: string(found.Code), Detail: found.Detail, Table: found.Table, Constraint: found.Constraint,
		Position: found.Position,
	}
}

type session struct {
	ctx     context.Context
	db      *sql.DB
	conn    *sql.Conn
	tx      *sql.Tx
	dialer  dialer
	mutex   sync.Mutex
	notices []string
}

func (s *session) Exec(text string, args ...any) error {
	var err error
	if s.tx != nil {
		_, err = s.tx.ExecContext(s.ctx, text, args...)
	} else {
		_, err = s.conn.ExecContext(s.ctx, text, args...)
	}
	return err
}

func (s *session) Rows(text string, args ...any) ([][]string, error) {
	if s.tx != nil {
		return texts(s.tx.QueryContext(s.ctx, text, args...))
	}
	return texts(s.conn.QueryContext(s.ctx, text, args...))
}

// With arguments lib/pq parses without a name, in a round trip of its own.
func (s *session) Unnamed(text string, args ...any) ([][]string, error) { return s.Rows(text, args...) }

func texts(rows *sql.Rows, err error) ([][]string, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var all [][]string
	for rows.Next() {
		values, places := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			places[i] = &values[i]
		}
		if err := rows.Scan(places...); err != nil {
			return nil, err
		}
		words := make([]string, len(values))
		for i, value := range values {
			if bytes, is := value.([]byte); is {
				value = string(bytes)
			}
			words[i] = fmt.Sprint(value)
		}
		all = append(all, words)
	}
	return all, rows.Err()
}

type prepared struct {
	session   *session
	statement *sql.Stmt
}

func (p prepared) Rows(args ...any) ([][]string, error) {
	return texts(p.statement.QueryContext(p.session.ctx, args...))
}

func (p prepared) Close() error { return p.statement.Close() }

// lib/pq chooses the name.
func (s *session) Prepare(_, text string) (scenario.Prepared, error) {
	statement, err := s.conn.PrepareContext(s.ctx, text)
	return prepared{s, statement}, err
}

func (s *session) Begin(options scenario.TxOptions) error {
	wanted := sql.TxOptions{ReadOnly: options.ReadOnly}
	if options.Isolation == "serializable" {
		wanted.Isolation = sql.LevelSerializable
	}
	tx, err := s.conn.BeginTx(s.ctx, &wanted)
	s.tx = tx
	return err
}

func (s *session) Commit() error { return s.ended(s.tx.Commit()) }

func (s *session) Rollback() error { return s.ended(s.tx.Rollback()) }

func (s *session) ended(err error) error {
	s.tx = nil
	return err
}

func (s *session) Notices() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]string{}, s.notices...)
}

func (s *session) PID() uint32 { return 0 }

func (s *session) Close() {
	if s.tx != nil {
		_ = s.tx.Rollback()
	}
	if s.conn != nil {
		_ = s.conn.Close()
	}
	_ = s.db.Close()
}

func (s *session) Drop() { _ = s.dialer.socket.Close() }

func open(r *scenario.Run) *session {
	s := scenario.Value(connect(r.Ctx, r.Target))
	r.Defer(s.Close)
	return s
}

func ssl(r *scenario.Run) {
	target := r.Target
	target.TLS = true
	for _, host := range []string{"127.0.0.1", "localhost"} {
		target.Host = host
		s := scenario.Value(connect(r.Ctx, target))
		r.Defer(s.Close)
		scenario.Equal("answer", scenario.One(s, "SELECT 1"), 1)
	}
}

func main() {
	scenario.Main(driver{}, map[string]scenario.Scenario{
		"simple_query":               simpleQuery,
		"multi_statement":            multiStatement,
		"parameters_null_and_arrays": parameters,
		"binary_types":               valuesOfAllTypes,
		"pipeline":                   scenario.Skipped("lib/pq has no pipeline"),
		"cursor_fetch_portal":        scenario.Skipped("lib/pq sets no row limit"),
		"copy_in":                    copyIn,
		"copy_out":                   scenario.Skipped("lib/pq has no COPY TO"),
		"copy_in_error":              copyInError,
		"listen_notify":              listenNotify,
		"cancel":                     cancel,
		"ssl":                        ssl,
		"large_objects":              scenario.Skipped("lib/pq has no large objects"),
		"pool":                       pool,
	})
}
