// What a run counts and what it finds. One object for all connections of a run; findings carry what is needed to run them again.

/** Something that must not happen. `conversation` is null where it is about the whole. */
export interface Finding {
  readonly kind: "crash" | "crossed" | "broken" | "stuck" | "leaked" | "wrong" | "memory";
  readonly target: string;
  readonly conversation: number | null;
  readonly what: string;
}

const FINDINGS_MAX = 200;
const SUSPECTS_MAX = 1000;

export class Tally {
  frames = 0;
  conversations = 0;
  /** Rows and other answers whose mark was the asker's. */
  answersChecked = 0;
  /** Rows without any mark, behind a statement that was harmed. */
  unmarked = 0;
  refusedLogins = 0;
  readonly mutations = new Map<string, number>();
  readonly errors = new Map<string, number>();
  readonly findings: Finding[] = [];
  /** Conversations that are under way. */
  readonly live = new Set<number>();
  /** Those that were under way when something was found. */
  readonly suspects = new Set<number>();
  #dropped = 0;

  mutated(kind: string): void {
    this.mutations.set(kind, (this.mutations.get(kind) ?? 0) + 1);
  }

  error(code: string): void {
    const sqlstate = /^[0-9A-Z]{5}$/.test(code) ? code : "none";
    this.errors.set(sqlstate, (this.errors.get(sqlstate) ?? 0) + 1);
  }

  find(finding: Finding): void {
    for (const id of this.live) if (this.suspects.size < SUSPECTS_MAX) this.suspects.add(id);
    if (this.findings.length < FINDINGS_MAX) this.findings.push(finding);
    else this.#dropped += 1;
  }

  count(kind: Finding["kind"]): number {
    return this.findings.filter((each) => each.kind === kind).length;
  }

  /** All findings, those included that were too many to keep. */
  get found(): number {
    return this.findings.length + this.#dropped;
  }
}

/** `a 3, b 2`: the most frequent first. */
export function listed(counts: ReadonlyMap<string, number>): string {
  const sorted = [...counts].toSorted(([, one], [, other]) => other - one);
  return sorted.length === 0 ? "none" : sorted.map(([name, count]) => `${name} ${count}`).join(", ");
}
