// How commands ask a running pgsteer over HTTP: one request, bounded in time and size, decoded by the schema that wrote it.

import { type Agent, request } from "undici";
import type { z } from "zod";
import { ANSWER_TIMEOUT_MS, type HttpTarget } from "./http-target.ts";

/** A cluster of a hundred members with a thousand pools is less than 1 MB. */
const ANSWER_BYTES_MAX = 16_777_216;

type Asked<Document> =
  | { readonly ok: true; readonly document: Document }
  /** `reason` is for a person. */
  | { readonly ok: false; readonly reason: string };

/** How a request differs from the usual one. */
interface Asking {
  readonly method: "GET" | "POST";
  /** Statuses whose answer `schema` can read. */
  readonly statuses: readonly number[];
}

const looking: Asking = { method: "GET", statuses: [200] };

/** What is wrong with an answer of this status, for a person. */
function describeStatus(status: number): string {
  if (status === 401) return "it wants a login: name a file with its token by --token-file";
  if (status === 403) return "it does not allow this: it wants an administrator's token, or a client certificate";
  if (status === 429) return "it has had too many failed logins from here: try again in a minute";
  return `it answered ${status}: is this pgsteer?`;
}

/** What the pgsteer at `target` answers to `path`. Never rejects. */
export async function ask<Schema extends z.ZodType>(
  agent: Agent,
  { url, headers }: HttpTarget,
  path: string,
  schema: Schema,
  { method, statuses }: Asking = looking,
): Promise<Asked<z.infer<Schema>>> {
  try {
    const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    const { statusCode, body } = await request(`${url}${path}`, { dispatcher: agent, signal, method, headers });
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of body) {
      const bytes = Buffer.from(chunk);
      size += bytes.length;
      if (size > ANSWER_BYTES_MAX) return { ok: false, reason: "the answer is too long: is this pgsteer?" };
      chunks.push(bytes);
    }
    if (!statuses.includes(statusCode)) return { ok: false, reason: describeStatus(statusCode) };
    const parsed = schema.safeParse(JSON.parse(Buffer.concat(chunks).toString("utf8")));
    if (parsed.success) return { ok: true, document: parsed.data };
    return { ok: false, reason: "its answer cannot be understood: is it another version of pgsteer?" };
  } catch (error) {
    if (error instanceof SyntaxError) return { ok: false, reason: "its answer is not JSON: is this pgsteer?" };
    const silent = error instanceof Error && error.name === "TimeoutError";
    if (silent) return { ok: false, reason: `no answer in ${ANSWER_TIMEOUT_MS / 1000} s` };
    return { ok: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

/** Says, to standard error, that nobody answers; `how` the command is told the address. */
export function printNoAnswer(url: string, reason: string, how: string): void {
  console.error(`pgsteer does not answer at ${url}: ${reason}`);
  console.error(`    remedy: check that it runs, and name its address ${how} or its configuration with -c`);
}
