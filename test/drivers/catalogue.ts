// The driver programs, as test/drivers/<language>/driver.json names them, and what has to be done before they can run.

import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { projectRoot } from "../support/pgsteer.ts";
import { runProgram } from "../support/programs.ts";

/** A driver program: how to install what it needs, and how to run it. */
export interface Driver {
  /** As in the report and in --only. */
  readonly name: string;
  readonly language: string;
  readonly install: readonly string[];
  readonly run: readonly [string, ...string[]];
  /** Folder with its sources; both commands are run there. */
  readonly cwd: string;
  /** Folder for what is downloaded or built. */
  readonly build: string;
}

const words = z.array(z.string()).min(1);
const descriptorSchema = z.strictObject({
  drivers: z.array(z.strictObject({ name: z.string(), install: z.array(z.string()), run: words })),
});

const sources = join(projectRoot, "test", "drivers");
const INSTALL_TIMEOUT_MS = 900_000;

function driversOf(language: string): Driver[] {
  const cwd = join(sources, language);
  const build = join(projectRoot, ".state", "drivers", language);
  const expand = (word: string): string => word.replaceAll("$BUILD", build);
  const { drivers } = descriptorSchema.parse(JSON.parse(readFileSync(join(cwd, "driver.json"), "utf8")));
  return drivers.map(({ name, install, run }) => {
    const [command = "", ...args] = run.map(expand);
    return { name, language, install: install.map(expand), run: [command, ...args], cwd, build };
  });
}

/** All driver programs, by language. */
export function allDrivers(): Driver[] {
  return readdirSync(sources)
    .toSorted()
    .filter((language) => existsSync(join(sources, language, "driver.json")))
    .flatMap(driversOf);
}

/** Installs what a driver needs; rejects with the last lines of what the command said unless it ends with 0. */
export async function prepare(driver: Driver): Promise<void> {
  mkdirSync(driver.build, { recursive: true });
  const [command, ...args] = driver.install;
  if (command === undefined) return;
  const { code, stdout, stderr } = await runProgram(command, args, {
    cwd: driver.cwd,
    env: { BUILD: driver.build },
    timeoutMs: INSTALL_TIMEOUT_MS,
  });
  if (code === 0) return;
  const said = `${stdout}\n${stderr}`.trim().split("\n").slice(-5).join("\n");
  throw new Error(`${driver.install.join(" ")} ended with ${code ?? "a signal"}: ${said}`);
}
