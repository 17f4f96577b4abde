package drivers;

import static drivers.Run.code;
import static drivers.Run.equal;
import static drivers.Run.exec;
import static drivers.Run.inTransaction;
import static drivers.Run.one;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.IOException;
import java.io.InputStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import javax.transaction.xa.XAResource;
import javax.transaction.xa.Xid;
import org.postgresql.PGConnection;
import org.postgresql.largeobject.LargeObjectManager;
import org.postgresql.xa.PGXADataSource;

/** COPY, notifications, cancel, large objects, TLS, two-phase commit, the end of connections, and a pool. */
final class Flows {
  private static final int COPIED = 20_000;

  private Flows() {}

  static void addTo(Map<String, Run.Body> all) {
    all.put("copy_in", Flows::copyIn);
    all.put("copy_out", Flows::copyOut);
    all.put("copy_in_error", Flows::copyInError);
    all.put("listen_notify", Flows::listenNotify);
    all.put("cancel", Flows::cancel);
    all.put("ssl", Flows::ssl);
    all.put("large_objects", Flows::largeObjects);
    all.put("two_phase", Flows::twoPhase);
    all.put("reconnect", Flows::reconnect);
    all.put("wrong_password", run -> code("wrong password", "28P01", () -> run.connect("password", "not this")));
    all.put("unknown_database",
        run -> code("unknown database", "3D000", () -> run.connectTo(Run.url(Run.variable("PGHOST"), "there_is_no_such_database"))));
    all.put("pool", Flows::pool);
    all.put("close_midway", Flows::closeMidway);
  }

  private static PGConnection own(Connection connection) throws SQLException {
    return connection.unwrap(PGConnection.class);
  }

  private static void copyIn(Run run) throws Exception {
    var s = run.connect();
    var table = run.name("copy_in");
    exec(s, "CREATE TABLE " + table + " (id int, word text)");
    for (int count : new int[] {COPIED, 0}) {
      var lines = IntStream.range(0, count).mapToObj(id -> id + "\tword " + id + "\n").collect(Collectors.joining());
      equal("copied", own(s).getCopyAPI().copyIn("COPY " + table + " FROM STDIN", new StringReader(lines)), count);
    }
    equal("sum", one(s, "SELECT count(*) || ' ' || sum(id) FROM " + table), COPIED + " " + COPIED / 2 * (COPIED - 1));
  }

  private static void copyOut(Run run) throws Exception {
    var s = run.connect();
    var out = new StringWriter();
    var copy = "COPY (SELECT n, 'word ' || n FROM generate_series(1, " + COPIED + ") n) TO STDOUT";
    equal("rows", own(s).getCopyAPI().copyOut(copy, out), COPIED);
    var lines = out.toString().split("\n");
    equal("lines", lines.length, COPIED);
    equal("the last", lines[COPIED - 1], COPIED + "\tword " + COPIED);
    equal("afterwards", one(s, "SELECT 1"), 1);
  }

  private static void copyInError(Run run) throws Exception {
    var s = run.connect();
    var table = run.name("copy_in_error");
    exec(s, "CREATE TABLE " + table + " (id int, word text)");
    var copy = "COPY " + table + " FROM STDIN";
    var bad = "1\ta\n2\tb\nthree\tc\n" + "4\td\n".repeat(COPIED);
    code("bad row", "22P02 22P04", () -> own(s).getCopyAPI().copyIn(copy, new StringReader(bad)));
    var aborted = own(s).getCopyAPI().copyIn(copy);
    aborted.writeToCopy("1\ta\n".getBytes(), 0, 4);
    aborted.cancelCopy();
    var broken = new InputStream() {
      private int left = 100;

      @Override
      public int read() throws IOException {
        if (left == 0) throw new IOException("no more");
        return --left % 2 == 0 ? '\n' : '7';
      }
    };
    try {
      own(s).getCopyAPI().copyIn("COPY " + table + " (id) FROM STDIN", broken);
      throw new IllegalStateException("a copy of what cannot be read succeeded");
    } catch (IOException expected) {
      equal("cause", expected.getMessage(), "no more");
    }
    equal("rows", one(s, "SELECT count(*) FROM " + table), 0);
  }

  private static void listenNotify(Run run) throws Exception {
    var listener = run.connect();
    var notifier = run.connect();
    exec(listener, "LISTEN " + run.schema);
    var pid = new String[1];
    inTransaction(notifier, () -> {
      exec(notifier, "NOTIFY " + run.schema + ", 'the payload'");
      pid[0] = one(notifier, "SELECT pg_backend_pid()");
    });
    var got = own(listener).getNotifications(10_000);
    equal("notifications", got.length, 1);
    equal("channel", got[0].getName(), run.schema);
    equal("payload", got[0].getParameter(), "the payload");
    equal("pid", got[0].getPID(), pid[0]);
    exec(listener, "UNLISTEN *");
    exec(notifier, "NOTIFY " + run.schema + ", 'another'");
    equal("after UNLISTEN", own(listener).getNotifications(200).length, 0);
  }

  private static void cancel(Run run) throws Exception {
    var s = run.connect();
    var watcher = run.connect();
    Statement sleeping = s.createStatement();
    var sleep = "SELECT pg_sleep(15) /* " + run.schema + " */";
    var stopper = new Thread(() -> {
      try {
        while (one(watcher, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '" + sleep + "'").equals("0")) {
          Thread.sleep(10);
        }
        sleeping.cancel();
      } catch (Exception error) {
        error.printStackTrace();
      }
    });
    stopper.start();
    code("canceled", "57014", () -> sleeping.execute(sleep));
    stopper.join();
    equal("afterwards", one(s, "SELECT 1"), 1);
    // The driver's own timer, which cancels too.
    sleeping.setQueryTimeout(1);
    code("timed out", "57014", () -> sleeping.execute(sleep));
    equal("afterwards", one(s, "SELECT 1"), 1);
  }

  private static void ssl(Run run) throws Exception {
    for (var host : new String[] {"127.0.0.1", "localhost"}) {
      var url = Run.url(host, Run.variable("PGDATABASE"));
      // With verify-full the connection is encrypted or refused.
      var s = run.connectTo(url, "sslmode", "verify-full", "sslrootcert", Run.variable("PGSSLROOTCERT"));
      equal("answer", one(s, "SELECT 1"), 1);
    }
  }

  private static void largeObjects(Run run) throws Exception {
    var s = run.connect();
    var content = new byte[600_000];
    for (int i = 0; i < content.length; i++) content[i] = (byte) (i * 31);
    var oid = new long[1];
    inTransaction(s, () -> {
      var objects = own(s).getLargeObjectAPI();
      oid[0] = objects.createLO(LargeObjectManager.READ | LargeObjectManager.WRITE);
      try (var object = objects.open(oid[0], LargeObjectManager.WRITE)) {
        object.write(content);
      }
    });
    inTransaction(s, () -> {
      var objects = own(s).getLargeObjectAPI();
      try (var object = objects.open(oid[0], LargeObjectManager.READ)) {
        equal("size", object.size(), content.length);
        if (!Arrays.equals(object.read(content.length), content)) throw new IllegalStateException("it came back changed");
      }
      objects.unlink(oid[0]);
    });
  }

  /** A branch of a distributed transaction. */
  private record Branch(byte[] id) implements Xid {
    @Override
    public int getFormatId() {
      return 1;
    }

    @Override
    public byte[] getGlobalTransactionId() {
      return id;
    }

    @Override
    public byte[] getBranchQualifier() {
      return id;
    }
  }

  private static void twoPhase(Run run) throws Exception {
    var watcher = run.connect();
    if (one(watcher, "SHOW max_prepared_transactions").equals("0")) throw new Run.Skipped("max_prepared_transactions is 0");
    var table = run.name("two_phase");
    exec(watcher, "CREATE TABLE " + table + " (id int)");
    var source = new PGXADataSource();
    source.setUrl(Run.url(Run.variable("PGHOST"), Run.variable("PGDATABASE")));
    var branch = new Branch(run.schema.getBytes());
    var first = source.getXAConnection(Run.variable("PGUSER"), Run.variable("PGPASSWORD"));
    run.later(first::close);
    var resource = first.getXAResource();
    resource.start(branch, XAResource.TMNOFLAGS);
    exec(first.getConnection(), "INSERT INTO " + table + " VALUES (1)");
    resource.end(branch, XAResource.TMSUCCESS);
    resource.prepare(branch);
    equal("before", one(watcher, "SELECT count(*) FROM " + table), 0);
    var second = source.getXAConnection(Run.variable("PGUSER"), Run.variable("PGPASSWORD"));
    run.later(second::close);
    equal("prepared", second.getXAResource().recover(XAResource.TMSTARTRSCAN).length, 1);
    second.getXAResource().commit(branch, false);
    equal("after", one(watcher, "SELECT count(*) FROM " + table), 1);
  }

  private static void reconnect(Run run) throws Exception {
    var s = run.connect();
    code("terminated", "57P01 08006", () -> exec(s, "SELECT pg_terminate_backend(pg_backend_pid())"));
    equal("a new connection", one(run.connect(), "SELECT 1"), 1);
  }

  /** HikariCP rolls back, and takes back what was changed by JDBC's own methods; nothing else. */
  private static void pool(Run run) throws Exception {
    var config = new HikariConfig();
    config.setJdbcUrl(Run.url(Run.variable("PGHOST"), Run.variable("PGDATABASE")));
    config.setUsername(Run.variable("PGUSER"));
    config.setPassword(Run.variable("PGPASSWORD"));
    config.setMaximumPoolSize(1);
    try (var pool = new HikariDataSource(config)) {
      try (var borrowed = pool.getConnection()) {
        exec(borrowed, "CREATE TEMPORARY TABLE left_behind AS SELECT 7 AS id");
        exec(borrowed, "SET work_mem = '5MB'");
        borrowed.setAutoCommit(false);
        borrowed.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        exec(borrowed, "DROP TABLE left_behind");
      }
      try (var borrowed = pool.getConnection()) {
        equal("autocommit", borrowed.getAutoCommit(), true);
        equal("isolation", one(borrowed, "SHOW transaction_isolation"), "read committed");
        equal("what was rolled back", one(borrowed, "SELECT id FROM left_behind"), 7);
        equal("what the last one set", one(borrowed, "SHOW work_mem"), "5MB");
      }
    }
    config.setMaximumPoolSize(3);
    try (var pool = new HikariDataSource(config); var workers = new Workers()) {
      for (int i = 0; i < 60; i++) {
        int number = i;
        workers.add(() -> {
          try (var borrowed = pool.getConnection()) {
            equal("sum", one(borrowed, "SELECT ? + 1", number), number + 1);
          }
        });
      }
      workers.join();
    }
  }

  private static void closeMidway(Run run) throws Exception {
    var s = run.connect();
    var other = run.connect();
    var table = run.name("midway");
    exec(s, "CREATE TABLE " + table + " (id int)");
    s.setAutoCommit(false);
    exec(s, "INSERT INTO " + table + " VALUES (1)");
    exec(s, "LOCK TABLE " + table + " IN ACCESS EXCLUSIVE MODE");
    var executor = Executors.newSingleThreadExecutor();
    s.abort(executor);
    executor.shutdown();
    exec(other, "SET lock_timeout = '10s'");
    equal("rows", one(other, "SELECT count(*) FROM " + table), 0);
  }
}
