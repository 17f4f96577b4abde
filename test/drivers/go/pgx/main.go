// Program pgx runs the driver scenarios with github.com/jackc/pgx/v5, its pool and its low-level connection.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgsteer-drivers/scenario"
)

type driver struct{}

func configure(target scenario.Target) *pgx.ConnConfig {
	query := url.Values{"sslmode": {"prefer"}}
	if target.TLS {
		query = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {target.RootCert}}
	}
	for name, value := range target.Settings {
		query.Set(name, value)
	}
	if target.Options != "" {
		query.Set("options", target.Options)
	}
	// A space in a query is "%20" here, as in libpq.
	encoded := strings.ReplaceAll(query.Encode(), "+", "%20")
	place := url.URL{
		Scheme: "postgres", User: url.UserPassword(target.User, target.Password),
		Host: target.Host + ":" + target.Port, Path: "/" + target.Database, RawQuery: encoded,
	}
	return scenario.Value(pgx.ParseConfig(place.String()))
}

func (driver) Connect(ctx context.Context, target scenario.Target) (scenario.Session, error) {
	return connect(ctx, configure(target))
}

func connect(ctx context.Context, config *pgx.ConnConfig) (*session, error) {
	s := &session{ctx: ctx}
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		s.notices = append(s.notices, notice.Severity+" "+notice.Message)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	s.conn = conn
	return s, err
}

func (driver) Details(err error) scenario.Details {
	var found *pgconn.PgError
	if !errors.As(err, &found) {
		return scenario.Details{}
	}
	return scenario.Details{
		Code: found.Code, Detail: found.Detail, Table: found.TableName, Constraint: found.ConstraintName,
		Position: strconv.Itoa(int(found.Position)),
	}
}

type session struct {
	ctx     context.Context
	conn    *pgx.Conn
	tx      pgx.Tx
	mutex   sync.Mutex
	notices []string
}

// Queries and executes: a connection, or a transaction of it.
type executor interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func (s *session) executor() executor {
	if s.tx != nil {
		return s.tx
	}
	return s.conn
}

func (s *session) Exec(sql string, args ...any) error {
	_, err := s.executor().Exec(s.ctx, sql, args...)
	return err
}

func (s *session) Rows(sql string, args ...any) ([][]string, error) {
	rows, err := s.executor().Query(s.ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, texts)
}

func (s *session) Unnamed(sql string, args ...any) ([][]string, error) {
	return s.Rows(sql, append([]any{pgx.QueryExecModeExec}, args...)...)
}

func texts(row pgx.CollectableRow) ([]string, error) {
	values, err := row.Values()
	words := make([]string, len(values))
	for i, value := range values {
		words[i] = fmt.Sprint(value)
	}
	return words, err
}

type prepared struct {
	session *session
	name    string
}

func (p prepared) Rows(args ...any) ([][]string, error) { return p.session.Rows(p.name, args...) }

func (p prepared) Close() error { return p.session.conn.Deallocate(p.session.ctx, p.name) }

func (s *session) Prepare(name, sql string) (scenario.Prepared, error) {
	_, err := s.conn.Prepare(s.ctx, name, sql)
	return prepared{s, name}, err
}

func (s *session) Begin(options scenario.TxOptions) error {
	wanted := pgx.TxOptions{IsoLevel: pgx.TxIsoLevel(options.Isolation)}
	if options.ReadOnly {
		wanted.AccessMode = pgx.ReadOnly
	}
	tx, err := s.conn.BeginTx(s.ctx, wanted)
	s.tx = tx
	return err
}

func (s *session) Commit() error { return s.ended(s.tx.Commit(s.ctx)) }

func (s *session) Rollback() error { return s.ended(s.tx.Rollback(s.ctx)) }

func (s *session) ended(err error) error {
	s.tx = nil
	return err
}

func (s *session) Notices() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]string{}, s.notices...)
}

func (s *session) PID() uint32 { return s.conn.PgConn().PID() }

func (s *session) Close() { _ = s.conn.Close(context.Background()) }

func (s *session) Drop() { _ = s.conn.PgConn().Conn().Close() }

// The session behind a shared scenario's, with all that pgx can do.
func open(r *scenario.Run) *session {
	s := scenario.Value(connect(r.Ctx, configure(r.Target)))
	r.Defer(s.Close)
	return s
}

func ssl(r *scenario.Run) {
	target := r.Target
	target.TLS = true
	for _, host := range []string{"127.0.0.1", "localhost"} {
		target.Host = host
		s := scenario.Value(connect(r.Ctx, configure(target)))
		r.Defer(s.Close)
		secured, is := s.conn.PgConn().Conn().(*tls.Conn)
		if !is || len(secured.ConnectionState().VerifiedChains) == 0 {
			scenario.Fail("the connection is not encrypted, or nobody was verified")
		}
		scenario.Equal("answer", scenario.One(s, "SELECT 1"), 1)
	}
}

func main() {
	scenario.Main(driver{}, map[string]scenario.Scenario{
		"simple_query":               simpleQuery,
		"multi_statement":            multiStatement,
		"parameters_null_and_arrays": parameters,
		"binary_types":               binaryTypes,
		"pipeline":                   pipeline,
		"cursor_fetch_portal":        portal,
		"copy_in":                    copyIn,
		"copy_out":                   copyOut,
		"copy_in_error":              copyInError,
		"listen_notify":              listenNotify,
		"cancel":                     cancel,
		"ssl":                        ssl,
		"large_objects":              largeObjects,
		"savepoints":                 savepoints,
		"pool":                       pool,
	})
}
