// Program gorm runs the scenarios that an ORM has a notion of with gorm.io/gorm, on gorm.io/driver/postgres, which is pgx behind database/sql.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"pgsteer-drivers/scenario"
)

type driver struct{}

func open(target scenario.Target, config gorm.Config) (*gorm.DB, error) {
	query := url.Values{"sslmode": {"prefer"}, "search_path": {target.Settings["search_path"]}}
	if target.TLS {
		query = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {target.RootCert}}
	}
	place := url.URL{
		Scheme: "postgres", User: url.UserPassword(target.User, target.Password),
		Host: target.Host + ":" + target.Port, Path: "/" + target.Database, RawQuery: query.Encode(),
	}
	config.Logger = logger.Discard
	return gorm.Open(postgres.Open(place.String()), &config)
}

// A GORM with a pool of three in the schema of the run.
func orm(r *scenario.Run, config gorm.Config) *gorm.DB {
	target := r.Target
	target.Settings = map[string]string{"search_path": r.Schema}
	db := scenario.Value(open(target, config))
	pool := scenario.Value(db.DB())
	pool.SetMaxOpenConns(3)
	r.Defer(func() { _ = pool.Close() })
	return db.WithContext(r.Ctx)
}

// For what the scenarios share: only a schema is made and dropped by it.
type session struct {
	scenario.Session
	db *gorm.DB
}

func (s session) Exec(sql string, args ...any) error { return s.db.Exec(sql, args...).Error }

func (s session) Close() {
	if pool, err := s.db.DB(); err == nil {
		_ = pool.Close()
	}
}

func (driver) Connect(ctx context.Context, target scenario.Target) (scenario.Session, error) {
	db, err := open(target, gorm.Config{})
	if err != nil {
		return nil, err
	}
	return session{db: db.WithContext(ctx)}, nil
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

func one[T any](db *gorm.DB, sql string, args ...any) T {
	var value T
	scenario.Must(db.Raw(sql, args...).Scan(&value).Error)
	return value
}

type author struct {
	ID    uint
	Name  string `gorm:"uniqueIndex;not null"`
	Born  time.Time
	Books []book `gorm:"constraint:OnDelete:CASCADE"`
}

type book struct {
	ID       uint
	AuthorID uint   `gorm:"not null"`
	Title    string `gorm:"check:title <> ''"`
	Pages    int
}

func ormSchema(r *scenario.Run) {
	db := orm(r, gorm.Config{TranslateError: true})
	scenario.Must(db.AutoMigrate(&author{}, &book{}))
	// Once more: now it reads what is there.
	scenario.Must(db.AutoMigrate(&author{}, &book{}))
	scenario.Equal("has the table", db.Migrator().HasTable(&book{}), true)
	scenario.Equal("columns", len(scenario.Value(db.Migrator().ColumnTypes(&book{}))), 4)
	born := time.Date(1920, 1, 2, 0, 0, 0, 0, time.UTC)
	scenario.Must(db.Create(&author{Name: "Asimov", Born: born, Books: []book{{Title: "Foundation", Pages: 255}, {Title: "Nemesis", Pages: 364}}}).Error)
	if err := db.Create(&author{Name: "Asimov"}).Error; !errors.Is(err, gorm.ErrDuplicatedKey) {
		scenario.Fail("the same again: %v", err)
	}
	var found author
	scenario.Must(db.Preload("Books").First(&found, "name = ?", "Asimov").Error)
	scenario.Equal("books", len(found.Books), 2)
	scenario.Must(db.Model(&book{}).Where("title = ?", "Nemesis").Update("pages", gorm.Expr("pages + 1")).Error)
	failed := db.Transaction(func(tx *gorm.DB) error {
		scenario.Must(tx.Delete(&found).Error)
		return errors.New("not this")
	})
	scenario.Equal("rolled back", failed, "not this")
	scenario.Equal("pages", one[int](db, "SELECT sum(pages) FROM books"), 255+365)
	scenario.Must(db.Migrator().DropTable(&book{}, &author{}))
}

func extendedQuery(r *scenario.Run) {
	db := orm(r, gorm.Config{})
	scenario.Equal("sum", one[int](db, "SELECT ?::int4 + ?::int4", 40, 2), 42)
	scenario.Equal("text", one[string](db, "SELECT ?::text", "a'b\\ä😀"), "a'b\\ä😀")
}

// GORM's own cache of prepared statements, shared by its connections.
func prepared(r *scenario.Run) {
	db := orm(r, gorm.Config{PrepareStmt: true})
	var group sync.WaitGroup
	failures := make(chan any, 3)
	for worker := range 3 {
		group.Go(func() {
			defer func() { failures <- recover() }()
			for i := range 100 {
				scenario.Equal("sum", one[int](db, fmt.Sprintf("SELECT ?::int4 + %d", i), worker), worker+i)
			}
		})
	}
	group.Wait()
	for range 3 {
		scenario.Equal("failure", <-failures, nil)
	}
}

func savepoints(r *scenario.Run) {
	db := orm(r, gorm.Config{})
	scenario.Must(db.AutoMigrate(&author{}))
	scenario.Must(db.Transaction(func(tx *gorm.DB) error {
		scenario.Must(tx.Create(&author{Name: "one"}).Error)
		inner := tx.Transaction(func(tx *gorm.DB) error { return tx.Create(&author{Name: "one"}).Error })
		r.Code("inside", inner, "23505")
		return tx.Create(&author{Name: "three"}).Error
	}))
	scenario.Equal("rows", one[int](db, "SELECT count(*) FROM authors"), 2)
}

func concurrency(r *scenario.Run) {
	setup := orm(r, gorm.Config{})
	scenario.Must(setup.Exec("CREATE TABLE counters (worker int PRIMARY KEY, total int NOT NULL)").Error)
	var group sync.WaitGroup
	failures := make(chan any, 20)
	for worker := range 20 {
		group.Go(func() {
			defer func() { failures <- recover() }()
			db := orm(&scenario.Run{Ctx: r.Ctx, Target: r.Target, Schema: r.Schema}, gorm.Config{})
			pool := scenario.Value(db.DB())
			defer func() { _ = pool.Close() }()
			pool.SetMaxOpenConns(1)
			scenario.Must(db.Exec("INSERT INTO counters VALUES (?, 0)", worker).Error)
			for round := range 50 {
				scenario.Must(db.Transaction(func(tx *gorm.DB) error {
					scenario.Equal("total", one[int](tx, "SELECT total FROM counters WHERE worker = ?", worker), round*worker)
					return tx.Exec("UPDATE counters SET total = total + ? WHERE worker = ?", worker, worker).Error
				}))
			}
		})
	}
	group.Wait()
	for range 20 {
		scenario.Equal("failure", <-failures, nil)
	}
	scenario.Equal("sum", one[int](setup, "SELECT sum(total) FROM counters"), 50*190)
}

func wrong(codes string, change func(target *scenario.Target)) scenario.Scenario {
	return func(r *scenario.Run) {
		target := r.Target
		change(&target)
		_, err := r.Driver.Connect(r.Ctx, target)
		r.Code("login", err, codes)
	}
}

func main() {
	own := map[string]scenario.Scenario{
		"orm_schema":     ormSchema,
		"extended_query": extendedQuery,
		"named_prepared": prepared,
		"savepoints":     savepoints,
		"concurrency":    concurrency,
		"wrong_password": wrong("28P01", func(target *scenario.Target) { target.Password = "not this" }),
		"unknown_database": wrong("3D000", func(target *scenario.Target) {
			target.Database = "there_is_no_such_database"
		}),
	}
	scenario.MainOnly(driver{}, own)
}
