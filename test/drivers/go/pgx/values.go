// Scenarios of pgx about queries and values.

package main

import (
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"pgsteer-drivers/scenario"
)

func simpleQuery(r *scenario.Run) {
	s := open(r)
	simple := func(sql string) [][]string { return scenario.Value(s.Rows(sql, pgx.QueryExecModeSimpleProtocol)) }
	scenario.Equal("one", simple("SELECT 1"), [][]string{{"1"}})
	scenario.Equal("empty", len(simple("")), 0)
	scenario.Equal("many", len(simple("SELECT generate_series(1, 2000)")), 2000)
	scenario.Equal("null", simple("SELECT NULL::text"), [][]string{{"<nil>"}})
	text := `it's "quoted" \ and äöü€😀`
	got := scenario.Value(s.Rows("SELECT $1::text", pgx.QueryExecModeSimpleProtocol, text))
	scenario.Equal("text", got, [][]string{{text}})
}

func multiStatement(r *scenario.Run) {
	s := open(r)
	results := scenario.Value(s.conn.PgConn().Exec(r.Ctx, "SELECT 1; SELECT 2").ReadAll())
	scenario.Equal("results", len(results), 2)
	for i, result := range results {
		scenario.Equal("value", string(result.Rows[0][0]), i+1)
	}
	table := r.Name("multi")
	scenario.Must(s.Exec("CREATE TABLE " + table + " (id int)"))
	_, err := s.conn.PgConn().Exec(r.Ctx, "INSERT INTO "+table+" VALUES (1); SELECT 1/0").ReadAll()
	r.Code("the second", err, "22012")
	scenario.Equal("rows", scenario.One(s, "SELECT count(*) FROM "+table), 0)
}

// Sends a value and reads it back into the same type.
func roundTrip[T any](s *session, sqlType string, value T) T {
	var got T
	scenario.Must(s.conn.QueryRow(s.ctx, "SELECT $1::"+sqlType, value).Scan(&got))
	return got
}

func same[T any](s *session, sqlType string, value T) {
	scenario.Equal(sqlType, roundTrip(s, sqlType, value), value)
}

func parameters(r *scenario.Run) {
	s := open(r)
	if got := roundTrip[*string](s, "text", nil); got != nil {
		scenario.Fail("NULL came back as %q", *got)
	}
	same(s, "text", "")
	same(s, "int4[]", []int32{1, -2, math.MaxInt32})
	same(s, "int4[]", []int32{})
	quoted := `a "b" {c}, \d`
	got := roundTrip(s, "text[]", []*string{&quoted, nil})
	if len(got) != 2 || got[0] == nil || *got[0] != quoted || got[1] != nil {
		scenario.Fail("text[] came back as %v", got)
	}
	large := strings.Repeat("äx", 500_000)
	if roundTrip(s, "text", large) != large {
		scenario.Fail("a large text came back changed")
	}
}

func binaryTypes(r *scenario.Run) {
	s := open(r)
	same(s, "int2", int16(-32768))
	same(s, "int4", int32(math.MinInt32))
	same(s, "int8", int64(math.MaxInt64))
	for _, number := range []float64{0.1, -1e300, math.Inf(1), math.NaN()} {
		same(s, "float8", number)
	}
	const digits = "1234567890123456789012345678901234567890.0123456789"
	var numeric pgtype.Numeric
	scenario.Must(numeric.Scan(digits))
	scenario.Equal("numeric", scenario.Value(roundTrip(s, "numeric", numeric).Value()), digits)
	bytes := make([]byte, 256)
	for i := range bytes {
		bytes[i] = byte(i)
	}
	same(s, "bytea", bytes)
	moment := time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.UTC)
	scenario.Equal("timestamptz", roundTrip(s, "timestamptz", moment).UTC(), moment)
	same(s, "date", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC))
	same(s, "interval", pgtype.Interval{Microseconds: 1, Days: 2, Months: 14, Valid: true})
	same(s, "uuid", pgtype.UUID{Bytes: [16]byte{1, 2, 3, 255}, Valid: true})
	same(s, "jsonb", map[string]any{"a": []any{1.5, nil, "ä"}})
	same(s, "bool", true)
	same(s, "int8[]", []int64{1, math.MinInt64})
	same(s, "float8[]", []float64{0.5, math.Inf(-1)})
	ranges := pgtype.Range[int32]{Lower: 1, Upper: 9, LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true}
	same(s, "int4range", ranges)
}

func pipeline(r *scenario.Run) {
	s := open(r)
	batch := &pgx.Batch{}
	for i := range 100 {
		batch.Queue("SELECT $1::int4 * 2", i)
	}
	results := s.conn.SendBatch(r.Ctx, batch)
	for i := range 100 {
		var got int
		scenario.Must(results.QueryRow().Scan(&got))
		scenario.Equal("doubled", got, i*2)
	}
	scenario.Must(results.Close())
	syncs(r, s)
	scenario.Equal("afterwards", scenario.One(s, "SELECT 1"), 1)
}

// Three units, each with its own Sync; the one in the middle fails.
func syncs(r *scenario.Run, s *session) {
	table := r.Name("pipeline")
	scenario.Must(s.Exec("CREATE TABLE " + table + " (id int)"))
	pipeline := s.conn.PgConn().StartPipeline(r.Ctx)
	for unit := range 3 {
		for _, value := range []string{"1", []string{"2", "2/0", "2"}[unit]} {
			pipeline.SendQueryParams("INSERT INTO "+table+" VALUES ("+value+")", nil, nil, nil, nil)
		}
		scenario.Must(pipeline.Sync())
	}
	var failed []error
	for seen := 0; seen < 3; {
		result, err := pipeline.GetResults()
		switch found := result.(type) {
		case *pgconn.ResultReader:
			_, err = found.Close()
		case *pgconn.PipelineSync:
			seen++
		case nil:
			if err == nil {
				scenario.Fail("the pipeline ended after %d units", seen)
			}
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	scenario.Must(pipeline.Close())
	scenario.Equal("errors", len(failed), 1)
	r.Code("the error", failed[0], "22012")
	scenario.Equal("rows", scenario.One(s, "SELECT count(*) FROM "+table), 4)
}
