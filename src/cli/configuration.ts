// How the command line gets its configuration, and how it tells a person what is wrong with one.

import { readdirSync, readFileSync } from "node:fs";
import type { LoadedConfig, Problem } from "../config/config.ts";
import type { ListFiles, ReadFile, RunCommand } from "../config/files.ts";
import { configFromUrls } from "../config/from-urls.ts";
import { loadConfig } from "../config/load.ts";
import { type FileState, fileState } from "./file-watch.ts";
import { privilegeWarnings } from "./least-privilege.ts";
import { PasswordCommands } from "./password-commands.ts";

const readText: ReadFile = (path) => readFileSync(path, "utf8");

const listFiles: ListFiles = (path) =>
  readdirSync(path, { withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map(({ name }) => name);

/** Why a file could not be read, in words. */
export function describeReadError(error: unknown): string {
  const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT") return "there is no such file";
  if (code === "EACCES") return "this user may not read it";
  return code === "EISDIR" ? "is a directory" : `cannot be read: ${String(error)}`;
}

/** Where `pgsteer run` has its configuration from, and gets it anew. */
export interface ConfigurationSource {
  /** Null when there is no file, which then cannot be reloaded either. */
  readonly file: string | null;
  /** The files that it points to, as they were when they were read last. */
  readonly seen: ReadonlyMap<string, FileState>;
  /** Runs the programs that print passwords, so that reading need not wait for them. */
  prepare(what: "all" | "files"): Promise<void>;
  /** Reads it and all that it points to. */
  read(): LoadedConfig;
  /** Reads what it points to; the text itself stays the one in force, whatever the file says by now. */
  readFilesAgain(): LoadedConfig;
  /** What was read last is in force. */
  taken(): void;
}

class ConfigurationFile implements ConfigurationSource {
  readonly file: string;
  seen: ReadonlyMap<string, FileState> = new Map();
  #inForce = "";
  #last = "";
  readonly #commands = new PasswordCommands();

  constructor(file: string) {
    this.file = file;
  }

  async prepare(what: "all" | "files"): Promise<void> {
    const text = what === "all" ? this.#textNow() : this.#inForce;
    if (text === null) return;
    await this.#commands.prepare((run) => loadConfig(text, this.file, readText, process.env, listFiles, run));
  }

  /** Null where it cannot be read, which reading it says. */
  #textNow(): string | null {
    try {
      return readText(this.file);
    } catch {
      return null;
    }
  }

  /** A file that cannot be read is a problem like any other. */
  read(): LoadedConfig {
    try {
      this.#last = readText(this.file);
    } catch (error) {
      const remedy = "check the path and its permissions";
      return { ok: false, problems: [{ line: 0, column: 0, key: "", message: describeReadError(error), remedy }] };
    }
    return this.#load(this.#last);
  }

  readFilesAgain(): LoadedConfig {
    this.#last = this.#inForce;
    return this.#load(this.#last);
  }

  taken(): void {
    this.#inForce = this.#last;
  }

  #load(text: string): LoadedConfig {
    const seen = new Map<string, FileState>();
    const noting =
      <T>(read: (path: string) => T) =>
      (path: string): T => {
        seen.set(path, fileState(path));
        return read(path);
      };
    const load = (run: RunCommand) =>
      loadConfig(text, this.file, noting(readText), process.env, noting(listFiles), run);
    const loaded = withPrivileges(this.#commands.load(load), this.file, text);
    // What a text that is wrong did not come to ask for is not forgotten.
    this.seen = loaded.ok ? seen : new Map([...this.seen, ...seen]);
    return loaded;
  }
}

/** With what this process may do beyond its need among the warnings. */
function withPrivileges(loaded: LoadedConfig, file: string, text: string): LoadedConfig {
  if (!loaded.ok) return loaded;
  return { ...loaded, warnings: [...loaded.warnings, ...privilegeWarnings(file, text, process.getuid?.())] };
}

/** Loads a file. */
export const configFromFile = (file: string): LoadedConfig => new ConfigurationFile(file).read();

/** From a file, or from the servers' URLs when there is none. */
export function configurationSource(file: string | null, urls: readonly string[]): ConfigurationSource {
  if (file !== null) return new ConfigurationFile(file);
  const read = () => configFromUrls(urls);
  return { file, seen: new Map(), prepare: async () => {}, read, readFilesAgain: read, taken: () => {} };
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
