// What kind of secrets users have, so that those who do not exist can be shown what most others are shown: an exchange of another kind, or
// other iterations, would tell them apart (PostgreSQL pretends its own password_encryption and scram_iterations).

import { SCRAM_ITERATIONS_MIN } from "./scram.ts";
import type { Secret } from "./secret.ts";

/** What an unknown user is made out to have. */
export interface Pretence {
  /** Whether method md5 asks such users for SCRAM, as it does where the secret is one of SCRAM. */
  readonly scram: boolean;
  readonly iterations: number;
}

/** As long as nothing is known: what PostgreSQL makes by itself. */
export const usualPretence: Pretence = { scram: true, iterations: SCRAM_ITERATIONS_MIN };

/** Different numbers of iterations that are counted; the rest is passed over. */
const KINDS_MAX = 100;

export class SecretTally {
  #scram = 0;
  #others = 0;
  readonly #iterations = new Map<number, number>();
  #pretence: Pretence = usualPretence;

  constructor(secrets: Iterable<Secret> = []) {
    for (const secret of secrets) this.add(secret);
  }

  add(secret: Secret): void {
    if (secret.kind === "scram") this.#scram += 1;
    else this.#others += 1;
    if (secret.kind !== "md5") this.#count(secret.kind === "scram" ? secret.iterations : SCRAM_ITERATIONS_MIN);
    const [most = usualPretence.iterations] = [...this.#iterations].toSorted((a, b) => b[1] - a[1])[0] ?? [];
    this.#pretence = { scram: this.#scram >= this.#others, iterations: most };
  }

  #count(iterations: number): void {
    if (this.#iterations.size >= KINDS_MAX && !this.#iterations.has(iterations)) return;
    this.#iterations.set(iterations, (this.#iterations.get(iterations) ?? 0) + 1);
  }

  /** What most have. */
  get pretence(): Pretence {
    return this.#pretence;
  }
}
