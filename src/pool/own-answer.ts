// What a server answers to a request of our own: gathered as it comes, handed over at its ReadyForQuery.

import { OWN_NOTICES_MAX } from "../core/limits.ts";
import { Backend, HEADER_BYTES } from "../protocol/constants.ts";
import { decodeDataRow, type ErrorFields } from "../protocol/messages.ts";

/** Outcome of a request of our own: the first row's values, and notices as they came; or why not. */
export type OwnResult =
  | { readonly ok: true; readonly row: readonly (string | null)[] | null; readonly notices: readonly Buffer[] }
  | { readonly ok: false; readonly fields: ErrorFields };

export class OwnAnswer {
  #error: ErrorFields | null = null;
  #row: (string | null)[] | null = null;
  #notices: Buffer[] = [];

  /** Whether a message of this type tells something. */
  wants(type: number): boolean {
    if (type === Backend.DataRow) return this.#row === null;
    return type === Backend.NoticeResponse && this.#notices.length < OWN_NOTICES_MAX;
  }

  /** Takes one that was wanted. Throws MalformedBody. */
  add(type: number, buffer: Buffer, start: number, end: number): void {
    if (type === Backend.NoticeResponse) this.#notices.push(Buffer.from(buffer.subarray(start, end)));
    else this.#row = decodeDataRow(buffer, start + HEADER_BYTES, end);
  }

  failed(fields: ErrorFields): void {
    this.#error = fields;
  }

  /** All of it; the next answer begins. */
  take(): OwnResult {
    const [fields, row, notices] = [this.#error, this.#row, this.#notices];
    this.#error = null;
    this.#row = null;
    this.#notices = [];
    return fields === null ? { ok: true, row, notices } : { ok: false, fields };
  }
}
