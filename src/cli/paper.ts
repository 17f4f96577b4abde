// Files that a transcript is written to (`pgsteer run --record FILE`). A full one becomes FILE.1; so does one that is there already, so
// that a restart keeps what led to it. A disk that fails or falls behind ends the recording, never the router.

import { createWriteStream, renameSync, type WriteStream } from "node:fs";
import type { Logger } from "../core/logger.ts";
import type { Paper } from "../discovery/recorder.ts";

/** What may wait for the disk. */
const BACKLOG_BYTES_MAX = 16_777_216;

export class PaperFile implements Paper {
  readonly #logger: Logger;
  readonly #file: string;
  #stream: WriteStream | null = null;

  constructor(logger: Logger, file: string) {
    this.#logger = logger;
    this.#file = file;
    this.turn();
  }

  write(line: string): void {
    const stream = this.#stream;
    if (stream === null) return;
    stream.write(`${line}\n`);
    if (stream.writableLength > BACKLOG_BYTES_MAX) this.#give(stream, "the disk does not keep up");
  }

  turn(): void {
    this.#stream?.end();
    try {
      renameSync(this.#file, `${this.#file}.1`);
    } catch {
      // There was none; whatever else is wrong, opening it will say.
    }
    const stream = createWriteStream(this.#file, { mode: 0o600, flags: "w" });
    stream.on("error", (error) => this.#give(stream, error.message));
    this.#stream = stream;
  }

  /** Resolves when all is written. */
  async close(): Promise<void> {
    const stream = this.#stream;
    this.#stream = null;
    if (stream === null || stream.destroyed) return;
    await new Promise<void>((resolve) => stream.once("close", resolve).end());
  }

  #give(stream: WriteStream, reason: string): void {
    if (this.#stream !== stream) return;
    this.#stream = null;
    stream.destroy();
    this.#logger.error({ file: this.#file, reason }, "recording ends: its file cannot be written");
  }
}

/** The files of one run: FILE for its cluster, FILE.NAME for each of several. */
export class Recording {
  readonly #logger: Logger;
  readonly #file: string | null;
  readonly #several: boolean;
  readonly #papers: PaperFile[] = [];

  constructor(logger: Logger, file: string | null, several: boolean) {
    this.#logger = logger;
    this.#file = file;
    this.#several = several;
  }

  /** Begins a cluster's file. Null when nothing is recorded. */
  paper(cluster: string): Paper | null {
    if (this.#file === null) return null;
    const file = this.#several ? `${this.#file}.${cluster.replaceAll("/", "_")}` : this.#file;
    this.#logger.info({ cluster, file }, "recording what is seen of the cluster; pgsteer replay shows it");
    const paper = new PaperFile(this.#logger, file);
    this.#papers.push(paper);
    return paper;
  }

  async close(): Promise<void> {
    await Promise.all(this.#papers.map((paper) => paper.close()));
  }
}
