package drivers;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.Properties;

/** One scenario under way: connects, closes what it opened, and says what must be. */
final class Run implements AutoCloseable {
  /** A body; whatever it throws is its failure. */
  interface Body {
    void run(Run run) throws Exception;
  }

  interface Action {
    void run() throws Exception;
  }

  interface Turn {
    void run(int turn) throws Exception;
  }

  /** The driver has no interface for a scenario. */
  static final class Skipped extends Exception {
    private static final long serialVersionUID = 1;

    Skipped(String reason) {
      super(reason);
    }
  }

  final String schema = variable("SCHEMA");
  private final List<AutoCloseable> opened = Collections.synchronizedList(new ArrayList<>());

  static String variable(String name) {
    return Objects.requireNonNullElse(System.getenv(name), "");
  }

  static String url(String host, String database) {
    return "jdbc:postgresql://" + host + ":" + variable("PGPORT") + "/" + database;
  }

  static Properties properties(String... pairs) {
    var properties = new Properties();
    properties.setProperty("user", variable("PGUSER"));
    properties.setProperty("password", variable("PGPASSWORD"));
    for (int i = 0; i < pairs.length; i += 2) properties.setProperty(pairs[i], pairs[i + 1]);
    return properties;
  }

  /** A connection with these properties, names and values in turn. */
  Connection connect(String... pairs) throws SQLException {
    return connectTo(url(variable("PGHOST"), variable("PGDATABASE")), pairs);
  }

  Connection connectTo(String url, String... pairs) throws SQLException {
    var connection = DriverManager.getConnection(url, properties(pairs));
    opened.add(connection);
    return connection;
  }

  void later(AutoCloseable resource) {
    opened.add(resource);
  }

  /** A table's name, qualified. */
  String name(String table) {
    return schema + "." + table;
  }

  @Override
  public void close() {
    for (var resource : new ArrayList<>(opened)) {
      try {
        resource.close();
      } catch (Exception ignored) {
        // It may be gone already.
      }
    }
  }

  static void exec(Connection connection, String sql) throws SQLException {
    try (var statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }

  /** Rows as text; NULL is null. */
  static List<List<String>> rows(ResultSet result) throws SQLException {
    var rows = new ArrayList<List<String>>();
    int columns = result.getMetaData().getColumnCount();
    while (result.next()) {
      var row = new String[columns];
      for (int i = 0; i < columns; i++) row[i] = result.getString(i + 1);
      rows.add(Arrays.asList(row));
    }
    return rows;
  }

  static List<List<String>> rows(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement(); var result = statement.executeQuery(sql)) {
      return rows(result);
    }
  }

  static String one(Connection connection, String sql, int... arguments) throws SQLException {
    try (var statement = connection.prepareStatement(sql)) {
      for (int i = 0; i < arguments.length; i++) statement.setInt(i + 1, arguments[i]);
      var rows = rows(statement.executeQuery());
      if (rows.size() != 1 || rows.get(0).size() != 1) throw new IllegalStateException(sql + ": got " + rows + ", expected one value");
      return rows.get(0).get(0);
    }
  }

  static void equal(String what, Object got, Object wanted) {
    if (Objects.equals(String.valueOf(got), String.valueOf(wanted))) return;
    throw new IllegalStateException(String.format("%s: got %.200s, expected %.200s", what, got, wanted));
  }

  /** The action's error, which must have one of these SQLSTATEs, separated by spaces. */
  static SQLException code(String what, String codes, Action action) throws Exception {
    try {
      action.run();
    } catch (SQLException error) {
      if (error.getSQLState() != null && codes.contains(error.getSQLState())) return error;
      throw new IllegalStateException(what + ": got " + error.getSQLState() + " (" + error.getMessage() + "), expected " + codes, error);
    }
    throw new IllegalStateException(what + ": no error, expected " + codes);
  }

  static void inTransaction(Connection connection, Action action) throws Exception {
    connection.setAutoCommit(false);
    action.run();
    connection.commit();
    connection.setAutoCommit(true);
  }

  /** In every second turn `other` holds, in a transaction, the server that was used last: what follows comes to another one. */
  static void atServers(Connection other, int times, Turn body) throws Exception {
    for (int turn = 0; turn < times; turn++) {
      int now = turn;
      if (turn % 2 == 0) {
        inTransaction(other, () -> {
          equal("the other", one(other, "SELECT 1"), 1);
          body.run(now);
        });
      } else {
        body.run(turn);
      }
    }
  }
}
