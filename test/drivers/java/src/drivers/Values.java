package drivers;

import static drivers.Run.equal;
import static drivers.Run.exec;

import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Types;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.util.Arrays;
import java.util.Map;
import java.util.UUID;
import org.postgresql.util.PGInterval;
import org.postgresql.util.PGobject;

/** Parameters and results of all types, as text and in binary. */
final class Values {
  private Values() {}

  static void addTo(Map<String, Run.Body> all) {
    all.put("parameters_null_and_arrays", Values::parameters);
    all.put("binary_types", Values::types);
  }

  private interface Setter {
    void set(PreparedStatement statement) throws SQLException;
  }

  private interface Getter<T> {
    T get(ResultSet result) throws SQLException;
  }

  /** Sends a value four times: the driver goes over to binary results when a statement is used again. */
  private static <T> T roundTrip(Connection s, String type, Setter setter, Getter<T> getter) throws SQLException {
    T got = null;
    try (var statement = s.prepareStatement("SELECT ?::" + type)) {
      for (int turn = 0; turn < 4; turn++) {
        setter.set(statement);
        try (var result = statement.executeQuery()) {
          result.next();
          got = getter.get(result);
        }
      }
    }
    return got;
  }

  private static void same(Connection s, String type, Object value) throws SQLException {
    equal(type, roundTrip(s, type, statement -> statement.setObject(1, value), result -> result.getObject(1, value.getClass())), value);
  }

  private static void sameArray(Connection s, String element, Object... values) throws SQLException {
    var got = roundTrip(s, element + "[]", statement -> statement.setArray(1, s.createArrayOf(element, values)),
        result -> (Object[]) result.getArray(1).getArray());
    equal(element + "[]", Arrays.deepToString(got), Arrays.deepToString(values));
  }

  private static PGobject object(String type, String value) throws SQLException {
    var object = new PGobject();
    object.setType(type);
    object.setValue(value);
    return object;
  }

  private static void parameters(Run run) throws Exception {
    for (var binary : new String[] {"true", "false"}) {
      var s = run.connect("binaryTransfer", binary, "prepareThreshold", "2");
      equal("NULL", roundTrip(s, "text", statement -> statement.setNull(1, Types.VARCHAR), result -> result.getString(1)), null);
      same(s, "text", "");
      sameArray(s, "int4", 1, -2, Integer.MAX_VALUE);
      sameArray(s, "int4");
      sameArray(s, "text", "a \"b\" {c}, \\d", null);
      var large = "äx".repeat(500_000);
      if (!large.equals(roundTrip(s, "text", statement -> statement.setString(1, large), result -> result.getString(1)))) {
        throw new IllegalStateException("a large text came back changed");
      }
    }
  }

  private static void types(Run run) throws Exception {
    var s = run.connect("prepareThreshold", "2");
    exec(s, "SET timezone = 'UTC'");
    same(s, "int2", Short.MIN_VALUE);
    same(s, "int4", Integer.MIN_VALUE);
    same(s, "int8", Long.MAX_VALUE);
    for (double number : new double[] {0.1, -1e300, Double.POSITIVE_INFINITY, Double.NaN}) same(s, "float8", number);
    same(s, "numeric", new BigDecimal("1234567890123456789012345678901234567890.0123456789"));
    var bytes = new byte[256];
    for (int i = 0; i < bytes.length; i++) bytes[i] = (byte) i;
    var got = roundTrip(s, "bytea", statement -> statement.setBytes(1, bytes), result -> result.getBytes(1));
    equal("bytea", Arrays.toString(got), Arrays.toString(bytes));
    same(s, "timestamptz", OffsetDateTime.parse("2026-02-28T23:59:59.123456Z"));
    same(s, "date", LocalDate.of(2024, 2, 29));
    same(s, "interval", new PGInterval("1 year 2 mons 3 days 00:00:01.5"));
    same(s, "uuid", UUID.fromString("01020304-0506-0708-090a-0b0c0d0e0fff"));
    same(s, "jsonb", object("jsonb", "{\"a\": [1.5, null, \"ä\"]}"));
    same(s, "bool", true);
    sameArray(s, "int8", 1L, Long.MIN_VALUE);
    sameArray(s, "float8", 0.5, Double.NEGATIVE_INFINITY);
    same(s, "int4range", object("int4range", "[1,9)"));
  }
}
