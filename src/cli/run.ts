// `pgsteer run`: starts the router and keeps it until a signal says otherwise. SIGHUP reloads, SIGTERM and SIGINT drain; a second
// one ends it at once.

import type { Config } from "../config/config.ts";
import { systemClock } from "../core/clock.ts";
import type { Logger } from "../core/logger.ts";
import { composeRouter, dataPlaneOptions } from "./compose.ts";
import { createLogger } from "./log.ts";

/** Reads the configuration anew; null when it cannot be used, which has then been said. */
export type Reread = (logger: Logger) => Config | null;

/** Runs until a signal. Returns the process's exit code. */
export async function runRouter(config: Config, reread: Reread): Promise<number> {
  const logger = createLogger(config.log);
  const router = composeRouter(systemClock, logger, config);
  for (const observer of router.observers.values()) observer.start();
  try {
    await router.dataPlane.start();
  } catch (error) {
    logger.error({ reason: error instanceof Error ? error.message : String(error) }, "cannot listen");
    await router.close();
    return 1;
  }
  logger.info({ pid: process.pid }, "pgsteer is running");
  process.on("SIGHUP", () => {
    const next = reread(logger);
    if (next !== null) void router.dataPlane.reload(dataPlaneOptions(next)).then(() => logger.info({}, "reloaded"));
  });
  const signal = await new Promise<string>((resolve) => {
    process.once("SIGTERM", resolve);
    process.once("SIGINT", resolve);
  });
  logger.info({ signal }, "draining");
  const again = new Promise<void>((resolve) => {
    process.once("SIGTERM", () => resolve());
    process.once("SIGINT", () => resolve());
  });
  await Promise.race([router.dataPlane.drain(config.pool.drainTimeoutMs), again]);
  await router.close();
  logger.info({}, "stopped");
  return 0;
}
