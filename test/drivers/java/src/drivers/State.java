package drivers;

import static drivers.Run.atServers;
import static drivers.Run.code;
import static drivers.Run.equal;
import static drivers.Run.exec;
import static drivers.Run.inTransaction;
import static drivers.Run.one;
import static drivers.Run.rows;

import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TimeZone;
import org.postgresql.PGConnection;

/** What a session keeps between its transactions. */
final class State {
  private State() {}

  static void addTo(Map<String, Run.Body> all) {
    all.put("set_show", State::setShow);
    all.put("set_local", State::setLocal);
    all.put("startup_options", State::startupOptions);
    all.put("temp_tables", State::tempTables);
    all.put("advisory_locks", State::advisoryLocks);
    all.put("with_hold_cursor", State::withHoldCursor);
    all.put("sql_prepare", State::sqlPrepare);
    all.put("isolation_levels", State::isolationLevels);
    all.put("read_only_session", State::readOnlySession);
    all.put("notices", State::notices);
    all.put("backend_pid", State::backendPid);
  }

  private static void check(String when, Connection s, Map<String, String> values) throws SQLException {
    for (var each : values.entrySet()) equal(each.getKey() + " " + when, one(s, "SHOW " + each.getKey()), each.getValue());
  }

  private static void setShow(Run run) throws Exception {
    var sessions = List.of(run.connect(), run.connect());
    var values = List.of(
        Map.of("search_path", run.schema + ", public", "timezone", "Europe/Vienna", "work_mem", "5MB"),
        Map.of("search_path", "public", "timezone", "Asia/Tokyo", "work_mem", "7MB"));
    for (int i = 0; i < 2; i++) {
      for (var each : values.get(i).entrySet()) {
        var value = each.getKey().equals("search_path") ? each.getValue() : "'" + each.getValue() + "'";
        exec(sessions.get(i), "SET " + each.getKey() + " = " + value);
      }
    }
    for (int turn = 0; turn < 20; turn++) {
      int i = turn % 2;
      if (turn % 4 < 2) {
        inTransaction(sessions.get(1 - i), () -> {
          check("", sessions.get(1 - i), values.get(1 - i));
          check("", sessions.get(i), values.get(i));
        });
      } else {
        check("", sessions.get(i), values.get(i));
      }
    }
  }

  private static void setLocal(Run run) throws Exception {
    var s = run.connect();
    var other = run.connect();
    var before = one(s, "SHOW work_mem");
    inTransaction(s, () -> {
      exec(s, "SET LOCAL work_mem = '9MB'");
      equal("in the transaction", one(s, "SHOW work_mem"), "9MB");
    });
    atServers(other, 4, turn -> equal("in the next", one(s, "SHOW work_mem"), before));
    equal("the other's", one(other, "SHOW work_mem"), before);
  }

  private static Connection withTimeZone(Run run, String zone, String... pairs) throws SQLException {
    // The driver asks for the time zone of the JVM.
    var before = TimeZone.getDefault();
    TimeZone.setDefault(TimeZone.getTimeZone(zone));
    try {
      return run.connect(pairs);
    } finally {
      TimeZone.setDefault(before);
    }
  }

  private static void startupOptions(Run run) throws Exception {
    // Without that minimum the driver sets the application's name only after its login.
    var s = withTimeZone(run, "Asia/Tokyo", "assumeMinServerVersion", "9.0", "ApplicationName", "drivers' own", "currentSchema", run.schema,
        "options", "-c statement_timeout=1234ms -c work_mem=5MB");
    var other = run.connect();
    var wanted = Map.of("application_name", "drivers' own", "search_path", run.schema, "timezone", "Asia/Tokyo",
        "statement_timeout", "1234ms", "work_mem", "5MB");
    atServers(other, 4, turn -> inTransaction(s, () -> check("at first", s, wanted)));
    var others = Map.of("application_name", "another", "search_path", "another", "timezone", "UTC",
        "statement_timeout", "5s", "work_mem", "6MB");
    for (var each : others.entrySet()) exec(s, "SET " + each.getKey() + " = '" + each.getValue() + "'");
    atServers(other, 2, turn -> check("when set", s, others));
    for (var name : wanted.keySet()) exec(s, "RESET " + name);
    atServers(other, 4, turn -> check("after RESET", s, wanted));
    exec(s, "SET statement_timeout = '100ms'");
    code("statement_timeout", "57014", () -> exec(s, "SELECT pg_sleep(10)"));
    if (one(other, "SHOW work_mem").equals("5MB")) throw new IllegalStateException("another connection has these settings too");
  }

  private static void tempTables(Run run) throws Exception {
    var sessions = List.of(run.connect(), run.connect());
    for (int i = 0; i < 2; i++) {
      exec(sessions.get(i), "CREATE TEMPORARY TABLE mine (id int)");
      exec(sessions.get(i), "INSERT INTO mine VALUES (" + i + ")");
    }
    for (int turn = 0; turn < 6; turn++) equal("row", one(sessions.get(turn % 2), "SELECT id FROM mine"), turn % 2);
    exec(sessions.get(0), "DROP TABLE mine");
    equal("the other's", one(sessions.get(1), "SELECT id FROM mine"), 1);
  }

  private static void advisoryLocks(Run run) throws Exception {
    var a = run.connect();
    var b = run.connect();
    var key = one(a, "SELECT hashtext('" + run.schema + "')");
    exec(a, "SELECT pg_advisory_lock(" + key + ")");
    for (int turn = 0; turn < 4; turn++) {
      equal("the other tries", one(b, "SELECT pg_try_advisory_lock(" + key + ")"), "f");
      equal("its own transaction", one(a, "SELECT 1"), 1);
    }
    equal("unlocked", one(a, "SELECT pg_advisory_unlock(" + key + ")"), "t");
    equal("the other tries again", one(b, "SELECT pg_try_advisory_lock(" + key + ")"), "t");
    equal("and unlocks", one(b, "SELECT pg_advisory_unlock(" + key + ")"), "t");
  }

  private static void withHoldCursor(Run run) throws Exception {
    var s = run.connect();
    var other = run.connect();
    inTransaction(s, () -> exec(s, "DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 100)"));
    atServers(other, 4, turn -> {
      var rows = rows(s, "FETCH 10 FROM held");
      equal("rows", rows.size(), 10);
      equal("the first", rows.get(0).get(0), turn * 10 + 1);
    });
    exec(s, "CLOSE held");
    code("closed", "34000", () -> exec(s, "FETCH 1 FROM held"));
  }

  private static void sqlPrepare(Run run) throws Exception {
    var s = run.connect();
    var other = run.connect();
    exec(s, "PREPARE by_sql(int) AS SELECT $1 + 1");
    atServers(other, 6, turn -> equal("executed", rows(s, "EXECUTE by_sql(" + turn + ")"), "[[" + (turn + 1) + "]]"));
    code("the other's", "26000", () -> exec(other, "EXECUTE by_sql(1)"));
    exec(s, "DEALLOCATE by_sql");
    code("deallocated", "26000", () -> exec(s, "EXECUTE by_sql(1)"));
  }

  private static void isolationLevels(Run run) throws Exception {
    var s = run.connect();
    var other = run.connect();
    exec(s, "BEGIN ISOLATION LEVEL SERIALIZABLE");
    equal("in the transaction", one(s, "SHOW transaction_isolation"), "serializable");
    exec(s, "COMMIT");
    // SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL …
    s.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
    atServers(other, 4, turn -> inTransaction(s, () -> equal("in the session", one(s, "SHOW transaction_isolation"), "repeatable read")));
    equal("as the driver is told", s.getTransactionIsolation(), Connection.TRANSACTION_REPEATABLE_READ);
    equal("the other's", one(other, "SHOW transaction_isolation"), "read committed");
  }

  private static void readOnlySession(Run run) throws Exception {
    var other = run.connect();
    var table = run.name("read_only");
    exec(other, "CREATE TABLE " + table + " (id int)");
    for (var mode : List.of("transaction", "always")) {
      var s = run.connect("readOnlyMode", mode);
      s.setReadOnly(true);
      atServers(other, 4, turn -> {
        s.setAutoCommit(false);
        code("read-only, " + mode, "25006", () -> exec(s, "INSERT INTO " + table + " VALUES (1)"));
        s.rollback();
        s.setAutoCommit(true);
      });
      exec(other, "INSERT INTO " + table + " VALUES (1)");
      s.setReadOnly(false);
      exec(s, "INSERT INTO " + table + " VALUES (1)");
    }
  }

  private static void notices(Run run) throws Exception {
    try (Statement statement = run.connect().createStatement()) {
      statement.execute("DO $$BEGIN RAISE NOTICE 'first'; RAISE WARNING 'second'; END$$");
      var notices = new ArrayList<String>();
      for (var warning = statement.getWarnings(); warning != null; warning = warning.getNextWarning()) notices.add(warning.getMessage());
      equal("notices", notices, "[first, second]");
    }
  }

  private static void backendPid(Run run) throws Exception {
    var s = run.connect();
    var other = run.connect();
    int pid = s.unwrap(PGConnection.class).getBackendPID();
    atServers(other, 4, turn -> equal("pid", one(s, "SELECT pg_backend_pid()"), pid));
  }
}
