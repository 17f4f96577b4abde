// Whether a member still takes connections, found out by opening one. Asked when a server was told to end (57P01): an
// administrator who ends one session leaves the member as it is, while one that shuts down refuses from then on, because the
// postmaster stops taking connections before it ends the sessions that there are. So an answer counts only for what was lost
// before the question: all who ask of one member share a question, and those who come while it is under way share the next.

import type { Clock } from "../core/clock.ts";
import { LIFE_SIGN_TIMEOUT_MS } from "../core/limits.ts";
import { isShutdown } from "../pool/loss.ts";
import { type LoginFailure, type LoginOptions, ServerLogin } from "../pool/server-login.ts";
import { terminate } from "../protocol/messages.ts";

type Answer = (alive: boolean) => void;

/** Who is to log in where. */
export type LifeSignLogin = Omit<LoginOptions, "timeoutMs">;

export class LifeSigns {
  readonly #clock: Clock;
  /** By address: who comes while a question is under way. */
  readonly #later = new Map<string, Answer[]>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `answer` once, later. */
  ask(login: LifeSignLogin, answer: Answer): void {
    const { host, port } = login.endpoint;
    const address = `${host} ${port}`;
    const later = this.#later.get(address);
    if (later !== undefined) later.push(answer);
    else this.#question(address, login, [answer]);
  }

  #question(address: string, login: LifeSignLogin, answers: readonly Answer[]): void {
    this.#later.set(address, []);
    const answered = (alive: boolean): void => {
      const later = this.#later.get(address) ?? [];
      this.#later.delete(address);
      if (later.length > 0) this.#question(address, login, later);
      for (const answer of answers) answer(alive);
    };
    new ServerLogin(
      this.#clock,
      { ...login, timeoutMs: LIFE_SIGN_TIMEOUT_MS },
      {
        loggedIn: (transport) => {
          transport.write(terminate());
          transport.hangUp(this.#clock);
          answered(true);
        },
        failed: (failure) => answered(refusesOne(failure)),
      },
    );
  }
}

/** A member that refuses this login alone (too many connections, a password) is alive. */
const refusesOne = (failure: LoginFailure): boolean =>
  failure.kind === "ours" || (failure.kind === "refused" && !isShutdown(failure.fields));
