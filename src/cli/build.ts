// Which pgsteer this is: package.json lies two directories up, from src/cli as from dist/cli.

import { readFileSync } from "node:fs";
import { z } from "zod";
import type { Build } from "../metrics/snapshot.ts";

/** Reads our own version. */
export function readBuild(): Build {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  const { version } = z.object({ version: z.string() }).parse(JSON.parse(text));
  return { version, node: process.versions.node };
}
