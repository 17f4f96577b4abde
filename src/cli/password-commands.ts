// Programs that print passwords (password_command): run without a shell. At the start one after the other; for a reload all at once and
// before the configuration is read, so that clients need not wait for them.

import { execFile, spawnSync } from "node:child_process";
import type { CommandOutput, RunCommand } from "../config/files.ts";

/** One that takes longer has failed. */
const TIMEOUT_MS = 10_000;
const OUTPUT_BYTES_MAX = 65_536;

const keyOf = (words: readonly string[]): string => JSON.stringify(words);

/** What it says on standard error is the operator's to see; what it prints is a password, and shows nowhere. */
function runNow([program = "", ...args]: readonly string[]): CommandOutput {
  const stdio: ("ignore" | "pipe" | "inherit")[] = ["ignore", "pipe", "inherit"];
  const options = { timeout: TIMEOUT_MS, maxBuffer: OUTPUT_BYTES_MAX, encoding: "utf8", stdio } as const;
  const ended = begun(() => spawnSync(program, args, options));
  if ("ok" in ended) return ended;
  const { error, status, signal, stdout } = ended;
  if (error !== undefined) return { ok: false, reason: reasonOf("code" in error ? error.code : null) };
  if (status === 0) return { ok: true, text: stdout };
  return { ok: false, reason: status === null ? `was ended by ${signal}` : `ended with exit code ${status}` };
}

function runLater([program = "", ...args]: readonly string[]): Promise<CommandOutput> {
  return new Promise((resolve) => {
    const options = { timeout: TIMEOUT_MS, maxBuffer: OUTPUT_BYTES_MAX, encoding: "utf8" } as const;
    const child = begun(() =>
      execFile(program, args, options, (error, stdout) => {
        if (error === null) return resolve({ ok: true, text: stdout });
        const { code, killed } = error;
        if (typeof code === "number") return resolve({ ok: false, reason: `ended with exit code ${code}` });
        resolve({ ok: false, reason: reasonOf(killed === true ? "ETIMEDOUT" : code) });
      }),
    );
    if ("ok" in child) return resolve(child);
    child.stdin?.end();
    child.stderr?.pipe(process.stderr, { end: false });
  });
}

/** Node.js throws at words that no program can be given. */
function begun<Program>(run: () => Program): Program | (CommandOutput & { readonly ok: false }) {
  try {
    return run();
  } catch (error) {
    return { ok: false, reason: reasonOf(error instanceof Error && "code" in error ? error.code : null) };
  }
}

function reasonOf(code: unknown): string {
  if (code === "ENOENT") return "does not exist";
  if (code === "EACCES") return "may not be run by the user that runs pgsteer";
  if (code === "ETIMEDOUT") return `took longer than ${TIMEOUT_MS / 1000} seconds`;
  if (code === "ENOBUFS" || code === "ERR_CHILD_PROCESS_STDIO_MAXBUFFER") return "printed too much for a password";
  return `could not be run (${String(code)})`;
}

export class PasswordCommands {
  /** Of those that were run ahead; each is used once. */
  readonly #outputs = new Map<string, CommandOutput>();

  /** Runs ahead what `load` would run. */
  async prepare(load: (run: RunCommand) => unknown): Promise<void> {
    const wanted = new Map<string, readonly string[]>();
    load((words) => {
      wanted.set(keyOf(words), words);
      return { ok: true, text: "not run yet" };
    });
    await Promise.all([...wanted].map(async ([key, words]) => this.#outputs.set(key, await runLater(words))));
  }

  /** Loads with what was run ahead, and forgets it. */
  load<Loaded>(load: (run: RunCommand) => Loaded): Loaded {
    const loaded = load((words) => this.#outputs.get(keyOf(words)) ?? runNow(words));
    this.#outputs.clear();
    return loaded;
  }
}
