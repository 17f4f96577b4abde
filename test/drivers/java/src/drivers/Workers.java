package drivers;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** A few threads, and what failed in them. */
final class Workers implements AutoCloseable {
  private final ExecutorService threads = Executors.newFixedThreadPool(6);
  private final List<Future<?>> results = new ArrayList<>();

  void add(Run.Action action) {
    results.add(threads.submit(() -> {
      action.run();
      return null;
    }));
  }

  /** Waits for all, and throws the first failure. */
  void join() throws InterruptedException, ExecutionException {
    for (var result : results) result.get();
  }

  @Override
  public void close() {
    threads.shutdownNow();
  }
}
