// `pgsteer check`: says whether a configuration file can be used, without starting anything; with `--connect`, also what is found at
// the other end of it.

import { formatAddress } from "../core/addresses.ts";
import { silentLogger } from "../core/logger.ts";
import { checkConnections } from "./check-connections.ts";
import { configFromFile, printProblems } from "./configuration.ts";
import { EXIT } from "./exit-codes.ts";

/** Prints problems to standard error, all else to standard output. Returns the exit code. */
export async function checkConfiguration(file: string, connect: boolean): Promise<number> {
  const loaded = configFromFile(file);
  if (!loaded.ok) {
    printProblems(file, loaded.problems);
    const count = loaded.problems.length;
    console.error(`${file}: ${count === 1 ? "1 problem" : `${count} problems`}; pgsteer would not start with it`);
    return EXIT.failed;
  }
  for (const warning of loaded.warnings) console.log(`warning: ${warning}`);
  const { clusters, listeners, databases, http } = loaded.config;
  const named = [...clusters.keys()].join(", ");
  console.log(`${file}: is valid: ${clusters.size === 1 ? "cluster" : "clusters"} ${named}`);
  for (const { name, address, port, route, poolMode, cluster } of listeners) {
    console.log(
      `  listener ${name}: ${formatAddress(address, port)}, route ${route}, ${poolMode} mode, cluster ${cluster}`,
    );
  }
  if (databases !== null) console.log(`  databases: ${[...databases.keys()].join(", ")}`);
  console.log(http === null ? "  http: off" : `  http: ${formatAddress(http.address, http.port)}`);
  if (!connect) return EXIT.ok;
  const found = await checkConnections(loaded.config, silentLogger);
  for (const { ok, text } of found) console.log(`${ok ? "ok     " : "PROBLEM"} ${text}`);
  const failures = found.filter(({ ok }) => !ok).length;
  console.log(failures === 0 ? "everything answers" : `${failures} of ${found.length} checks failed`);
  return failures === 0 ? EXIT.ok : EXIT.failed;
}
