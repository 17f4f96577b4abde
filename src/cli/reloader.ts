// The configuration in force, and how it changes: at SIGHUP, when an administrator asks for it over HTTP, or when a file that it points to
// has changed. Says in the log, and to whoever asked, what has changed, what could not, and what is wrong.

import type { AdminServer } from "../admin/http.ts";
import type { HttpAccess } from "../admin/http-access.ts";
import type { ReloadProblem, ReloadReport } from "../admin/reload-report.ts";
import type { Config, LoadedConfig, Problem } from "../config/config.ts";
import { httpAccessOptions, type Router } from "./compose.ts";
import { type ConfigurationSource, describeProblem } from "./configuration.ts";
import { describeListenError } from "./listen-error.ts";
import type { ProcessLogger } from "./log.ts";
import { changedSections, planReload } from "./reload.ts";

export interface ReloaderOptions {
  readonly config: Config;
  readonly source: ConfigurationSource;
}

const nothing = { reloaded: false, changed: [], kept: [], warnings: [], problems: [] } as const;

export class Reloader {
  config: Config;
  /** Where HTTP is served. */
  admin: AdminServer | null = null;
  readonly #logger: ProcessLogger;
  readonly #router: Router;
  readonly #access: HttpAccess;
  readonly #options: ReloaderOptions;
  #last: Promise<unknown> = Promise.resolve();

  constructor(logger: ProcessLogger, router: Router, access: HttpAccess, options: ReloaderOptions) {
    this.#logger = logger;
    this.#router = router;
    this.#access = access;
    this.#options = options;
    this.config = options.config;
  }

  /** One after the other, however fast they are asked for. */
  reload(): Promise<ReloadReport> {
    const report = this.#last.then(() => this.#reload());
    this.#last = report;
    return report;
  }

  /** What the configuration points to has changed. */
  filesChanged(paths: readonly string[]): Promise<ReloadReport> {
    const report = this.#last.then(() => this.#readFilesAgain(paths));
    this.#last = report;
    return report;
  }

  async #reload(): Promise<ReloadReport> {
    const { file } = this.#options.source;
    if (this.#router.dataPlane.draining) return shuttingDown;
    if (file === null) {
      const message = "there is no configuration file to reload";
      this.#logger.warn({}, message);
      return failed([{ message, remedy: "" }]);
    }
    const loaded = this.#options.source.read();
    if (loaded.ok) return this.#take(loaded, { file }, "configuration reloaded");
    const problems = this.#described(loaded.problems);
    for (const { message, remedy } of problems) this.#logger.error({ remedy }, message);
    this.#logger.error({ problems: problems.length }, "not reloaded: the old configuration stays");
    return failed(problems);
  }

  async #readFilesAgain(files: readonly string[]): Promise<ReloadReport> {
    if (this.#router.dataPlane.draining) return shuttingDown;
    const loaded = this.#options.source.readFilesAgain();
    if (loaded.ok) return this.#take(loaded, { files }, "files have changed and are in force");
    const problems = this.#described(loaded.problems);
    for (const { message, remedy } of problems) this.#logger.warn({ remedy }, message);
    this.#logger.warn({ files }, "files have changed and cannot be used: what was read before stays in force");
    return failed(problems);
  }

  #described(problems: readonly Problem[]): readonly ReloadProblem[] {
    const { file } = this.#options.source;
    return problems.map((problem) => ({ message: describeProblem(file, problem), remedy: problem.remedy }));
  }

  async #take(
    { config, warnings }: LoadedConfig & { ok: true },
    what: Readonly<Record<string, unknown>>,
    done: string,
  ): Promise<ReloadReport> {
    for (const warning of warnings) this.#logger.warn({}, warning);
    const plan = planReload(this.config, config);
    if (!plan.ok) {
      for (const reason of plan.reasons) this.#logger.error({}, reason);
      this.#logger.error({}, "not reloaded: the old configuration stays");
      return { ...failed(plan.reasons.map((message) => ({ message, remedy: "" }))), warnings };
    }
    for (const setting of plan.kept) {
      this.#logger.warn(
        { setting },
        `${setting} cannot change while pgsteer runs: the old value stays until a restart`,
      );
    }
    const changed = changedSections(this.config, plan.config);
    const failure = await this.#apply(plan.config);
    if (failure !== null) return { ...failed([{ message: failure, remedy: "" }]), warnings };
    this.#options.source.taken();
    this.#logger.info(what, done);
    return { ...nothing, reloaded: true, changed, kept: plan.kept, warnings };
  }

  /** Why the configuration could not be taken; null when it has. */
  async #apply(next: Config): Promise<string | null> {
    const failure = await this.#give(next);
    if (failure === null) {
      this.config = next;
      return null;
    }
    this.#logger.error({}, failure);
    const worse = await this.#give(this.config);
    if (worse === null) this.#logger.error({}, "not reloaded: the old configuration is in force again");
    else this.#logger.error({}, `not reloaded, and an old listener could not be opened again: ${worse}`);
    return failure;
  }

  async #give(config: Config): Promise<string | null> {
    try {
      await this.#router.reload(config);
      this.#access.reconfigure(httpAccessOptions(config));
      if (config.http !== null) this.admin?.reconfigure(config.http);
      return null;
    } catch (error) {
      const reason = describeListenError(error, config);
      if (reason === null) throw error;
      return reason;
    }
  }
}

const failed = (problems: readonly ReloadProblem[]): ReloadReport => ({ ...nothing, problems });

const shuttingDown = failed([{ message: "pgsteer is shutting down", remedy: "" }]);
