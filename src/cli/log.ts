// The log: pino, pretty on a terminal, JSON elsewhere. One line per event that matters.

import { pino } from "pino";
import pretty from "pino-pretty";
import type { LogConfig } from "../config/config.ts";
import type { Logger } from "../core/logger.ts";

/** A logger that writes to standard output. */
export function createLogger(config: LogConfig): Logger {
  const asText = config.format === "pretty" || (config.format === "auto" && process.stdout.isTTY === true);
  const options = { level: config.level, base: null, formatters: { level: (label: string) => ({ level: label }) } };
  return asText
    ? pino({ level: config.level, base: null }, pretty())
    : pino({ ...options, timestamp: pino.stdTimeFunctions.isoTime });
}
