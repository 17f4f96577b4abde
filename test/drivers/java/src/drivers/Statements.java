package drivers;

import static drivers.Run.atServers;
import static drivers.Run.code;
import static drivers.Run.equal;
import static drivers.Run.exec;
import static drivers.Run.inTransaction;
import static drivers.Run.one;
import static drivers.Run.rows;

import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.postgresql.util.PSQLException;

/** Statements, prepared ones, batches, errors. */
final class Statements {
  private Statements() {}

  static void addTo(Map<String, Run.Body> all) {
    all.put("simple_query", Statements::simpleQuery);
    all.put("multi_statement", Statements::multiStatement);
    all.put("extended_query", Statements::extendedQuery);
    all.put("named_prepared", Statements::namedPrepared);
    all.put("unnamed_prepared", Statements::unnamedPrepared);
    all.put("prepared_after_ddl", Statements::preparedAfterDdl);
    all.put("prepared_many", Statements::preparedMany);
    all.put("pipeline", Statements::pipeline);
    all.put("cursor", Statements::cursor);
    all.put("cursor_fetch_portal", Statements::portal);
    all.put("errors", Statements::errors);
    all.put("error_in_transaction", Statements::errorInTransaction);
    all.put("savepoints", Statements::savepoints);
    all.put("concurrency", Statements::concurrency);
  }

  private static void simpleQuery(Run run) throws Exception {
    var s = run.connect("preferQueryMode", "simple");
    equal("one", one(s, "SELECT 1"), 1);
    exec(s, "");
    equal("many", rows(s, "SELECT generate_series(1, 2000)").size(), 2000);
    equal("null", one(s, "SELECT NULL::text"), null);
    equal("text", one(s, "SELECT 'it''s \"quoted\" \\ and äöü€😀'"), "it's \"quoted\" \\ and äöü€😀");
  }

  private static void multiStatement(Run run) throws Exception {
    for (var mode : List.of("simple", "extended")) {
      var s = run.connect("preferQueryMode", mode);
      try (var statement = s.createStatement()) {
        equal("a result", statement.execute("SELECT 1; SELECT 2"), true);
        equal("the first", rows(statement.getResultSet()), "[[1]]");
        equal("another result", statement.getMoreResults(), true);
        equal("the second", rows(statement.getResultSet()), "[[2]]");
        equal("no more", statement.getMoreResults() || statement.getUpdateCount() != -1, false);
      }
      var table = run.name("multi_" + mode);
      exec(s, "CREATE TABLE " + table + " (id int)");
      code("the second", "22012", () -> exec(s, "INSERT INTO " + table + " VALUES (1); SELECT 1/0"));
      equal("rows", one(s, "SELECT count(*) FROM " + table), 0);
    }
  }

  private static void extendedQuery(Run run) throws Exception {
    try (var statement = run.connect().prepareStatement("SELECT ? + ?, ?::text, ?::bool")) {
      statement.setInt(1, 40);
      statement.setInt(2, 2);
      statement.setString(3, "a'b\\ä😀");
      statement.setBoolean(4, true);
      var result = statement.executeQuery();
      equal("a row", result.next(), true);
      equal("sum", result.getInt(1), 42);
      equal("text", result.getString(2), "a'b\\ä😀");
      equal("bool", result.getBoolean(3), true);
    }
  }

  private static String executed(PreparedStatement statement, int... arguments) throws SQLException {
    for (int i = 0; i < arguments.length; i++) statement.setInt(i + 1, arguments[i]);
    return rows(statement.executeQuery()).toString();
  }

  /** At once by name, and as the driver does unless told otherwise: by name from the fifth time on. */
  private static void namedPrepared(Run run) throws Exception {
    var other = run.connect();
    for (var threshold : List.of("1", "5")) {
      var s = run.connect("prepareThreshold", threshold);
      try (var add = s.prepareStatement("SELECT ? + 1")) {
        atServers(other, 20, turn -> equal("sum", executed(add, turn), "[[" + (turn + 1) + "]]"));
      }
      equal("afterwards", one(s, "SELECT 1"), 1);
    }
  }

  private static void unnamedPrepared(Run run) throws Exception {
    var s = run.connect("prepareThreshold", "0");
    var other = run.connect("prepareThreshold", "0");
    var holder = run.connect();
    atServers(holder, 20, turn -> {
      equal("mine", one(s, "SELECT ? + " + turn, 1), turn + 1);
      equal("the other's", one(other, "SELECT ?::text || '" + turn + "'", 7), "7" + turn);
    });
  }

  private static void preparedAfterDdl(Run run) throws Exception {
    var s = run.connect("prepareThreshold", "1");
    var other = run.connect();
    var table = run.name("after_ddl");
    exec(s, "CREATE TABLE " + table + " (a int)");
    exec(s, "INSERT INTO " + table + " VALUES (1)");
    try (var star = s.prepareStatement("SELECT * FROM " + table)) {
      equal("before", executed(star), "[[1]]");
      equal("before", executed(star), "[[1]]");
      // At first elsewhere, where a router may have to prepare it anew: that must not change what the driver expects of it.
      exec(other, "ALTER TABLE " + table + " ADD COLUMN b int DEFAULT 2");
      atServers(other, 6, turn -> {
        String got;
        try {
          got = executed(star);
        } catch (SQLException error) {
          code("after the change", "0A000", () -> {
            throw error;
          });
          got = executed(star);
        }
        equal("after", got, "[[1, 2]]");
      });
    }
  }

  private static void preparedMany(Run run) throws Exception {
    var s = run.connect("prepareThreshold", "1");
    var other = run.connect();
    for (int count : new int[] {300, 20}) {
      for (int i = 0; i < count; i++) equal("sum", one(s, "SELECT ? + " + i, 1), i + 1);
    }
    atServers(other, 2, turn -> equal("elsewhere", one(s, "SELECT ? + 0", 1), 1));
  }

  /** A batch is sent as one pipeline. */
  private static void pipeline(Run run) throws Exception {
    var table = run.name("pipeline");
    var s = run.connect("prepareThreshold", "1");
    exec(s, "CREATE TABLE " + table + " (id int PRIMARY KEY)");
    try (var insert = s.prepareStatement("INSERT INTO " + table + " VALUES (?)")) {
      for (int i = 0; i < 100; i++) {
        insert.setInt(1, i);
        insert.addBatch();
      }
      equal("inserted", insert.executeBatch().length, 100);
      for (int i : new int[] {100, 50, 101}) {
        insert.setInt(1, i);
        insert.addBatch();
      }
      try {
        insert.executeBatch();
        throw new IllegalStateException("a duplicate was inserted");
      } catch (BatchUpdateException error) {
        equal("error", error.getSQLState(), "23505");
      }
    }
    equal("rows", one(s, "SELECT count(*) FROM " + table), 100);
    var rewriting = run.connect("reWriteBatchedInserts", "true");
    try (var insert = rewriting.prepareStatement("INSERT INTO " + table + " VALUES (?)")) {
      for (int i = 1000; i < 1100; i++) {
        insert.setInt(1, i);
        insert.addBatch();
      }
      insert.executeBatch();
    }
    equal("rows then", one(s, "SELECT count(*) FROM " + table), 200);
  }

  private static void cursor(Run run) throws Exception {
    var s = run.connect();
    inTransaction(s, () -> {
      exec(s, "DECLARE c CURSOR FOR SELECT generate_series(1, 1000)");
      for (int piece = 0; piece < 5; piece++) {
        var rows = rows(s, "FETCH 100 FROM c");
        equal("rows", rows.size(), 100);
        equal("the first", rows.get(0).get(0), piece * 100 + 1);
      }
      exec(s, "CLOSE c");
    });
    equal("afterwards", one(s, "SELECT 1"), 1);
  }

  private static void portal(Run run) throws Exception {
    for (var threshold : List.of("1", "5")) {
      var s = run.connect("prepareThreshold", threshold);
      for (int limit : new int[] {1000, 120}) {
        inTransaction(s, () -> {
          try (var statement = s.prepareStatement("SELECT generate_series(1, 1000)")) {
            statement.setFetchSize(50);
            var result = statement.executeQuery();
            int count = 0;
            while (count < limit && result.next()) equal("row", result.getInt(1), ++count);
            equal("rows", count, limit);
          }
        });
        equal("afterwards", one(s, "SELECT 1"), 1);
      }
    }
  }

  private static void errors(Run run) throws Exception {
    var s = run.connect();
    var table = run.name("errors");
    exec(s, "CREATE TABLE " + table + " (id int CONSTRAINT errors_only_once UNIQUE)");
    exec(s, "INSERT INTO " + table + " VALUES (1)");
    var error = code("duplicate", "23505", () -> exec(s, "INSERT INTO " + table + " VALUES (1)"));
    var said = ((PSQLException) error).getServerErrorMessage();
    equal("constraint", said.getConstraint(), "errors_only_once");
    equal("table", said.getTable(), "errors");
    equal("detail", said.getDetail(), "Key (id)=(1) already exists.");
    error = code("syntax", "42601", () -> exec(s, "SELECT 1 FORM nothing"));
    equal("position", ((PSQLException) error).getServerErrorMessage().getPosition(), 15);
    code("division", "22012", () -> one(s, "SELECT 1 / ?", 0));
    equal("afterwards", one(s, "SELECT 1"), 1);
  }

  private static void errorInTransaction(Run run) throws Exception {
    var s = run.connect();
    var table = run.name("aborted");
    exec(s, "CREATE TABLE " + table + " (id int)");
    s.setAutoCommit(false);
    for (Run.Action end : List.<Run.Action>of(s::rollback, s::commit)) {
      exec(s, "INSERT INTO " + table + " VALUES (1)");
      code("the error", "22012", () -> exec(s, "SELECT 1/0"));
      code("what follows", "25P02", () -> exec(s, "SELECT 1"));
      end.run();
    }
    s.setAutoCommit(true);
    equal("rows", one(s, "SELECT count(*) FROM " + table), 0);
  }

  private static void savepoints(Run run) throws Exception {
    for (var autosave : List.of("never", "always")) {
      var s = run.connect("autosave", autosave);
      var table = run.name("savepoints_" + autosave);
      exec(s, "CREATE TABLE " + table + " (id int)");
      inTransaction(s, () -> {
        exec(s, "INSERT INTO " + table + " VALUES (1)");
        var savepoint = s.setSavepoint();
        exec(s, "INSERT INTO " + table + " VALUES (2)");
        code("the error", "22012", () -> exec(s, "SELECT 1/0"));
        s.rollback(savepoint);
        exec(s, "INSERT INTO " + table + " VALUES (3)");
        s.releaseSavepoint(savepoint);
      });
      equal("rows", rows(s, "SELECT id FROM " + table + " ORDER BY id"), "[[1], [3]]");
    }
  }

  private static final int WORKERS = 20;
  private static final int ROUNDS = 50;

  private static void concurrency(Run run) throws Exception {
    var table = run.name("concurrency");
    try (var s = run.connect()) {
      exec(s, "CREATE TABLE " + table + " (worker int PRIMARY KEY, total int NOT NULL)");
      exec(s, "INSERT INTO " + table + " SELECT n, 0 FROM generate_series(0, " + (WORKERS - 1) + ") n");
    }
    var failures = new ArrayList<Throwable>();
    var threads = new ArrayList<Thread>();
    for (int worker = 0; worker < WORKERS; worker++) {
      int number = worker;
      var thread = new Thread(() -> {
        try (var s = run.connect()) {
          work(s, table, number);
        } catch (Throwable failure) {
          synchronized (failures) {
            failures.add(failure);
          }
        }
      });
      thread.setDaemon(true);
      thread.start();
      threads.add(thread);
    }
    for (var thread : threads) thread.join();
    if (!failures.isEmpty()) throw new IllegalStateException(failures.get(0));
    var rows = rows(run.connect(), "SELECT worker, total FROM " + table + " ORDER BY worker");
    for (int worker = 0; worker < WORKERS; worker++) {
      equal("sum", rows.get(worker), List.of(String.valueOf(worker), String.valueOf(worker * ROUNDS + ROUNDS * (ROUNDS - 1) / 2)));
    }
  }

  private static void work(Connection s, String table, int worker) throws SQLException {
    s.setAutoCommit(false);
    int total = 0;
    for (int round = 0; round < ROUNDS; round++) {
      total += worker + round;
      equal("updated", one(s, "UPDATE " + table + " SET total = total + ? WHERE worker = ? RETURNING total", worker + round, worker), total);
      equal("total", one(s, "SELECT total FROM " + table + " WHERE worker = ?", worker), total);
      equal("echo", one(s, "SELECT ? * 1000 + ?", worker, round), worker * 1000 + round);
      s.commit();
    }
  }
}
