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

/** More is not pretended: with method password each guess costs them, and a role can give itself a secret of any number. */
export const PRETENDED_ITERATIONS_MAX = 100_000;
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
    this.#count(secret, 1);
  }

  /** One that was added is not anybody's any more. */
  remove(secret: Secret): void {
    this.#count(secret, -1);
  }

  #count(secret: Secret, by: 1 | -1): void {
    if (secret.kind === "scram") this.#scram += by;
    else this.#others += by;
    const iterations = secret.kind === "scram" ? secret.iterations : SCRAM_ITERATIONS_MIN;
    if (secret.kind !== "md5" && iterations <= PRETENDED_ITERATIONS_MAX) this.#countIterations(iterations, by);
    const [most = usualPretence.iterations] = [...this.#iterations].toSorted((a, b) => b[1] - a[1])[0] ?? [];
    this.#pretence = { scram: this.#scram >= this.#others, iterations: most };
  }

  #countIterations(iterations: number, by: 1 | -1): void {
    const known = this.#iterations.get(iterations);
    if (known === undefined && (by < 0 || this.#iterations.size >= KINDS_MAX)) return;
    const count = (known ?? 0) + by;
    if (count > 0) this.#iterations.set(iterations, count);
    else this.#iterations.delete(iterations);
  }

  /** What most have. */
  get pretence(): Pretence {
    return this.#pretence;
  }
}
