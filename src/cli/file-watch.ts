// The files that the configuration points to, certificates, rules, passwords, are read again when they change. They are looked at once
// a second: that works over links that are exchanged, as Kubernetes does, and over networks, where the system's notices do not. A file
// counts as changed once it has stood still between two looks, so that nobody's half of a file is taken.

import { statSync } from "node:fs";
import { stat } from "node:fs/promises";
import type { Clock, Timer } from "../core/clock.ts";
import { millis } from "../core/units.ts";

const LOOK_EVERY_MS = 1_000;

/** What tells one state of a file, or of a directory, from another. */
export type FileState = string;

type Stats = { readonly ino: bigint; readonly size: bigint; readonly mtimeNs: bigint; readonly ctimeNs: bigint };

const stateOf = ({ ino, size, mtimeNs, ctimeNs }: Stats): FileState => `${ino} ${size} ${mtimeNs} ${ctimeNs}`;

const absence = (error: unknown): FileState =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "unknown";

/** To be asked before the file is read: what is written meanwhile shows as a change. */
export function fileState(path: string): FileState {
  try {
    return stateOf(statSync(path, { bigint: true }));
  } catch (error) {
    return absence(error);
  }
}

async function presentState(path: string): Promise<FileState> {
  try {
    return stateOf(await stat(path, { bigint: true }));
  } catch (error) {
    return absence(error);
  }
}

export class FileWatch {
  readonly #seen: () => ReadonlyMap<string, FileState>;
  readonly #changed: (paths: readonly string[]) => void;
  readonly #timer: Timer;
  /** States that differ from those that were read, as of the last look. */
  #unsettled = new Map<string, FileState>();
  #looking = false;

  /** `seen`: the files by name, as they were when they were read last. */
  constructor(clock: Clock, seen: () => ReadonlyMap<string, FileState>, changed: (paths: readonly string[]) => void) {
    this.#seen = seen;
    this.#changed = changed;
    this.#timer = clock.every(millis(LOOK_EVERY_MS), () => {
      if (!this.#looking) void this.look();
    });
  }

  /** Looks at all files now. Never rejects. */
  async look(): Promise<void> {
    this.#looking = true;
    const now = new Map<string, FileState>();
    for (const [path, before] of this.#seen()) {
      const state = await presentState(path);
      if (state !== before) now.set(path, state);
    }
    const settled = [...now].every(([path, state]) => this.#unsettled.get(path) === state);
    this.#unsettled = now;
    this.#looking = false;
    if (now.size > 0 && settled) this.#changed([...now.keys()]);
  }

  cancel(): void {
    this.#timer.cancel();
  }
}
