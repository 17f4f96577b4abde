// How commands ask a running pgsteer over HTTP: one GET, bounded in time and size, decoded by the schema that wrote it.

import { type Agent, request } from "undici";
import type { z } from "zod";

export const ANSWER_TIMEOUT_MS = 3_000;
/** A cluster of a hundred members with a thousand pools is less than 1 MB. */
const ANSWER_BYTES_MAX = 16_777_216;

type Asked<Document> =
  | { readonly ok: true; readonly document: Document }
  /** `reason` is for a person. */
  | { readonly ok: false; readonly reason: string };

/** What the pgsteer at `url` answers to `path`. Never rejects. */
export async function ask<Schema extends z.ZodType>(
  agent: Agent,
  url: string,
  path: string,
  schema: Schema,
): Promise<Asked<z.infer<Schema>>> {
  try {
    const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    const { statusCode, body } = await request(`${url}${path}`, { dispatcher: agent, signal });
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of body) {
      const bytes = Buffer.from(chunk);
      size += bytes.length;
      if (size > ANSWER_BYTES_MAX) return { ok: false, reason: "the answer is too long: is this pgsteer?" };
      chunks.push(bytes);
    }
    if (statusCode !== 200) return { ok: false, reason: `it answered ${statusCode}: is this pgsteer?` };
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
