// `pgsteer status`: asks a running pgsteer over HTTP what it believes, and shows it as a table or as JSON.

import { setTimeout as delay } from "node:timers/promises";
import type { Agent } from "undici";
import { type TopologyDocument, topologySchema } from "../admin/topology-document.ts";
import { ask, printNoAnswer } from "./ask.ts";
import { EXIT } from "./exit-codes.ts";
import type { HttpTarget } from "./http-target.ts";
import { renderStatus } from "./status-table.ts";

const WATCH_EVERY_MS = 2_000;

export interface StatusOptions {
  readonly target: HttpTarget;
  readonly json: boolean;
  readonly watch: boolean;
}

function exitCode({ clusters }: TopologyDocument): number {
  return clusters.length > 0 && clusters.every(({ writable }) => writable) ? EXIT.ok : EXIT.notWritable;
}

async function showOnce(agent: Agent, { target, json, watch }: StatusOptions): Promise<number> {
  const asked = await ask(agent, target, "/topology", topologySchema);
  // Home, and clear what was there.
  if (watch && process.stdout.isTTY) process.stdout.write("\x1b[H\x1b[2J");
  if (!asked.ok) {
    printNoAnswer(target.url, asked.reason, "with --url");
    return EXIT.failed;
  }
  console.log(json ? JSON.stringify(asked.document, null, 2) : renderStatus(asked.document));
  return exitCode(asked.document);
}

/** Shows the status once, or again and again until Ctrl-C. Returns the exit code of the last look. */
export async function showStatus(options: StatusOptions): Promise<number> {
  const agent = options.target.agent();
  const stopped = new AbortController();
  if (options.watch) for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stopped.abort());
  try {
    let code = await showOnce(agent, options);
    while (options.watch && !stopped.signal.aborted) {
      await delay(WATCH_EVERY_MS, undefined, { signal: stopped.signal }).catch(() => {});
      if (!stopped.signal.aborted) code = await showOnce(agent, options);
    }
    return code;
  } finally {
    await agent.destroy();
  }
}
