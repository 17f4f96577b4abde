package drivers;

import java.sql.SQLException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Runs the driver scenarios of ../SCENARIOS.md with pgJDBC: one after the other, each bounded, one line of JSON per scenario. */
public final class Main {
  private static final int LIMIT_SECONDS = 20;

  private Main() {}

  private static Map<String, Run.Body> scenarios() {
    var all = new LinkedHashMap<String, Run.Body>();
    Statements.addTo(all);
    State.addTo(all);
    Values.addTo(all);
    Flows.addTo(all);
    all.put("orm_schema", run -> {
      throw new Run.Skipped("a driver, not an ORM");
    });
    return all;
  }

  private static String quoted(String text) {
    var quoted = new StringBuilder("\"");
    for (char each : text.toCharArray()) {
      if (each == '"' || each == '\\') quoted.append('\\').append(each);
      else if (each < ' ') quoted.append(String.format("\\u%04x", (int) each));
      else quoted.append(each);
    }
    return quoted.append('"').toString();
  }

  private static void say(String scenario, String status, String detail) {
    System.out.println("{\"scenario\":" + quoted(scenario) + ",\"status\":" + quoted(status) + ",\"detail\":" + quoted(detail) + "}");
  }

  private static void carryOut(String name, Run.Body body) throws InterruptedException {
    var outcome = new CompletableFuture<Void>();
    var run = new Run();
    var thread = new Thread(() -> {
      try {
        body.run(run);
        outcome.complete(null);
      } catch (Throwable failure) {
        outcome.completeExceptionally(failure);
      }
    }, name);
    thread.setDaemon(true);
    thread.start();
    try {
      outcome.get(LIMIT_SECONDS, TimeUnit.SECONDS);
      say(name, "passed", "");
    } catch (TimeoutException late) {
      say(name, "failed", "timed out");
      thread.interrupt();
    } catch (ExecutionException failure) {
      tell(name, failure.getCause());
    }
    run.close();
  }

  private static void tell(String name, Throwable cause) {
    if (cause instanceof Run.Skipped) {
      say(name, "skipped", cause.getMessage());
      return;
    }
    cause.printStackTrace();
    var code = cause instanceof SQLException error ? " (" + error.getSQLState() + ")" : "";
    say(name, "failed", cause.getMessage() + code);
  }

  /** No arguments; the environment says where to connect. */
  public static void main(String[] arguments) throws Exception {
    var only = Run.variable("ONLY").isEmpty() ? null : List.of(Run.variable("ONLY").split(","));
    try (var run = new Run()) {
      Run.exec(run.connect(), "CREATE SCHEMA " + run.schema);
    }
    for (var scenario : scenarios().entrySet()) {
      if (only == null || only.contains(scenario.getKey())) carryOut(scenario.getKey(), scenario.getValue());
    }
    try (var run = new Run()) {
      Run.exec(run.connect(), "DROP SCHEMA " + run.schema + " CASCADE");
    }
    System.exit(0);
  }
}
