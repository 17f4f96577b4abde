// What one client says, as long as it says it right: turns of the simple and the extended protocol, pipelines, portals, COPY both
// ways, function calls, transactions, and what binds a client to its server. Each statement carries a mark of its own. What is
// said depends on the random choices alone, never on answers, so that it can be said again.

import { frontend } from "../support/raw-client.ts";
import { mark } from "./marker.ts";
import type { Random } from "./random.ts";
import { bind, close, copyFail, functionCall } from "./requests.ts";

/** What is sent in one go, and what answers it. */
export interface Turn {
  readonly messages: readonly Buffer[];
  /** ReadyForQuery messages. */
  readonly ready: number;
  /** Whether errors belong to it. */
  readonly fails: boolean;
}

/** Tables that the turns need. */
export const fuzzTables = "CREATE UNLOGGED TABLE fuzz_lines (line text)";

/** Texts that many clients prepare, so that a router shares them. */
const sharedTexts = [1, 2, 3, 4, 5].map((number) => `SELECT $1::text AS shared_${number}`);

const { query, parse, describe, execute, sync, flush, copyData, copyDone } = frontend;

export class Talker {
  readonly #random: Random;
  readonly #client: number;
  readonly #named = new Map<string, boolean>();
  #sequence = 0;
  #open = false;
  /** Whether it has asked for notifications; from then on they are no surprise. */
  listens = false;
  readonly #binds: boolean;

  /** `binds`: whether it may leave in its session what cannot follow it. */
  constructor(random: Random, client: number, binds: boolean) {
    this.#random = random;
    this.#client = client;
    this.#binds = binds;
  }

  /** Sequence of the last mark. */
  get sequence(): number {
    return this.#sequence;
  }

  turn(): Turn {
    const random = this.#random;
    const say = random.pick(
      this.#open ? this.#inside : this.#binds && random.chance(0.2) ? this.#binding : this.#outside,
    );
    return say();
  }

  #mark(): string {
    this.#sequence += 1;
    return mark(this.#client, this.#sequence);
  }

  /** A literal that holds a mark. */
  #literal(): string {
    return `'${this.#mark()}'`;
  }

  #simple(sql: string, fails = false): Turn {
    return { messages: [query(sql)], ready: 1, fails };
  }

  readonly #select = (): Turn => this.#simple(`SELECT ${this.#literal()}`);

  readonly #rows = (): Turn =>
    this.#simple(`SELECT ${this.#literal()} || g FROM generate_series(1, ${this.#random.between(1, 40)}) g`);

  readonly #several = (): Turn => this.#simple(`SELECT ${this.#literal()}; ; SELECT ${this.#literal()}`);

  readonly #empty = (): Turn => this.#simple(this.#random.pick(["", ";", " -- nothing"]));

  readonly #wide = (): Turn => this.#simple(`SELECT ${this.#literal()} || repeat('x', ${this.#random.below(40_000)})`);

  readonly #burst = (): Turn => {
    const count = this.#random.between(2, 12);
    return {
      messages: Array.from({ length: count }, () => query(`SELECT ${this.#literal()}`)),
      ready: count,
      fails: false,
    };
  };

  readonly #error = (): Turn =>
    this.#simple(
      this.#random.pick([`SELECT ${this.#literal()}::int`, `SELECT 1/0, ${this.#literal()}`, "SELEC"]),
      true,
    );

  readonly #extended = (): Turn => {
    const messages = this.#random.chance(0.5)
      ? [parse(`SELECT ${this.#literal()}`), bind("", "", [])]
      : [parse(this.#random.pick(sharedTexts)), bind("", "", [this.#mark()])];
    messages.push(describe(), execute(), sync());
    return { messages, ready: 1, fails: false };
  };

  readonly #extendedError = (): Turn => ({
    messages: [parse(this.#random.pick(["SELEC", "SELECT 1/0"])), bind("", "", []), execute(), sync()],
    ready: 1,
    fails: true,
  });

  /** Parses a name that is new, or uses one that is known, or closes it. */
  readonly #name = (): Turn => {
    const name = `n${this.#random.below(6)}`;
    const messages: Buffer[] = [];
    if (this.#named.get(name) !== true) messages.push(parse(this.#random.pick(sharedTexts), name));
    this.#named.set(name, true);
    for (let count = this.#random.below(4); count > 0; count -= 1)
      messages.push(bind("", name, [this.#mark()]), execute());
    if (this.#random.chance(0.2)) messages.push(describe(name, "S"));
    if (this.#random.chance(0.3)) {
      messages.push(close("S", name));
      this.#named.set(name, false);
    }
    messages.push(sync());
    return { messages, ready: 1, fails: false };
  };

  /** Several batches at once, each with its Sync. */
  readonly #pipeline = (): Turn => {
    const turns = Array.from({ length: this.#random.between(2, 8) }, () =>
      this.#random.pick([this.#extended, this.#name, this.#select])(),
    );
    return { messages: turns.flatMap(({ messages }) => messages), ready: turns.length, fails: false };
  };

  readonly #flushed = (): Turn => ({
    messages: [
      parse(`SELECT ${this.#literal()}`),
      flush(),
      bind("", "", []),
      describe(),
      flush(),
      execute(),
      flush(),
      sync(),
    ],
    ready: 1,
    fails: false,
  });

  readonly #portal = (): Turn => ({
    messages: [
      parse(`SELECT ${this.#literal()} || g FROM generate_series(1, 20) g`),
      bind("p", "", []),
      execute(3, "p"),
      execute(this.#random.between(1, 30), "p"),
      close("P", "p"),
      sync(),
    ],
    ready: 1,
    fails: false,
  });

  readonly #copyOut = (): Turn =>
    this.#simple(`COPY (SELECT ${this.#literal()} FROM generate_series(1, ${this.#random.between(1, 30)})) TO STDOUT`);

  #lines(): Buffer[] {
    return Array.from({ length: this.#random.between(0, 5) }, () => copyData(Buffer.from(`${this.#mark()}\n`)));
  }

  readonly #copyIn = (): Turn => ({
    messages: [query("COPY fuzz_lines FROM STDIN"), ...this.#lines(), copyDone()],
    ready: 1,
    fails: false,
  });

  readonly #copyFails = (): Turn => ({
    messages: [query("COPY fuzz_lines FROM STDIN"), ...this.#lines(), copyFail(`no more ${this.#mark()}`)],
    ready: 1,
    fails: true,
  });

  readonly #copyInExtended = (): Turn => ({
    messages: [parse("COPY fuzz_lines FROM STDIN"), bind("", "", []), execute(), ...this.#lines(), copyDone(), sync()],
    ready: 1,
    fails: false,
  });

  readonly #call = (): Turn => ({ messages: [functionCall(this.#mark())], ready: 1, fails: false });

  readonly #notice = (): Turn => this.#simple(`DO $$ BEGIN RAISE NOTICE ${this.#literal()}; END $$`);

  readonly #setting = (): Turn =>
    this.#simple(
      this.#random.pick([
        `SET application_name = ${this.#literal()}`,
        "RESET application_name",
        "SET work_mem = '5MB'",
        "RESET ALL",
        `SELECT set_config('application_name', ${this.#literal()}, false)`,
      ]),
    );

  readonly #transaction = (): Turn => {
    const end = this.#random.pick(["COMMIT", "ROLLBACK"]);
    const inside = this.#random.chance(0.3) ? "SELECT 1/0" : `INSERT INTO fuzz_lines VALUES (${this.#literal()})`;
    const messages = ["BEGIN", `SELECT ${this.#literal()}`, inside, end].map((sql) => query(sql));
    return { messages, ready: 4, fails: inside === "SELECT 1/0" };
  };

  readonly #readOnly = (): Turn => {
    const messages = ["BEGIN READ ONLY", `SELECT ${this.#literal()}`, "COMMIT"].map((sql) => query(sql));
    return { messages, ready: 3, fails: false };
  };

  readonly #begin = (): Turn => {
    this.#open = true;
    return this.#simple("BEGIN");
  };

  readonly #end = (): Turn => {
    this.#open = false;
    return this.#simple(this.#random.pick(["COMMIT", "ROLLBACK"]));
  };

  readonly #savepoint = (): Turn => {
    const messages = ["SAVEPOINT s", "SELECT 1/0", "ROLLBACK TO s", `SELECT ${this.#literal()}`].map((sql) =>
      query(sql),
    );
    return { messages, ready: 4, fails: true };
  };

  readonly #listen = (): Turn => {
    this.listens = true;
    return {
      messages: [query(`LISTEN c${this.#client % 7}`), query(`NOTIFY c${this.#client % 7}, ${this.#literal()}`)],
      ready: 2,
      fails: false,
    };
  };

  readonly #discard = (): Turn => {
    this.#named.clear();
    return this.#simple("DISCARD ALL");
  };

  readonly #deallocate = (): Turn => {
    this.#named.clear();
    return this.#simple("DEALLOCATE ALL");
  };

  readonly #sqlPrepare = (): Turn => {
    this.#named.clear();
    const texts = ["DEALLOCATE ALL", "PREPARE by_sql AS SELECT $1::text", `EXECUTE by_sql (${this.#literal()})`];
    return { messages: texts.map((sql) => query(sql)), ready: 3, fails: false };
  };

  readonly #temporary = (): Turn =>
    this.#simple(
      `CREATE TEMP TABLE IF NOT EXISTS mine (line text); TRUNCATE mine; INSERT INTO mine VALUES (${this.#literal()}); TABLE mine`,
    );

  readonly #advisory = (): Turn => this.#simple(`SELECT ${this.#literal()}, pg_try_advisory_lock(${this.#client})`);

  readonly #held = (): Turn =>
    this.#simple(
      `DECLARE held${this.#sequence} CURSOR WITH HOLD FOR SELECT ${this.#literal()} FROM generate_series(1, 9); FETCH 2 FROM held${this.#sequence - 1}`,
    );

  readonly #inside = [
    this.#select,
    this.#rows,
    this.#several,
    this.#extended,
    this.#name,
    this.#pipeline,
    this.#portal,
    this.#flushed,
    this.#copyIn,
    this.#copyOut,
    this.#call,
    this.#savepoint,
    this.#end,
    this.#end,
    this.#end,
  ];

  readonly #outside = [
    this.#select,
    this.#select,
    this.#rows,
    this.#several,
    this.#empty,
    this.#wide,
    this.#burst,
    this.#burst,
    this.#error,
    this.#extended,
    this.#extended,
    this.#extendedError,
    this.#name,
    this.#name,
    this.#name,
    this.#pipeline,
    this.#pipeline,
    this.#pipeline,
    this.#flushed,
    this.#portal,
    this.#copyOut,
    this.#copyIn,
    this.#copyFails,
    this.#copyInExtended,
    this.#call,
    this.#notice,
    this.#setting,
    this.#transaction,
    this.#transaction,
    this.#readOnly,
    this.#begin,
    this.#deallocate,
  ];

  readonly #binding = [this.#listen, this.#temporary, this.#advisory, this.#held, this.#sqlPrepare, this.#discard];
}
