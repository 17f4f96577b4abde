// `pgsteer run`: starts the router and keeps it until a signal says otherwise. SIGHUP reloads, SIGTERM and SIGINT drain; a second
// one ends it at once. The HTTP endpoints are the last to open and the last to close.

import { AdminServer, type AdminSources } from "../admin/http.ts";
import { HttpAccess } from "../admin/http-access.ts";
import type { Config } from "../config/config.ts";
import { formatAddress } from "../core/addresses.ts";
import { systemClock } from "../core/clock.ts";
import { Metrics } from "../metrics/registry.ts";
import { type Build, takeSnapshot } from "../metrics/snapshot.ts";
import { composeRouter, httpAccessOptions, type Router } from "./compose.ts";
import type { ConfigurationSource } from "./configuration.ts";
import { EXIT } from "./exit-codes.ts";
import { FileWatch } from "./file-watch.ts";
import { describeListenError } from "./listen-error.ts";
import type { ProcessLogger } from "./log.ts";
import { Recording } from "./paper.ts";
import { Reloader } from "./reloader.ts";
import { remindOfLostSources } from "./reminder.ts";
import { routerIdentity } from "./router-identity.ts";

/** What to run. */
export interface RunOptions {
  readonly config: Config;
  readonly warnings: readonly string[];
  /** Where it is from; it has been read. */
  readonly source: ConfigurationSource;
  /** Where the evidence of each cluster is written to; null for nowhere. */
  readonly record: string | null;
  readonly build: Build;
}

/** Runs until a signal. Returns the process's exit code. */
export async function runRouter(logger: ProcessLogger, options: RunOptions): Promise<number> {
  const { build, source, config } = options;
  dieLoudly(logger);
  // The clock's timers let a process end: this one ends when it says so.
  const alive = setInterval(() => {}, 2 ** 30);
  const stop = stopSignals();
  // From the first moment on, for SIGHUP would otherwise end the process.
  const hangup = { on: () => {} };
  process.on("SIGHUP", () => hangup.on());
  logger.info(
    { version: build.version, node: build.node, pid: process.pid, ...(source.file && { file: source.file }) },
    "pgsteer starts",
  );
  for (const warning of options.warnings) logger.warn({}, warning);
  const startedAt = systemClock.now();
  const recording = new Recording(logger, options.record, config.clusters.size > 1);
  const identity = routerIdentity(build, config);
  const router = composeRouter(systemClock, logger, config, identity, (cluster) => recording.paper(cluster));
  const snapshot = () => takeSnapshot(systemClock, router, build, startedAt);
  const access = new HttpAccess(systemClock, httpAccessOptions(config));
  const running = new Reloader(logger, router, access, options);
  const admin = await open(logger, router, config, access, () => {
    const metrics = new Metrics(snapshot);
    router.incidents.subscribe((incident) => metrics.observe(incident));
    const events = (cluster: string | null) => router.incidents.list(cluster);
    return { snapshot, scrape: () => metrics.scrape(), events, reload: () => running.reload() };
  });
  if (admin === "failed") {
    clearInterval(alive);
    return EXIT.failed;
  }
  const reminder = remindOfLostSources(systemClock, logger, router.observers);
  source.taken();
  running.admin = admin;
  hangup.on = () => void running.reload();
  const watch = new FileWatch(
    systemClock,
    () => source.seen,
    (paths) => void running.filesChanged(paths),
  );
  logger.info({}, "pgsteer is running; SIGHUP reloads the configuration, SIGTERM stops");

  await stop.next(logger, "stopping");
  await drain(logger, router, running.config.pool.drainTimeoutMs, stop);
  reminder.cancel();
  watch.cancel();
  admin?.close();
  await router.close();
  await recording.close();
  clearInterval(alive);
  logger.info({}, "pgsteer has stopped");
  return EXIT.ok;
}

/** A bug ends the process, with its stack in the log; going on could do harm that nobody sees. */
function dieLoudly(logger: ProcessLogger): void {
  process.on("uncaughtException", (error) => {
    logger.fatal({ err: error }, "internal error: pgsteer ends");
    process.exit(EXIT.internal);
  });
}

interface StopSignals {
  /** Resolves at the next SIGTERM or SIGINT, which is logged. */
  next(logger: ProcessLogger, what: string): Promise<void>;
}

function stopSignals(): StopSignals {
  const arrived: NodeJS.Signals[] = [];
  let wake: (() => void) | null = null;
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => {
      arrived.push(name);
      wake?.();
    });
  }
  return {
    next: async (logger, what) => {
      if (arrived.length === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      logger.info({ signal: arrived.shift() }, what);
    },
  };
}

/** Opens the listeners, starts to watch, then opens HTTP. `failed`, all closed again and said why, when an address cannot be had. */
async function open(
  logger: ProcessLogger,
  router: Router,
  config: Config,
  access: HttpAccess,
  sources: () => AdminSources,
): Promise<AdminServer | null | "failed"> {
  const { http } = config;
  try {
    await router.dataPlane.start();
    router.start();
    if (http === null) return null;
    const admin = new AdminServer(systemClock, logger, sources(), access, http);
    await admin.open();
    const url = `${http.tls === null ? "http" : "https"}://${formatAddress(http.address, admin.port)}`;
    logger.info(
      { address: http.address, port: admin.port, status: `pgsteer status --url ${url}` },
      "http is listening",
    );
    return admin;
  } catch (error) {
    const reason = describeListenError(error, config);
    if (reason === null) throw error;
    logger.fatal({}, reason);
    await router.close();
    return "failed";
  }
}

/** Lets the clients finish, for a time or until the next signal. */
async function drain(logger: ProcessLogger, router: Router, timeoutMs: number, stop: StopSignals): Promise<void> {
  const { dataPlane } = router;
  const clients = [...dataPlane.clients].length;
  logger.info(
    { clients, drain_timeout: `${timeoutMs / 1000}s` },
    "draining: transactions may finish, new clients are refused",
  );
  const again = stop.next(logger, "stopping at once");
  await Promise.race([dataPlane.drain(timeoutMs), again]);
  const left = [...dataPlane.clients].length;
  if (left > 0) logger.warn({ clients: left }, "clients are cut off in the middle of their work");
}
