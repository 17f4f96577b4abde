// Brings one client's statements onto the server that it was lent: prepares what is not there, makes room, and sees to it that the
// client never gets rows of another shape than it was told. Where a statement has to be prepared anew for a client that knows its
// shape, the server is asked for the shape first, and the client's message waits for the answer: PostgreSQL refuses a plan whose
// result has changed (RevalidateCachedQuery() in its plancache.c), and so do we.

import type { Server } from "../pool/server.ts";
import { Description } from "../pool/shape.ts";
import { Preparation, type Statement, type StatementRegistry } from "../pool/statements.ts";
import { Frontend } from "../protocol/constants.ts";
import { WATCHED_DESCRIBE } from "../protocol/exchange.ts";
import { type Batches, type Ending, Told } from "./pending.ts";
import { changedShape, closeMessage, describeMessage, flushMessage, NOBODY } from "./statement-messages.ts";
import type { Named } from "./statement-names.ts";

/** Stands for the definition of an unnamed statement that is too long to keep: it is good on its own server only. */
export const TOO_LONG = Buffer.from("\0\0\0", "latin1");

/** The client's message can be sent. */
export const GO = 0;
/** It has to wait until the server has answered. */
export const WAIT = 1;
/** It has to be refused: what its statement means now is not what the client was told. */
export const REFUSE = 2;
export type Standing = typeof GO | typeof WAIT | typeof REFUSE;

/** What a message waits for. */
interface Trial {
  readonly preparation: Preparation;
  /** It was made for this message, as the client's own server would do it. */
  readonly made: boolean;
}

export class Preparer {
  readonly #registry: StatementRegistry;
  readonly #serverMax: number;
  readonly #batches: Batches;
  readonly #place: () => string | null;
  #trial: Trial | null = null;

  /** `serverMax`: statements that a server keeps. `place` tells what decides, besides its text, what a statement means now; null where that cannot be told. */
  constructor(registry: StatementRegistry, serverMax: number, batches: Batches, place: () => string | null) {
    this.#registry = registry;
    this.#serverMax = serverMax;
    this.#batches = batches;
    this.#place = place;
  }

  /** Whether the answer is on its way for which a message waits. */
  get waiting(): boolean {
    return this.#trial?.preparation.asked === true;
  }

  /** Notes that a message that is sent now needs this statement on the server, and sends in front of it what that takes. */
  stand(server: Server, named: Named): Standing {
    const there = present(server, named.statement);
    if (there !== null && (there === named.fits || this.#suits(named, there))) return GO;
    return this.#bring(server, named, there);
  }

  /** Whether a preparation, which is another than the last, is what the client means. */
  #suits(named: Named, there: Preparation): boolean {
    const { known } = named;
    const alike = there.shape !== null && known?.shape?.equals(there.shape) === true;
    if (known === null ? !there.plain : !alike && known !== there) return false;
    named.fits = there;
    this.#trial = null;
    return true;
  }

  #bring(server: Server, named: Named, there: Preparation | null): Standing {
    const trial = this.#trial;
    this.#trial = null;
    if (named.statement.definition === TOO_LONG) {
      // This is another server.
      this.closeUnnamed(server);
      return GO;
    }
    const { known } = named;
    if (known === null || server.exchange.skipping) {
      this.prepare(server, named, null);
      return GO;
    }
    if (trial?.made === true && trial.preparation === there) return REFUSE;
    // Told by an answer that is still on its way from this server.
    if (known.asked) return this.#wait(server, { preparation: known, made: false });
    if (there !== null && there.shape === null && !there.asked) {
      this.#ask(server, there);
      return this.#wait(server, { preparation: there, made: false });
    }
    const made = this.prepare(server, named, null, known.shape?.parameters ?? null);
    this.#ask(server, made);
    return this.#wait(server, { preparation: made, made: true });
  }

  #wait(server: Server, trial: Trial): Standing {
    this.#trial = trial;
    server.send(flushMessage());
    return WAIT;
  }

  #ask(server: Server, preparation: Preparation): void {
    server.exchange.account(WATCHED_DESCRIBE, new Description(preparation, () => {}), true);
    server.send(describeMessage(preparation.statement.serverName));
  }

  /** Notes the client's own Describe, which is being sent: from then on it knows the statement's shape. */
  describing(server: Server, named: Named): void {
    const there = present(server, named.statement);
    if (there === null) return server.exchange.request(Frontend.Describe);
    if (named.known === null) named.described = there;
    if (there.shape !== null || there.asked) return server.exchange.request(Frontend.Describe);
    const untold = (): void => {
      if (named.described === there) named.described = null;
    };
    server.exchange.account(WATCHED_DESCRIBE, new Description(there, untold));
  }

  /**
   * Notes the client's own Describe of a portal of this statement, which is sent next: what it is told of the rows is the statement's
   * too, and some drivers ask for nothing else. The server is asked for the whole shape where nobody has done so.
   */
  describingPortal(server: Server, named: Named): void {
    const there = present(server, named.statement);
    if (there === null) return;
    named.described = there;
    if (there.shape === null && !there.asked) this.#ask(server, there);
  }

  /**
   * Sends in a message's place what the server refuses, whose transaction fails as by PostgreSQL's own refusal. The client is told
   * that; when it prepares the text again it gets a new statement.
   */
  refuse(server: Server, named: Named, describes: boolean): void {
    this.#registry.retire(named.statement);
    const error = changedShape(describes ? (named.known?.shape?.parameters ?? null) : null);
    server.exchange.account(WATCHED_DESCRIBE, new Told(null, error));
    server.send(describeMessage(NOBODY));
  }

  /**
   * Sends a Parse. `ended`: it is the client's own, and its answer the client's. `types`: of its parameters, where they are known: a
   * plan is made again with the types that it had.
   */
  prepare(
    server: Server,
    named: Named,
    ended: ((ending: Ending) => void) | null,
    types: Buffer | null = null,
  ): Preparation {
    const made = this.#preparation(named, types);
    const { statement } = named;
    if (statement.serverName === "") this.becomesUnnamed(server, made, ended);
    else {
      if (server.statements.get(statement) === null) this.#makeRoom(server);
      else this.#closeNamed(server, statement);
      const change = server.statements.preparing(made);
      const outcome = new Told((ending) => {
        ended?.(ending);
        server.statements.end(change, ending === "completed");
      });
      server.exchange.account(Frontend.Parse, this.#batches.named(outcome), ended === null);
    }
    server.send(statement.parseMessage(types));
    return made;
  }

  #preparation(named: Named, types: Buffer | null): Preparation {
    const { statement } = named;
    const { place } = statement;
    const plain = place === null || ((types === null || statement.declares(types)) && this.#place() === place);
    const made = new Preparation(statement, plain);
    if (named.known === null) named.fits = made;
    return made;
  }

  /** Notes a Parse of the unnamed statement, which the caller sends. */
  parsingUnnamed(server: Server, named: Named, ended: (ending: Ending) => void): void {
    this.becomesUnnamed(server, this.#preparation(named, null), ended);
  }

  becomesUnnamed(server: Server, made: Preparation, ended: ((ending: Ending) => void) | null): void {
    const { statements, exchange } = server;
    statements.unnamed = made;
    const outcome = new Told((ending) => {
      ended?.(ending);
      if (ending !== "completed" && statements.unnamed === made) statements.unnamed = null;
    });
    exchange.account(Frontend.Parse, this.#batches.unnamed(outcome), ended === null);
  }

  /** The server's unnamed statement, if it has one, is another client's. */
  closeUnnamed(server: Server): void {
    server.statements.unnamed = null;
    server.exchange.account(Frontend.Close, null, true);
    server.send(closeMessage(""));
  }

  /** Closes the statement that was not used for longest, where the server has as many as it may. */
  #makeRoom(server: Server): void {
    const oldest = server.statements.surplus(this.#serverMax - 1);
    if (oldest !== null) this.#closeNamed(server, oldest);
  }

  #closeNamed(server: Server, statement: Statement): void {
    const change = server.statements.closing(statement);
    const outcome = new Told((ending) => server.statements.end(change, ending === "completed"));
    server.exchange.account(Frontend.Close, outcome, true);
    server.send(closeMessage(statement.serverName));
  }
}

/** What the server has, or will have, of a statement. */
function present({ statements }: Server, statement: Statement): Preparation | null {
  if (statement.serverName !== "") return statements.get(statement);
  return statements.unnamed?.statement === statement ? statements.unnamed : null;
}
