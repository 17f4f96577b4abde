#!/usr/bin/env node
// The command line: what pgsteer can be told to do.

import { readFileSync } from "node:fs";
import { Command } from "commander";
import type { LoadedConfig } from "../config/config.ts";
import { configFromUrls } from "../config/from-urls.ts";
import { loadConfig } from "../config/load.ts";
import { runRouter } from "./run.ts";

function load(file: string | undefined, urls: readonly string[]): LoadedConfig {
  if (file === undefined) return configFromUrls(urls);
  return loadConfig(readFileSync(file, "utf8"), file, (name) => readFileSync(name, "utf8"), process.env);
}

const program = new Command("pgsteer");
program
  .command("run")
  .option("-c, --config <file>")
  .argument("[urls...]")
  .action(async (urls: string[], options: { config?: string }) => {
    const loaded = load(options.config, urls);
    if (!loaded.ok) {
      for (const problem of loaded.problems) console.error(problem);
      process.exitCode = 2;
      return;
    }
    process.exitCode = await runRouter(loaded.config, () => null);
    process.exit();
  });
await program.parseAsync();
