// The reply ledger of one server connection: what it still owes for what was sent to it, in order. It knows when a connection is
// between requests, which replies belong to requests of our own, and what an error skips. Rules:
// https://www.postgresql.org/docs/current/protocol-flow.html (Extended Query, Pipelining, COPY Operations) and PostgreSQL's
// SocketBackend()/PostgresMain(). One byte an entry, nothing allocated per message.

import { assert } from "../core/assert.ts";
import { EXCHANGE_ENTRIES_MAX } from "../core/limits.ts";
import { Backend, Frontend } from "./constants.ts";
import { isReply } from "./reply-types.ts";

/** Marks an entry as ours: its replies are swallowed. */
const OWN = 0x80;
const TYPE = 0x7f;

/** Stands for a ParseComplete or CloseComplete that we give in the server's place, when its turn comes. */
export const FAKE_PARSE_COMPLETE = 1;
export const FAKE_CLOSE_COMPLETE = 2;
/** Stands for the whole answer to a simple query that deallocates, ReadyForQuery included. */
export const FAKE_DEALLOCATE = 3;
export type Fake = typeof FAKE_PARSE_COMPLETE | typeof FAKE_CLOSE_COMPLETE | typeof FAKE_DEALLOCATE;

/** A simple query whose outcome somebody wants to hear: it is skipped where an open batch has failed. */
export const WATCHED_QUERY = 4;
/** A Describe whose answer, or outcome, somebody wants to hear. */
export const WATCHED_DESCRIBE = 5;

/** What becomes of a Parse, Close or watched request, for whoever keeps account of statements. Exactly one of the calls is made. */
export interface Outcome {
  completed(): void;
  /** The server refused it. */
  failed(): void;
  /** It was never run: an earlier error skipped it, or the server is gone. */
  skipped(): void;
  /** What the client is told instead of the server's error; null for the server's own words. */
  readonly error: Buffer | null;
  /** Hears first what answers a watched Describe: each message's body, `buffer[start, end)`. Throws MalformedBody. */
  hear?(type: number, buffer: Buffer, start: number, end: number): void;
}

/** Forward the reply to the client. */
export const FORWARD = 0;
/** The reply belongs to a request of our own. */
export const SWALLOW = 1;
/** The server sent what it does not owe. */
export const UNEXPECTED = 2;
export type ReplyVerdict = typeof FORWARD | typeof SWALLOW | typeof UNEXPECTED;

const INITIAL_ENTRIES = 64;

export class Exchange {
  /** Ring of outstanding requests; its size is a power of two. */
  #ring = new Uint8Array(INITIAL_ENTRIES);
  #head = 0;
  #count = 0;
  /** Who hears what becomes of an entry, at its place in the ring; null for nobody. */
  #outcomes: (Outcome | null)[] = new Array<Outcome | null>(INITIAL_ENTRIES).fill(null);
  /** The server reported an error in the extended protocol and no Sync that ends the skipping has been sent. */
  #skipping = false;
  /** The server is in COPY IN and has not been told of its end. */
  #copyIn = false;
  /** Extended requests were sent and no Sync behind them: what they began is open, even when all of them are answered. */
  #unsynced = false;
  /** Syncs that the copying server was taken to have read and ignored. */
  #ignoredSyncs = 0;
  /** Of a copy that failed: how many of those the server may have read afterwards, and may answer yet. */
  #lateSyncs = 0;
  /** The same of a simple COPY: its own ReadyForQuery comes first. */
  #lateAfterReady = 0;

  /** Nothing owed, nothing half done: the connection is as its last ReadyForQuery said. */
  get empty(): boolean {
    return this.#count === 0 && !this.#skipping && !this.#copyIn && !this.#unsynced && !this.uncertain;
  }

  /** Nobody can tell which Sync the next ReadyForQuery answers, until something else is answered. */
  get uncertain(): boolean {
    return this.#lateSyncs > 0;
  }

  /** An extended batch, or a copy, is open at the sending end. */
  get openBatch(): boolean {
    return this.#unsynced || this.#skipping || this.#copyIn;
  }

  /** What is sent now, up to the next Sync, will be skipped. */
  get skipping(): boolean {
    return this.#skipping;
  }

  /** Nothing will come unless more is sent. */
  get stalled(): boolean {
    if (this.#copyIn) return true;
    for (let index = 0; index < this.#count; index++) if (endsBatch(this.#at(index) & TYPE)) return false;
    return true;
  }

  /** No more requests until some are answered. */
  get full(): boolean {
    return this.#count >= EXCHANGE_ENTRIES_MAX;
  }

  get copyIn(): boolean {
    return this.#copyIn;
  }

  /** Whether the next replies belong to a request of our own. */
  get own(): boolean {
    return this.#count > 0 && (this.#at(0) & OWN) !== 0;
  }

  /** Whether the server is at a simple query of our own, and at nothing of its client's. */
  get atOwnQuery(): boolean {
    return this.#count > 0 && this.#at(0) === (Frontend.Query | OWN);
  }

  /** Notes a frontend message of `type` that was, or is being, sent. */
  request(type: number): void {
    switch (type) {
      case Frontend.Parse:
      case Frontend.Close:
        return this.account(type, null);
      case Frontend.Bind:
      case Frontend.Describe:
      case Frontend.Execute:
        this.#unsynced = true;
        if (!this.#skips()) this.#append(type);
        return;
      case Frontend.Query:
      case Frontend.FunctionCall:
        if (this.#skips()) return;
        // Ends what an extended batch began, as a Sync does.
        this.#unsynced = false;
        this.#append(type);
        return;
      case Frontend.Sync:
        // The server ignores a Sync while it copies in.
        if (this.#copyIn) {
          this.#ignoredSyncs += 1;
          return;
        }
        this.#skipping = false;
        this.#unsynced = false;
        this.#append(type);
        return;
      case Frontend.CopyDone:
      case Frontend.CopyFail:
        // Ends the copy, or, sent ahead of CopyInResponse, will: then its place in the order matters.
        if (this.#copyIn) this.#copyIn = false;
        else if (this.#count > 0 && !this.#skipping) this.#append(type);
        return;
    }
  }

  /** Notes a request that is being sent, or a fake that stands in its place; `outcome` hears what becomes of it. */
  account(type: number, outcome: Outcome | null, own = false): void {
    const ending = endsBatch(type);
    if (this.#skips()) {
      this.#unsynced ||= !ending;
      outcome?.skipped();
      return;
    }
    this.#unsynced = !ending;
    this.#append(own ? type | OWN : type, outcome);
  }

  /** The fake whose turn it is, which is then done with; null when it is the server's turn. */
  takeFake(): Fake | null {
    if (this.#count === 0) return null;
    const type = this.#at(0);
    if (type !== FAKE_PARSE_COMPLETE && type !== FAKE_CLOSE_COMPLETE && type !== FAKE_DEALLOCATE) return null;
    this.#pop()?.completed();
    return type;
  }

  /** What the client is told instead of the error that the server gives to the next request; null for the server's own words. */
  get replacement(): Buffer | null {
    return this.#count > 0 ? (this.#outcomes[this.#head]?.error ?? null) : null;
  }

  /** Who hears the answer to the next request; null for nobody. */
  get hearer(): Outcome | null {
    const watched = this.#count > 0 && (this.#at(0) & TYPE) === WATCHED_DESCRIBE;
    return watched ? (this.#outcomes[this.#head] ?? null) : null;
  }

  /** Notes a simple query of our own; its replies are swallowed. */
  ownQuery(): void {
    this.#append(Frontend.Query | OWN);
  }

  /** Notes a reply of `type` and says where it goes. */
  reply(type: number): ReplyVerdict {
    // Of these there may be millions to one request; where nothing is in doubt they change nothing.
    if (type === Backend.DataRow && this.#count > 0 && this.#lateSyncs === 0) {
      const entry = this.#at(0);
      if (!isCopyEnd(entry)) return (entry & OWN) === 0 ? FORWARD : SWALLOW;
    }
    if (type === Backend.NoticeResponse || type === Backend.NotificationResponse || type === Backend.ParameterStatus) {
      return type !== Backend.NotificationResponse && this.own ? SWALLOW : FORWARD;
    }
    this.#dropStrayCopyEnds();
    if (type !== Backend.ReadyForQuery) this.#lateSyncs = 0;
    else if (this.uncertain && !this.#syncIsNext()) return this.#lateAnswer();
    if (this.#count === 0 || !isReply(type)) return UNEXPECTED;
    const entry = this.#at(0);
    // The error of a Parse that we put in front of a client's message is that message's error.
    const told = (entry & OWN) === 0 || (type === Backend.ErrorResponse && (entry & TYPE) !== Frontend.Query);
    const verdict = told ? FORWARD : SWALLOW;
    if (type === Backend.ErrorResponse) this.#error(entry & TYPE);
    else if (type === Backend.CopyInResponse || type === Backend.CopyBothResponse) this.#beginCopyIn();
    else if (ends(entry & TYPE, type)) {
      this.#pop()?.completed();
      this.#ignoredSyncs = 0;
      if (type === Backend.ReadyForQuery) {
        this.#lateSyncs += this.#lateAfterReady;
        this.#lateAfterReady = 0;
      }
    } else if (type === Backend.ReadyForQuery) return UNEXPECTED;
    this.#dropStrayCopyEnds();
    return verdict;
  }

  /**
   * What remains to be answered when the server is gone, from the oldest request on: calls `each` once per ReadyForQuery owed,
   * saying whether a request besides a bare Sync waits for it; afterwards says whether requests follow the last of them, whose
   * Sync is still to come from the client. Nothing is owed any more.
   */
  abandon(each: (hasWork: boolean) => void): { readonly openBatch: boolean } {
    let work = this.#skipping || this.#copyIn;
    for (let index = 0; index < this.#count; index++) {
      const type = this.#at(index) & TYPE;
      if (isCopyEnd(type)) continue;
      if (endsBatch(type)) {
        each(work || type !== Frontend.Sync);
        work = false;
      } else {
        work = true;
      }
    }
    const openBatch = work || this.#unsynced;
    while (this.#count > 0) this.#pop()?.skipped();
    this.#skipping = false;
    this.#copyIn = false;
    this.#unsynced = false;
    this.#ignoredSyncs = 0;
    this.#lateSyncs = 0;
    this.#lateAfterReady = 0;
    return { openBatch };
  }

  /** A Sync that was sent before the copy failed is answered after all. */
  #lateAnswer(): ReplyVerdict {
    this.#lateSyncs -= 1;
    if (this.#count === 0) {
      this.#skipping = false;
      this.#unsynced = false;
    }
    return this.own ? SWALLOW : FORWARD;
  }

  /** Whether what is sent now will not be run. In doubt it will: a ledger that waits for too much is safe. */
  #skips(): boolean {
    return this.#skipping && !this.uncertain;
  }

  #syncIsNext(): boolean {
    return this.#count > 0 && (this.#at(0) & TYPE) === Frontend.Sync;
  }

  /** An error skips the rest of an extended batch, up to the Sync that ends it. */
  #error(type: number): void {
    this.#copyIn = false;
    if (endsBatch(type)) {
      this.#lateAfterReady = this.#ignoredSyncs;
      this.#ignoredSyncs = 0;
      return;
    }
    this.#pop()?.failed();
    while (this.#count > 0 && !this.#syncIsNext()) this.#pop()?.skipped();
    this.#skipping = this.#count === 0;
    this.#lateSyncs = this.#ignoredSyncs;
    this.#ignoredSyncs = 0;
  }

  /**
   * CopyInResponse: every Sync sent between the request and its CopyDone or CopyFail is read, and ignored, by the copying
   * server. What follows the end of the copy stays owed.
   */
  #beginCopyIn(): void {
    let kept = 1;
    let copying = true;
    for (let index = 1; index < this.#count; index++) {
      const type = this.#at(index) & TYPE;
      if (copying && type === Frontend.Sync) this.#ignoredSyncs += 1;
      else if (copying && isCopyEnd(type)) copying = false;
      else this.#move(index, kept++);
    }
    this.#count = kept;
    this.#copyIn = copying;
    // A batch may have lost its end, unless another one follows the copy.
    this.#unsynced = !endsBatch(this.#at(kept - 1) & TYPE);
  }

  /** CopyDone and CopyFail outside a copy are read and ignored by the server: they are owed nothing. */
  #dropStrayCopyEnds(): void {
    while (this.#count > 0 && isCopyEnd(this.#at(0) & TYPE)) this.#pop();
  }

  #at(index: number): number {
    return this.#ring[(this.#head + index) & (this.#ring.length - 1)] as number;
  }

  /** Takes the oldest entry out. Returns who hears what becomes of it. */
  #pop(): Outcome | null {
    assert(this.#count > 0, "a reply without a request");
    const outcome = this.#outcomes[this.#head] ?? null;
    this.#outcomes[this.#head] = null;
    this.#head = (this.#head + 1) & (this.#ring.length - 1);
    this.#count -= 1;
    return outcome;
  }

  #append(entry: number, outcome: Outcome | null = null): void {
    if (this.#count === this.#ring.length) this.#grow();
    const place = (this.#head + this.#count) & (this.#ring.length - 1);
    this.#ring[place] = entry;
    this.#outcomes[place] = outcome;
    this.#count += 1;
  }

  #grow(): void {
    const size = this.#ring.length;
    const ring = new Uint8Array(size * 2);
    const outcomes = new Array<Outcome | null>(size * 2).fill(null);
    for (let index = 0; index < size; index++) {
      const place = (this.#head + index) & (size - 1);
      ring[index] = this.#ring[place] as number;
      outcomes[index] = this.#outcomes[place] ?? null;
    }
    this.#ring = ring;
    this.#outcomes = outcomes;
    this.#head = 0;
  }

  /** Puts an entry into an earlier place, whose own is forgotten. */
  #move(from: number, to: number): void {
    if (from === to) return;
    const last = this.#ring.length - 1;
    const source = (this.#head + from) & last;
    const target = (this.#head + to) & last;
    this.#ring[target] = this.#ring[source] as number;
    this.#outcomes[target] = this.#outcomes[source] ?? null;
    this.#outcomes[source] = null;
  }
}

const endsBatch = (type: number): boolean =>
  type === Frontend.Sync ||
  type === Frontend.Query ||
  type === Frontend.FunctionCall ||
  type === FAKE_DEALLOCATE ||
  type === WATCHED_QUERY;

const isCopyEnd = (type: number): boolean => type === Frontend.CopyDone || type === Frontend.CopyFail;

/** Whether a reply of type `reply` is the last one to a request of type `request`. */
function ends(request: number, reply: number): boolean {
  switch (request) {
    case Frontend.Query:
    case WATCHED_QUERY:
    case Frontend.FunctionCall:
    case Frontend.Sync:
      return reply === Backend.ReadyForQuery;
    case Frontend.Parse:
      return reply === Backend.ParseComplete;
    case Frontend.Bind:
      return reply === Backend.BindComplete;
    case Frontend.Close:
      return reply === Backend.CloseComplete;
    case Frontend.Describe:
    case WATCHED_DESCRIBE:
      return reply === Backend.RowDescription || reply === Backend.NoData;
    case Frontend.Execute:
      return (
        reply === Backend.CommandComplete || reply === Backend.EmptyQueryResponse || reply === Backend.PortalSuspended
      );
    default:
      return false;
  }
}
