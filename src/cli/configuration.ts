// How the command line gets its configuration, and how it tells a person what is wrong with one.

import { readFileSync } from "node:fs";
import type { LoadedConfig, Problem } from "../config/config.ts";
import { configFromUrls } from "../config/from-urls.ts";
import { loadConfig } from "../config/load.ts";

const readText = (path: string): string => readFileSync(path, "utf8");

/** Why a file could not be read, in words. */
export function describeReadError(error: unknown): string {
  const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT") return "there is no such file";
  if (code === "EACCES") return "this user may not read it";
  return code === "EISDIR" ? "is a directory" : `cannot be read: ${String(error)}`;
}

/** Loads a file; a file that cannot be read is a problem like any other. */
export function configFromFile(file: string): LoadedConfig {
  let text: string;
  try {
    text = readText(file);
  } catch (error) {
    const remedy = "check the path and its permissions";
    return { ok: false, problems: [{ line: 0, column: 0, key: "", message: describeReadError(error), remedy }] };
  }
  return loadConfig(text, file, readText, process.env);
}

/** From a file, or from the servers' URLs when there is none. */
export function loadConfiguration(file: string | null, urls: readonly string[]): LoadedConfig {
  return file === null ? configFromUrls(urls) : configFromFile(file);
}

/** `file:line:column: key: message`; what is not known is left out. */
export function describeProblem(file: string | null, { line, column, key, message }: Problem): string {
  const place = line === 0 ? (file ?? "") : `${file ?? ""}:${line}:${column}`;
  return [place, key, message].filter((part) => part !== "").join(": ");
}

/** Prints each problem with its remedy, to standard error. */
export function printProblems(file: string | null, problems: readonly Problem[]): void {
  for (const problem of problems) {
    console.error(describeProblem(file, problem));
    console.error(`    remedy: ${problem.remedy}`);
  }
}
