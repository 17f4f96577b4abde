// The log: pino, pretty on a terminal, JSON elsewhere. One line per event that matters.

import { pino } from "pino";
import { prettyFactory } from "pino-pretty";
import type { LogConfig } from "../config/config.ts";
import type { Logger } from "../core/logger.ts";
import { LogOutput } from "./log-output.ts";

/** The process's own logger, which can also say why it dies. */
export interface ProcessLogger extends Logger {
  fatal(fields: Readonly<Record<string, unknown>>, message: string): void;
}

/** A logger that writes to standard output. */
export function createLogger(config: LogConfig): ProcessLogger {
  const isTerminal = process.stdout.isTTY === true;
  const output = new LogOutput(1);
  const common = { level: config.level, base: null };
  if (config.format === "pretty" || (config.format === "auto" && isTerminal)) {
    const asText = prettyFactory({ singleLine: true, colorize: isTerminal });
    return pino(common, { write: (line: string) => output.write(asText(line)) });
  }
  const formatters = { level: (label: string) => ({ level: label }) };
  return pino({ ...common, formatters, timestamp: pino.stdTimeFunctions.isoTime }, output);
}
