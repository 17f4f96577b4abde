// Package scenario runs the driver scenarios of ../../SCENARIOS.md: one goroutine at a time, each bounded, one line of JSON per scenario on
// standard output. A scenario fails by panicking through Must, Equal or Fail; what it opened is closed behind it.
package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"
)

// Names of all scenarios, in the order in which they run.
var names = strings.Fields(`simple_query multi_statement extended_query parameters_null_and_arrays named_prepared unnamed_prepared
	prepared_after_ddl prepared_many pipeline cursor cursor_fetch_portal copy_in copy_out copy_in_error listen_notify cancel ssl large_objects
	binary_types errors error_in_transaction savepoints set_show set_local startup_options temp_tables advisory_locks with_hold_cursor
	sql_prepare isolation_levels read_only_session notices backend_pid two_phase reconnect wrong_password unknown_database concurrency pool
	close_midway orm_schema`)

const limit = 20 * time.Second

// Target is where to connect, as whom.
type Target struct {
	Host, Port, User, Password, Database, RootCert string
	// TLS: verify-full instead of the driver's default.
	TLS bool
	// Settings for the startup packet.
	Settings map[string]string
	// Options is the startup parameter of that name.
	Options string
}

// Isolation and access of a transaction; empty for the default.
type TxOptions struct {
	Isolation string
	ReadOnly  bool
}

// Prepared is a statement by name.
type Prepared interface {
	Rows(args ...any) ([][]string, error)
	Close() error
}

// Session is one connection, as far as the drivers are alike. Values are text; NULL is "<nil>".
type Session interface {
	Exec(sql string, args ...any) error
	Rows(sql string, args ...any) ([][]string, error)
	// Unnamed runs a statement by the extended protocol without a name.
	Unnamed(sql string, args ...any) ([][]string, error)
	Prepare(name, sql string) (Prepared, error)
	// Begin opens a transaction in which all the others work until Commit or Rollback.
	Begin(options TxOptions) error
	Commit() error
	Rollback() error
	Notices() []string
	// PID is the backend's as the driver knows it; 0 where it does not tell.
	PID() uint32
	Close()
	// Drop closes the socket without a word.
	Drop()
}

// Details of a server's error.
type Details struct{ Code, Detail, Table, Constraint, Position string }

// Driver connects and reads errors.
type Driver interface {
	Connect(ctx context.Context, target Target) (Session, error)
	Details(err error) Details
}

// Run is one scenario under way.
type Run struct {
	Ctx    context.Context
	Driver Driver
	Target Target
	Schema string
	defers []func()
}

// Scenario is one of the names' bodies.
type Scenario func(r *Run)

type skipped struct{ reason string }

// Skip ends a scenario that the driver has no interface for.
func Skip(reason string) { panic(skipped{reason}) }

// Skipped is a scenario that only says why it is none.
func Skipped(reason string) Scenario { return func(*Run) { Skip(reason) } }

// Fail ends a scenario.
func Fail(format string, args ...any) { panic(fmt.Errorf(format, args...)) }

// Must fails on an error.
func Must(err error) {
	if err != nil {
		panic(err)
	}
}

// Value is the result of a call that must succeed.
func Value[T any](value T, err error) T {
	Must(err)
	return value
}

// Equal fails unless both print alike.
func Equal(what string, got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		Fail("%s: got %.200s, expected %.200s", what, fmt.Sprint(got), fmt.Sprint(want))
	}
}

// Defer runs `done` when the scenario is over.
func (r *Run) Defer(done func()) { r.defers = append(r.defers, done) }

// Connect opens a connection that ends with the scenario.
func (r *Run) Connect() Session { return r.ConnectTo(r.Target) }

// ConnectTo does the same with other options.
func (r *Run) ConnectTo(target Target) Session {
	session := Value(r.Driver.Connect(r.Ctx, target))
	r.Defer(session.Close)
	return session
}

// Code fails unless `err` has one of these SQLSTATEs, separated by spaces.
func (r *Run) Code(what string, err error, codes string) {
	if err == nil {
		Fail("%s: no error, expected %s", what, codes)
	}
	got := r.Driver.Details(err).Code
	if got == "" || !strings.Contains(codes, got) {
		Fail("%s: got %q (%v), expected %s", what, got, err, codes)
	}
}

// Name is a table's, qualified, of this run.
func (r *Run) Name(table string) string { return r.Schema + "." + table }

func (r *Run) carryOut(body Scenario) (status, detail string) {
	defer func() {
		switch failure := recover().(type) {
		case nil:
		case skipped:
			status, detail = "skipped", failure.reason
		case error:
			status, detail = "failed", failure.Error()
			if code := r.Driver.Details(failure).Code; code != "" {
				detail += " (" + code + ")"
			}
		default:
			status, detail = "failed", fmt.Sprint(failure)
		}
		for i := len(r.defers) - 1; i >= 0; i-- {
			r.defers[i]()
		}
	}()
	body(r)
	return "passed", ""
}

func say(name, status, detail string) {
	line := Value(json.Marshal(map[string]string{"scenario": name, "status": status, "detail": detail}))
	fmt.Println(string(line))
}

// Main runs the scenarios of a driver: `own` where it has them, otherwise those that all drivers share.
func Main(driver Driver, own map[string]Scenario) {
	all := maps.Clone(shared)
	maps.Copy(all, own)
	MainOnly(driver, all)
}

// MainOnly runs these scenarios, and says of the others that the driver has no notion of them.
func MainOnly(driver Driver, bodies map[string]Scenario) {
	env := os.Getenv
	target := Target{
		Host: env("PGHOST"), Port: env("PGPORT"), User: env("PGUSER"), Password: env("PGPASSWORD"),
		Database: env("PGDATABASE"), RootCert: env("PGSSLROOTCERT"),
	}
	// Drivers read them too; a scenario says itself what it wants.
	for _, name := range []string{"PGSSLROOTCERT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGHOST", "PGPORT"} {
		Must(os.Unsetenv(name))
	}
	schema, only := env("SCHEMA"), env("ONLY")
	admin := func(sql string) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		session := Value(driver.Connect(ctx, target))
		defer session.Close()
		Must(session.Exec(sql))
	}
	admin("CREATE SCHEMA " + schema)
	defer admin("DROP SCHEMA " + schema + " CASCADE")
	for _, name := range names {
		if only != "" && !strings.Contains(","+only+",", ","+name+",") {
			continue
		}
		body := bodies[name]
		if body == nil {
			body = Skipped("it has no notion of this")
		}
		runOne(driver, target, schema, name, body)
	}
}

func runOne(driver Driver, target Target, schema, name string, body Scenario) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	type outcome struct{ status, detail string }
	done := make(chan outcome, 1)
	go func() {
		run := &Run{Ctx: ctx, Driver: driver, Target: target, Schema: schema}
		status, detail := run.carryOut(body)
		done <- outcome{status, detail}
	}()
	select {
	case result := <-done:
		if result.status == "failed" && ctx.Err() != nil {
			result.detail = "timed out: " + result.detail
		}
		say(name, result.status, result.detail)
	case <-time.After(limit + time.Second):
		say(name, "failed", "timed out")
	}
}
