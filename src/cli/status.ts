// `pgsteer status`: asks a running pgsteer over HTTP what it believes, and shows it as a table or as JSON.

import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Agent, request } from "undici";
import { type TopologyDocument, topologySchema } from "../admin/topology-document.ts";
import { valueAt } from "../config/decode.ts";
import { parseConfigDocument } from "../config/document.ts";
import { httpSchema } from "../config/schema.ts";
import { describeReadError } from "./configuration.ts";
import { EXIT } from "./exit-codes.ts";
import { renderStatus } from "./status-table.ts";

const ANSWER_TIMEOUT_MS = 3_000;
/** A cluster of a hundred members with a thousand pools is less than 1 MB. */
const ANSWER_BYTES_MAX = 16_777_216;
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

type Fetched =
  | { readonly ok: true; readonly document: TopologyDocument }
  | { readonly ok: false; readonly reason: string };

async function fetchTopology(agent: Agent, url: string): Promise<Fetched> {
  try {
    const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    const { statusCode, body } = await request(`${url}/topology`, { dispatcher: agent, signal });
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of body) {
      const bytes = Buffer.from(chunk);
      size += bytes.length;
      if (size > ANSWER_BYTES_MAX) return { ok: false, reason: "the answer is too long: is this pgsteer?" };
      chunks.push(bytes);
    }
    if (statusCode !== 200) return { ok: false, reason: `it answered ${statusCode}: is this pgsteer?` };
    const parsed = topologySchema.safeParse(JSON.parse(Buffer.concat(chunks).toString("utf8")));
    if (parsed.success) return { ok: true, document: parsed.data };
    return { ok: false, reason: "its answer cannot be understood: is it another version of pgsteer?" };
  } catch (error) {
    if (error instanceof SyntaxError) return { ok: false, reason: "its answer is not JSON: is this pgsteer?" };
    const silent = error instanceof Error && error.name === "TimeoutError";
    if (silent) return { ok: false, reason: `no answer in ${ANSWER_TIMEOUT_MS / 1000} s` };
    return { ok: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

function exitCode({ clusters }: TopologyDocument): number {
  return clusters.length > 0 && clusters.every(({ writable }) => writable) ? EXIT.ok : EXIT.notWritable;
}

async function showOnce(agent: Agent, { url, json, watch }: StatusOptions): Promise<number> {
  const fetched = await fetchTopology(agent, url);
  // Home, and clear what was there.
  if (watch && process.stdout.isTTY) process.stdout.write("\x1b[H\x1b[2J");
  if (!fetched.ok) {
    console.error(`pgsteer does not answer at ${url}: ${fetched.reason}`);
    console.error("    remedy: check that it runs, and name its address with --url or its configuration with -c");
    return EXIT.failed;
  }
  console.log(json ? JSON.stringify(fetched.document, null, 2) : renderStatus(fetched.document));
  return exitCode(fetched.document);
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
