// `pgsteer status`: asks a running pgsteer over HTTP what it believes, and shows it as a table or as JSON.

import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Agent } from "undici";
import { type TopologyDocument, topologySchema } from "../admin/topology-document.ts";
import { valueAt } from "../config/decode.ts";
import { parseConfigDocument } from "../config/document.ts";
import { httpSchema } from "../config/schema.ts";
import { ANSWER_TIMEOUT_MS, ask, printNoAnswer } from "./ask.ts";
import { describeReadError } from "./configuration.ts";
import { EXIT } from "./exit-codes.ts";
import { renderStatus } from "./status-table.ts";

const WATCH_EVERY_MS = 2_000;

export interface StatusOptions {
  readonly url: string;
  readonly json: boolean;
  readonly watch: boolean;
}

/** Base URL of the pgsteer that runs with this file. Only its http section is read: the secrets of the rest may not be ours. */
export function urlFromFile(file: string): string | { readonly problem: string } {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    return { problem: `${file}: ${describeReadError(error)}` };
  }
  const http = httpSchema.safeParse(valueAt(parseConfigDocument(text).root, ["http"]) ?? {});
  if (!http.success) return { problem: `${file}: http cannot be understood: run pgsteer check -c ${file}` };
  if (!http.data.enabled) return { problem: `${file}: http.enabled is false: this pgsteer cannot be asked` };
  const { address, port } = http.data;
  const host = address === "0.0.0.0" ? "127.0.0.1" : address === "::" ? "::1" : address;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function exitCode({ clusters }: TopologyDocument): number {
  return clusters.length > 0 && clusters.every(({ writable }) => writable) ? EXIT.ok : EXIT.notWritable;
}

async function showOnce(agent: Agent, { url, json, watch }: StatusOptions): Promise<number> {
  const asked = await ask(agent, url, "/topology", topologySchema);
  // Home, and clear what was there.
  if (watch && process.stdout.isTTY) process.stdout.write("\x1b[H\x1b[2J");
  if (!asked.ok) {
    printNoAnswer(url, asked.reason, "with --url");
    return EXIT.failed;
  }
  console.log(json ? JSON.stringify(asked.document, null, 2) : renderStatus(asked.document));
  return exitCode(asked.document);
}

/** Shows the status once, or again and again until Ctrl-C. Returns the exit code of the last look. */
export async function showStatus(options: StatusOptions): Promise<number> {
  const agent = new Agent({ connections: 1, connect: { timeout: ANSWER_TIMEOUT_MS } });
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
