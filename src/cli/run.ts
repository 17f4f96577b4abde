// `pgsteer run`: starts the router and keeps it until a signal says otherwise. SIGHUP reloads, SIGTERM and SIGINT drain; a second
// one ends it at once. The HTTP endpoints are the last to open and the last to close.

import { AdminServer } from "../admin/http.ts";
import type { Config, LoadedConfig } from "../config/config.ts";
import { formatAddress } from "../core/addresses.ts";
import { systemClock } from "../core/clock.ts";
import { Metrics } from "../metrics/registry.ts";
import { type Build, takeSnapshot } from "../metrics/snapshot.ts";
import { composeRouter, type Router } from "./compose.ts";
import { type ConfigurationSource, describeProblem } from "./configuration.ts";
import { EXIT } from "./exit-codes.ts";
import { FileWatch } from "./file-watch.ts";
import { describeListenError } from "./listen-error.ts";
import type { ProcessLogger } from "./log.ts";
import { Recording } from "./paper.ts";
import { planReload } from "./reload.ts";
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
  const admin = await open(logger, router, config, () => {
    const metrics = new Metrics(snapshot);
    router.incidents.subscribe((incident) => metrics.observe(incident));
    const events = (cluster: string | null) => router.incidents.list(cluster);
    return { snapshot, scrape: () => metrics.scrape(), events };
  });
  if (admin === "failed") {
    clearInterval(alive);
    return EXIT.failed;
  }
  const reminder = remindOfLostSources(systemClock, logger, router.observers);
  source.taken();
  const running = new Reloader(logger, router, options);
  hangup.on = () => running.reload();
  const watch = new FileWatch(
    systemClock,
    () => source.seen,
    (paths) => running.filesChanged(paths),
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
  sources: () => ConstructorParameters<typeof AdminServer>[1],
): Promise<AdminServer | null | "failed"> {
  const { http } = config;
  try {
    await router.dataPlane.start();
    router.start();
    if (http === null) return null;
    const admin = new AdminServer(logger, sources(), http);
    await admin.open();
    const url = `http://${formatAddress(http.address, admin.port)}`;
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

/** The configuration in force, and how it changes. */
class Reloader {
  config: Config;
  readonly #logger: ProcessLogger;
  readonly #router: Router;
  readonly #options: RunOptions;
  #last: Promise<void> = Promise.resolve();

  constructor(logger: ProcessLogger, router: Router, options: RunOptions) {
    this.#logger = logger;
    this.#router = router;
    this.#options = options;
    this.config = options.config;
  }

  /** One after the other, however fast the signals come. */
  reload(): void {
    this.#last = this.#last.then(() => this.#reload());
  }

  /** What the configuration points to has changed. */
  filesChanged(paths: readonly string[]): void {
    this.#last = this.#last.then(() => this.#readFilesAgain(paths));
  }

  async #reload(): Promise<void> {
    const { file } = this.#options.source;
    if (this.#router.dataPlane.draining) return;
    if (file === null) return this.#logger.warn({}, "there is no configuration file to reload");
    const loaded = this.#options.source.read();
    if (!loaded.ok) {
      for (const problem of loaded.problems) {
        this.#logger.error({ remedy: problem.remedy }, describeProblem(file, problem));
      }
      return this.#logger.error({ problems: loaded.problems.length }, "not reloaded: the old configuration stays");
    }
    await this.#take(loaded, { file }, "configuration reloaded");
  }

  async #readFilesAgain(files: readonly string[]): Promise<void> {
    const { source } = this.#options;
    if (this.#router.dataPlane.draining) return;
    const loaded = source.readFilesAgain();
    if (!loaded.ok) {
      for (const problem of loaded.problems) {
        this.#logger.warn({ remedy: problem.remedy }, describeProblem(source.file, problem));
      }
      return this.#logger.warn({ files }, "files have changed and cannot be used: what was read before stays in force");
    }
    await this.#take(loaded, { files }, "files have changed and are in force");
  }

  async #take(
    loaded: LoadedConfig & { ok: true },
    what: Readonly<Record<string, unknown>>,
    done: string,
  ): Promise<void> {
    for (const warning of loaded.warnings) this.#logger.warn({}, warning);
    const plan = planReload(this.config, loaded.config);
    if (!plan.ok) {
      for (const reason of plan.reasons) this.#logger.error({}, reason);
      return this.#logger.error({}, "not reloaded: the old configuration stays");
    }
    for (const setting of plan.kept) {
      this.#logger.warn(
        { setting },
        `${setting} cannot change while pgsteer runs: the old value stays until a restart`,
      );
    }
    if (!(await this.#apply(plan.config))) return;
    this.#options.source.taken();
    this.#logger.info(what, done);
  }

  /** Whether the new configuration is in force. */
  async #apply(next: Config): Promise<boolean> {
    const failure = await this.#give(next);
    if (failure === null) {
      this.config = next;
      return true;
    }
    this.#logger.error({}, failure);
    const worse = await this.#give(this.config);
    if (worse === null) this.#logger.error({}, "not reloaded: the old configuration is in force again");
    else this.#logger.error({}, `not reloaded, and an old listener could not be opened again: ${worse}`);
    return false;
  }

  /** Why the data plane could not take the configuration; null when it has. */
  async #give(config: Config): Promise<string | null> {
    try {
      await this.#router.reload(config);
      return null;
    } catch (error) {
      const reason = describeListenError(error, config);
      if (reason === null) throw error;
      return reason;
    }
  }
}
