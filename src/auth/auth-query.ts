// auth_query: users that the userlist does not know are asked for in PostgreSQL. Each login is judged by an answer to a question that
// was asked after it had come, so that a changed password works at once and a dropped role is out at once: logins of the same user
// share the question that is not asked yet, never the one that is under way. What was answered last is remembered, for the time
// when nobody can be asked, and, where query_age_max says so, in place of a question. Who is asked, and how, is the Asker's part.

import type { Clock } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import { AUTH_ANSWERS_MAX, AUTH_QUESTIONS_MAX } from "../core/limits.ts";
import type { Millis } from "../core/units.ts";
import type { LookupSink } from "./credentials.ts";
import type { Secret } from "./secret.ts";
import { SecretTally } from "./secret-tally.ts";

/** How a database's users are asked for. */
export interface AuthTerms {
  /** The role that asks, and what it logs in with. */
  readonly user: string;
  readonly secret: Secret | null;
  /** `$1` is the user's name; two columns are expected, name and secret. */
  readonly query: string;
  /** Where it is asked. */
  readonly dbname: string;
}

/** What comes of a question. */
export type AuthAnswer =
  /** Null: there is nobody of that name, or nobody with a password. */
  | { readonly kind: "answer"; readonly secret: Secret | null }
  /** Nobody could be asked, or answered as was expected. */
  | { readonly kind: "silence" };

export interface Asker {
  /** `done` is called once, later or at once. */
  ask(user: string, terms: AuthTerms, done: (answer: AuthAnswer) => void): void;
}

/** Times in ms. */
export interface AuthQueryOptions {
  /** An answer takes the place of a question for so long; 0: never. */
  readonly ageMaxMs: number;
  /** While nobody can be asked an answer counts for so long. */
  readonly staleMaxMs: number;
}

/** Since the start. */
export interface AuthQueryCounters {
  /** Questions by what came of them. */
  answered: number;
  nobody: number;
  silent: number;
  /** Logins that were judged by what was remembered: in place of a question, or because nobody could be asked. */
  recent: number;
  stale: number;
}

interface Question {
  readonly user: string;
  readonly terms: AuthTerms;
  readonly askedAt: Millis;
  readonly sinks: Set<LookupSink>;
}

interface Remembered {
  readonly secret: Secret;
  readonly askedAt: Millis;
  /** A login by it has failed: the next one asks. */
  doubtful: boolean;
}

export class AuthQuery {
  /** Of what is remembered, each user once: what most who are asked for have. */
  readonly tally = new SecretTally();
  readonly counters: AuthQueryCounters = { answered: 0, nobody: 0, silent: 0, recent: 0, stale: 0 };
  readonly #clock: Clock;
  readonly #asker: Asker;
  /** Least recently used first. Those who do not exist are not remembered: there is no end of them. */
  readonly #answers = new Map<string, Remembered>();
  readonly #asked = new Map<string, Question>();
  /** To be asked when the same one that is under way is answered. */
  readonly #next = new Map<string, Omit<Question, "askedAt">>();
  #options: AuthQueryOptions;

  constructor(clock: Clock, asker: Asker, options: AuthQueryOptions) {
    this.#clock = clock;
    this.#asker = asker;
    this.#options = options;
  }

  reconfigure(options: AuthQueryOptions): void {
    this.#options = options;
  }

  get size(): number {
    return this.#answers.size;
  }

  /** As Credentials.lookup. */
  lookup(user: string, terms: AuthTerms, sink: LookupSink): () => void {
    const key = keyOf(user, terms);
    const recent = this.#recall(key, this.#options.ageMaxMs);
    if (recent !== null && !recent.doubtful) {
      this.counters.recent += 1;
      sink.found(recent.secret, { kind: "recent" });
      return () => {};
    }
    const waiting = this.#next.get(key);
    if (waiting !== undefined) return join(waiting, sink);
    if (this.#asked.size + this.#next.size >= AUTH_QUESTIONS_MAX) {
      sink.unknown(nobodyToAsk());
      return () => {};
    }
    const question = { user, terms, sinks: new Set([sink]) };
    if (this.#asked.has(key)) this.#next.set(key, question);
    else this.#ask(key, question);
    return () => question.sinks.delete(sink);
  }

  /** What was last answered, however long ago. */
  remembered(user: string, terms: AuthTerms): Secret | null {
    return this.#answers.get(keyOf(user, terms))?.secret ?? null;
  }

  /** A login that was judged by what is remembered has failed: perhaps it is not true any more. */
  doubt(user: string, terms: AuthTerms): void {
    const known = this.#answers.get(keyOf(user, terms));
    if (known !== undefined) known.doubtful = true;
  }

  #recall(key: string, ageMaxMs: number): Remembered | null {
    const known = this.#answers.get(key);
    if (known === undefined || ageMaxMs === 0 || this.#clock.now() - known.askedAt > ageMaxMs) return null;
    this.#answers.delete(key);
    this.#answers.set(key, known);
    return known;
  }

  #ask(key: string, { user, terms, sinks }: Omit<Question, "askedAt">): void {
    const question = { user, terms, sinks, askedAt: this.#clock.now() };
    this.#asked.set(key, question);
    this.#asker.ask(user, terms, (answer) => this.#answered(key, question, answer));
  }

  #answered(key: string, question: Question, answer: AuthAnswer): void {
    this.#asked.delete(key);
    const next = this.#next.get(key);
    this.#next.delete(key);
    if (answer.kind === "answer") this.#tell(key, question, answer.secret);
    else this.#fallBack(key, question);
    // All of them may have left meanwhile.
    if (next !== undefined && next.sinks.size > 0) this.#ask(key, next);
  }

  #tell(key: string, { sinks, askedAt }: Question, secret: Secret | null): void {
    this.counters[secret === null ? "nobody" : "answered"] += 1;
    this.#drop(key);
    if (secret !== null) {
      this.tally.add(secret);
      this.#answers.set(key, { secret, askedAt, doubtful: false });
    }
    const [oldest] = this.#answers.keys();
    if (this.#answers.size > AUTH_ANSWERS_MAX && oldest !== undefined) this.#drop(oldest);
    for (const sink of sinks) sink.found(secret);
  }

  #drop(key: string): void {
    const known = this.#answers.get(key);
    if (known === undefined) return;
    this.tally.remove(known.secret);
    this.#answers.delete(key);
  }

  /** Those who are not remembered go through the same exchange as those who are, and hear the same where that fails. */
  #fallBack(key: string, { sinks }: Question): void {
    this.counters.silent += 1;
    const known = this.#recall(key, this.#options.staleMaxMs);
    if (known !== null) this.counters.stale += sinks.size;
    const error = known === null ? nobodyToAsk() : nobodyToAsk("password_unconfirmed");
    for (const sink of sinks) sink.found(known?.secret ?? null, { kind: "stale", error });
  }
}

const keyOf = (user: string, { user: asks, dbname, query }: AuthTerms): string =>
  JSON.stringify([user, asks, dbname, query]);

function join({ sinks }: Omit<Question, "askedAt">, sink: LookupSink): () => void {
  sinks.add(sink);
  return () => sinks.delete(sink);
}

/**
 * The same for everybody: whether somebody exists cannot be known, and is not told. `password_unconfirmed` differs for ourselves alone: a
 * guess that was wrong as far as we know counts as a failed login.
 */
function nobodyToAsk(code: "auth_unavailable" | "password_unconfirmed" = "auth_unavailable"): ProxyError {
  return new ProxyError(code, "users cannot be authenticated at this time", {
    hint: "No database server can be asked about them; try again later.",
  });
}
