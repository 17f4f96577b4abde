// Whom auth_query is put to: the leader; without one that answers, a replica. One connection for each database in which is asked, away
// from all pools; what cannot be asked there at once waits for its turn. Says in the log why nobody answers, never to clients.

import { isDeepStrictEqual } from "node:util";
import type { Asker, AuthAnswer, AuthTerms } from "../auth/auth-query.ts";
import type { ScramDerivations } from "../auth/scram.ts";
import { parseSecret } from "../auth/secret.ts";
import type { ServerTls } from "../auth/tls-options.ts";
import type { Clock, Timer } from "../core/clock.ts";
import { AUTH_CONNECTIONS_MAX, AUTH_QUESTION_MS, AUTH_RETRY_MS } from "../core/limits.ts";
import type { Logger } from "../core/logger.ts";
import { Seldom } from "../core/seldom.ts";
import { type Millis, millis } from "../core/units.ts";
import type { TopologyFeed } from "../discovery/feed.ts";
import { leaderMember, type Member, type Topology } from "../discovery/topology.ts";
import { AuthConnection, type AuthReply, type AuthRow } from "../pool/auth-connection.ts";

/** How it logs in to members. */
export interface AskerOptions {
  readonly tls: ServerTls;
  readonly random: (bytes: number) => Buffer;
  readonly derivations: ScramDerivations;
}

interface Question {
  readonly user: string;
  readonly done: (answer: AuthAnswer) => void;
  /** Members that did not answer it. */
  readonly tried: Set<string>;
}

/** Where a role asks in a database, over one connection. */
interface Lane {
  readonly terms: AuthTerms;
  readonly questions: Question[];
  /** Where `connection` leads; the first question makes it. */
  member: Member | null;
  connection: AuthConnection | null;
  asking: boolean;
  usedAt: Millis;
}

const LOGGED_EVERY_MS = 10_000;
/** A lane that is unused for so long closes its connection. */
const IDLE_MS = 60_000;
const UNKNOWN_DATABASE = "3D000";
/** Every PostgreSQL server has it, if nobody has dropped it. */
const MAINTENANCE_DATABASE = "postgres";
/** Classes of refusals that are about auth_user itself. */
const REFUSED_LOGIN = /^28/;

export class AuthAsker implements Asker {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #feed: TopologyFeed;
  readonly #lanes = new Map<string, Lane>();
  readonly #failures: Seldom;
  readonly #unsubscribe: () => void;
  readonly #sweeper: Timer;
  /** Questions from before any member was known. */
  readonly #early = new Set<() => void>();
  /** Questions that came while all lanes were asking others. */
  readonly #waiting = new Set<() => void>();
  #calling = false;
  #options: AskerOptions;
  #pausedUntil = 0;
  #closed = false;

  constructor(clock: Clock, logger: Logger, feed: TopologyFeed, options: AskerOptions) {
    this.#clock = clock;
    this.#logger = logger;
    this.#feed = feed;
    this.#options = options;
    this.#failures = new Seldom(clock, millis(LOGGED_EVERY_MS));
    this.#unsubscribe = feed.subscribe((now) => this.#follow(now));
    this.#sweeper = clock.every(millis(IDLE_MS), () => this.#sweep());
  }

  /** New connections follow the new settings; one that works stays. */
  reconfigure(options: AskerOptions): void {
    this.#options = options;
    this.#pausedUntil = 0;
  }

  close(): void {
    this.#closed = true;
    this.#unsubscribe();
    this.#sweeper.cancel();
    for (const lane of this.#lanes.values()) this.#hangUp(lane, "shutting down");
    for (const go of [...this.#early, ...this.#waiting]) go();
  }

  ask(user: string, terms: AuthTerms, done: (answer: AuthAnswer) => void): void {
    if (this.#closed || this.#clock.now() < this.#pausedUntil) return done({ kind: "silence" });
    // A pgsteer that has just begun does not know its members yet.
    if (this.#feed.current().members.size === 0) return this.#later(this.#early, user, terms, done);
    const lane = this.#laneOf(terms);
    if (lane === null) return this.#later(this.#waiting, user, terms, done);
    lane.questions.push({ user, done, tried: new Set() });
    this.#serve(lane);
  }

  /** Asks when it is called from the queue, where it stays for so long at most as a question may take. */
  #later(queue: Set<() => void>, user: string, terms: AuthTerms, done: (answer: AuthAnswer) => void): void {
    const go = (): void => {
      timer.cancel();
      queue.delete(go);
      this.ask(user, terms, done);
    };
    const timer = this.#clock.after(millis(AUTH_QUESTION_MS), () => {
      queue.delete(go);
      done({ kind: "silence" });
    });
    queue.add(go);
  }

  /** Calls those that wait, as long as a lane is free. */
  #callNext(): void {
    if (this.#calling) return;
    this.#calling = true;
    for (const go of this.#waiting) {
      if (this.#lanes.size >= AUTH_CONNECTIONS_MAX && [...this.#lanes.values()].every(({ asking }) => asking)) break;
      go();
    }
    this.#calling = false;
  }

  #laneOf(terms: AuthTerms): Lane | null {
    const key = JSON.stringify([terms.user, terms.dbname]);
    const known = this.#lanes.get(key);
    if (known !== undefined && isDeepStrictEqual(known.terms, terms)) return known;
    // One that asks under former terms goes on until its questions are answered.
    this.#lanes.delete(key);
    if (known !== undefined && !known.asking) this.#hangUp(known, "settings have changed");
    if (this.#lanes.size >= AUTH_CONNECTIONS_MAX && !this.#closeOldest()) return null;
    const lane = { terms, questions: [], member: null, connection: null, asking: false };
    const made: Lane = { ...lane, usedAt: this.#clock.now() };
    this.#lanes.set(key, made);
    return made;
  }

  #closeOldest(): boolean {
    let oldest: [string, Lane] | null = null;
    for (const entry of this.#lanes) {
      if (!entry[1].asking && (oldest === null || entry[1].usedAt < oldest[1].usedAt)) oldest = entry;
    }
    if (oldest === null) return false;
    this.#hangUp(oldest[1], "another database is asked");
    return this.#lanes.delete(oldest[0]);
  }

  #hangUp(lane: Lane, reason: string): void {
    const { connection } = lane;
    lane.connection = null;
    lane.member = null;
    connection?.close(reason);
  }

  /** Puts the lane's oldest question, unless one is under way. */
  #serve(lane: Lane): void {
    for (let question = lane.questions[0]; question !== undefined && !lane.asking; question = lane.questions[0]) {
      const { user, tried } = question;
      const asked = question;
      const known = this.#closed ? [] : candidates(this.#feed.current());
      const member = known.find(({ name }) => !tried.has(name));
      lane.usedAt = this.#clock.now();
      if (member === undefined) this.#finish(lane, question, { kind: "silence" });
      else {
        lane.asking = true;
        this.#connectionTo(lane, member).ask(lane.terms.query, user, AUTH_QUESTION_MS, (reply) => {
          lane.asking = false;
          this.#replied(lane, asked, member, reply);
          this.#serve(lane);
        });
      }
    }
    const left = !lane.asking && ![...this.#lanes.values()].includes(lane);
    if (left) this.#hangUp(lane, "it is not needed any more");
    if (!lane.asking) this.#callNext();
  }

  #connectionTo(lane: Lane, member: Member): AuthConnection {
    const { name, host, port } = member;
    const same = lane.member?.name === name && lane.member.host === host && lane.member.port === port;
    if (same && lane.connection !== null) return lane.connection;
    this.#hangUp(lane, "another member is asked");
    const { user, secret, dbname: database } = lane.terms;
    const endpoint = { member: name, host, port };
    lane.member = member;
    lane.connection = new AuthConnection(this.#clock, { ...this.#options, endpoint, user, secret, database });
    return lane.connection;
  }

  #replied(lane: Lane, question: Question, member: Member, reply: AuthReply): void {
    if (reply.ok) return this.#finish(lane, question, this.#read(lane, question, member, reply.row));
    if (reply.sqlstate === UNKNOWN_DATABASE) return this.#askElsewhere(lane, question);
    // We have hung up ourselves: the question goes to whom it is for now.
    if (lane.member !== member) return;
    this.#complain(lane.terms, member, reply.reason);
    question.tried.add(member.name);
    const isRefused = reply.sqlstate !== null && REFUSED_LOGIN.test(reply.sqlstate);
    const others = candidates(this.#feed.current()).some(({ name }) => !question.tried.has(name));
    if (isRefused && !others) this.#pausedUntil = this.#clock.now() + AUTH_RETRY_MS;
  }

  /** A row about somebody else (a name cut to PostgreSQL's length, say) says nothing about this user. */
  #read({ terms }: Lane, { user }: Question, member: Member, row: AuthRow | null): AuthAnswer {
    if (row === null || row.name === null) return { kind: "answer", secret: null };
    if (row.name !== user) this.#complain(terms, member, "it answered about another user than was asked for");
    if (row.name !== user || row.secret === null) return { kind: "answer", secret: null };
    return { kind: "answer", secret: parseSecret(row.secret) };
  }

  /** Whether a database exists is told to those alone who have logged in: where it does not, another one is asked who they are. */
  #askElsewhere(lane: Lane, question: Question): void {
    for (const [key, each] of this.#lanes) if (each === lane) this.#lanes.delete(key);
    const { user } = question;
    if (lane.terms.dbname === MAINTENANCE_DATABASE)
      return this.#finish(lane, question, { kind: "answer", secret: null });
    lane.questions.shift();
    this.ask(user, { ...lane.terms, dbname: MAINTENANCE_DATABASE }, (answer) =>
      question.done(answer.kind === "answer" ? answer : { kind: "answer", secret: null }),
    );
  }

  #finish(lane: Lane, question: Question, answer: AuthAnswer): void {
    lane.questions.shift();
    question.done(answer);
  }

  #complain({ user, dbname }: AuthTerms, { name }: Member, reason: string): void {
    const count = this.#failures.due();
    if (count === null) return;
    this.#logger.error(
      { member: name, auth_user: user, database: dbname, reason, count },
      "auth_query was not answered",
    );
  }

  /** Who is not to be asked any more is left at once: a question that is under way goes to the next. */
  #follow(topology: Topology): void {
    if (topology.members.size > 0) for (const go of [...this.#early]) go();
    const [best, ...others] = candidates(topology);
    for (const lane of this.#lanes.values()) {
      const { member, asking } = lane;
      if (member === null || (best !== undefined && leadsTo(member, best))) continue;
      const stays = asking && others.some((other) => leadsTo(member, other));
      if (!stays) this.#hangUp(lane, "the member is not the one to ask any more");
    }
  }

  #sweep(): void {
    for (const [key, lane] of this.#lanes) {
      if (lane.asking || this.#clock.now() - lane.usedAt < IDLE_MS) continue;
      this.#hangUp(lane, "unused");
      this.#lanes.delete(key);
    }
  }
}

const leadsTo = (one: Member, other: Member): boolean =>
  one.name === other.name && one.host === other.host && one.port === other.port;

/** Members that may be asked, the best one first: the leader, then those that serve reads, by how far they are behind. */
function candidates(topology: Topology): readonly Member[] {
  const leader = leaderMember(topology);
  const rank = (member: Member): number => (member.name === leader?.name ? 0 : member.readable ? 1 : 2);
  const lag = ({ lagBytes }: Member): number => lagBytes ?? Number.MAX_SAFE_INTEGER;
  return [...topology.members.values()]
    .filter(({ state }) => state !== "unreachable")
    .toSorted((a, b) => rank(a) - rank(b) || lag(a) - lag(b));
}
