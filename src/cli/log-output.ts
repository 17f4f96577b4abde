// Where the log's lines go: a file descriptor, written before the call returns. Whoever reads the log must not be able to stop pgsteer:
// when nobody reads any more lines are dropped, and one that reads slowly is waited for only briefly (pino's own destination tries
// for ever, in both cases).

import { writeSync } from "node:fs";
import { z } from "zod";

const ATTEMPTS_MAX = 20;
const PAUSE_MS = 5;

const isFull = (error: unknown): boolean => z.object({ code: z.literal("EAGAIN") }).safeParse(error).success;

export class LogOutput {
  readonly #fd: number;
  /** Lines lost since one was last written whole. */
  #dropped = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Writes one line, with its end; never throws. */
  write(line: string): void {
    const notice = this.#dropped === 0 ? "" : `\n${this.#dropped} lines of the log were dropped: nobody took them\n`;
    let rest = Buffer.from(notice + line);
    // One that did not read before is not waited for again.
    let attempts = this.#dropped === 0 ? ATTEMPTS_MAX : 1;
    while (rest.length > 0) {
      try {
        rest = rest.subarray(writeSync(this.#fd, rest));
      } catch (error) {
        attempts -= 1;
        if (!isFull(error) || attempts <= 0) {
          this.#dropped += 1;
          return;
        }
        pause();
      }
    }
    this.#dropped = 0;
  }
}

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
}
