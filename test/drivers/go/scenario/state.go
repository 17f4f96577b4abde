// Scenarios that all drivers share: what a session keeps between its transactions.

package scenario

import "fmt"

func setShow(r *Run) {
	a, b := r.Connect(), r.Connect()
	values := []map[string]string{
		{"search_path": r.Schema + ", public", "TimeZone": "Europe/Vienna", "work_mem": "5MB"},
		{"search_path": "public", "TimeZone": "Asia/Tokyo", "work_mem": "7MB"},
	}
	sessions := []Session{a, b}
	for i, s := range sessions {
		for name, value := range values[i] {
			if name != "search_path" {
				value = "'" + value + "'"
			}
			Must(s.Exec("SET " + name + " = " + value))
		}
	}
	check := func(i int) {
		for name, value := range values[i] {
			Equal(name, One(sessions[i], "SHOW "+name), value)
		}
	}
	for turn := range 20 {
		i := turn % 2
		if turn%4 < 2 {
			InTransaction(sessions[1-i], func() {
				check(1 - i)
				check(i)
			})
		} else {
			InTransaction(sessions[i], func() { check(i) })
		}
	}
}

func setLocal(r *Run) {
	s, other := r.Connect(), r.Connect()
	before := One(s, "SHOW work_mem")
	InTransaction(s, func() {
		Must(s.Exec("SET LOCAL work_mem = '9MB'"))
		Equal("in the transaction", One(s, "SHOW work_mem"), "9MB")
	})
	AtServers(other, 4, func(int) { Equal("in the next", One(s, "SHOW work_mem"), before) })
	Equal("the other's", One(other, "SHOW work_mem"), before)
}

func startupOptions(r *Run) {
	target := r.Target
	target.Settings = map[string]string{"application_name": "drivers' own", "search_path": r.Schema, "statement_timeout": "1234ms"}
	target.Options = `-c timezone=Asia/Tokyo -c work_mem=5MB`
	s, other := r.ConnectTo(target), r.Connect()
	wanted := map[string]string{
		"application_name": "drivers' own", "search_path": r.Schema, "statement_timeout": "1234ms",
		"timezone": "Asia/Tokyo", "work_mem": "5MB",
	}
	check := func(when string) {
		for name, value := range wanted {
			Equal(name+" "+when, One(s, "SHOW "+name), value)
		}
	}
	AtServers(other, 4, func(int) { InTransaction(s, func() { check("at first") }) })
	for name := range wanted {
		if name != "timezone" && name != "statement_timeout" && name != "work_mem" {
			Must(s.Exec("SET " + name + " = 'other'"))
		}
	}
	Must(s.Exec("SET timezone = 'UTC'"))
	Must(s.Exec("SET work_mem = '6MB'"))
	Must(s.Exec("SET statement_timeout = '5s'"))
	Elsewhere(other, func() {
		Equal("application_name when set", One(s, "SHOW application_name"), "other")
		Equal("work_mem when set", One(s, "SHOW work_mem"), "6MB")
		Equal("statement_timeout when set", One(s, "SHOW statement_timeout"), "5s")
	})
	for name := range wanted {
		Must(s.Exec("RESET " + name))
	}
	AtServers(other, 4, func(int) { check("after RESET") })
	Must(s.Exec("SET statement_timeout = '100ms'"))
	r.Code("statement_timeout", s.Exec("SELECT pg_sleep(10)"), "57014")
	if One(other, "SHOW work_mem") == "5MB" || One(other, "SHOW timezone") == "Asia/Tokyo" {
		Fail("another connection has these settings too")
	}
}

func tempTables(r *Run) {
	a, b := r.Connect(), r.Connect()
	for i, s := range []Session{a, b} {
		Must(s.Exec("CREATE TEMPORARY TABLE mine (id int)"))
		Must(s.Exec("INSERT INTO mine VALUES ($1)", i))
	}
	for range 3 {
		for i, s := range []Session{a, b} {
			Equal("rows", Value(s.Rows("SELECT id FROM mine")), [][]string{{fmt.Sprint(i)}})
		}
	}
	Must(a.Exec("DROP TABLE mine"))
	Equal("the other's", One(b, "SELECT id FROM mine"), 1)
}

func advisoryLocks(r *Run) {
	a, b := r.Connect(), r.Connect()
	key := One(a, "SELECT hashtext('"+r.Schema+"')")
	Must(a.Exec("SELECT pg_advisory_lock(" + key + ")"))
	for range 4 {
		Equal("the other tries", One(b, "SELECT pg_try_advisory_lock("+key+")"), "false")
		Equal("its own transaction", One(a, "SELECT 1"), 1)
	}
	Equal("unlocked", One(a, "SELECT pg_advisory_unlock("+key+")"), "true")
	Equal("the other tries again", One(b, "SELECT pg_try_advisory_lock("+key+")"), "true")
	Equal("and unlocks", One(b, "SELECT pg_advisory_unlock("+key+")"), "true")
}

func withHoldCursor(r *Run) {
	s, other := r.Connect(), r.Connect()
	InTransaction(s, func() { Must(s.Exec("DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 100)")) })
	AtServers(other, 4, func(turn int) {
		rows := Value(s.Rows("FETCH 10 FROM held"))
		Equal("rows", len(rows), 10)
		Equal("first", rows[0][0], turn*10+1)
	})
	Must(s.Exec("CLOSE held"))
	r.Code("closed", s.Exec("FETCH 1 FROM held"), "34000")
}

func sqlPrepare(r *Run) {
	s, other := r.Connect(), r.Connect()
	Must(s.Exec("PREPARE by_sql(int) AS SELECT $1 + 1"))
	AtServers(other, 6, func(turn int) {
		Equal("executed", One(s, fmt.Sprintf("EXECUTE by_sql(%d)", turn)), turn+1)
	})
	r.Code("the other's", other.Exec("EXECUTE by_sql(1)"), "26000")
	Must(s.Exec("DEALLOCATE by_sql"))
	r.Code("deallocated", s.Exec("EXECUTE by_sql(1)"), "26000")
}

func backendPid(r *Run) {
	s, other := r.Connect(), r.Connect()
	if s.PID() == 0 {
		Skip("it does not tell the backend's pid")
	}
	AtServers(other, 4, func(int) { Equal("pid", One(s, "SELECT pg_backend_pid()"), s.PID()) })
}
