// What one client should see of its own session, by PostgreSQL's rules: its settings, statements, transactions and rows. Makes
// random requests, and foretells every message that answers them. Knows nothing of routers or pools.

import { frontend } from "../support/raw-client.ts";
import { mark } from "./marker.ts";
import type { Random } from "./random.ts";
import { bind, close } from "./requests.ts";
import { SettingsModel, settingNames } from "./settings-model.ts";

/** Requests, and the outline of what answers them. */
export interface Plan {
  readonly messages: readonly Buffer[];
  readonly expected: readonly string[];
}

/** What a model needs in the database. */
export const modelTables = `CREATE TABLE model_log (client int, sequence int);
  CREATE INDEX ON model_log (client)`;

const sharedTexts = [1, 2, 3, 4].map((number) => `SELECT $1::text, ${number}`);
const { query, parse, describe, execute, sync, flush } = frontend;

export class Model {
  readonly #random: Random;
  /** Unlike any other client's. */
  readonly number: number;
  readonly settings: SettingsModel;
  readonly #named = new Map<string, number>();
  #unnamed: number | null = null;
  #status: "I" | "T" | "E" = "I";
  #sequence = 0;
  /** Rows in the log: committed, and with those of the open transaction. */
  #committed = 0;
  #rows = 0;
  /** What keeps it at its server. */
  pins: ("temporary" | "cursor" | "lock" | "listen" | "prepared")[] = [];
  /** What it has told itself by NOTIFY and not heard yet. */
  readonly awaited: string[] = [];

  constructor(random: Random, number: number, startup: Readonly<Record<string, string>>) {
    this.#random = random;
    this.number = number;
    this.settings = new SettingsModel(startup);
  }

  get status(): "I" | "T" | "E" {
    return this.#status;
  }

  #mark(): string {
    this.#sequence += 1;
    return mark(this.number, this.#sequence);
  }

  get #ready(): string {
    return `Z ${this.#status}`;
  }

  /** A simple query; in a failed transaction it fails. Takes the unnamed statement away. */
  #simple(sql: string, expected: () => readonly string[]): Plan {
    this.#unnamed = null;
    const lines = this.#status === "E" ? ["E 25P02"] : expected();
    return { messages: [query(sql)], expected: [...lines, this.#ready] };
  }

  select(): Plan {
    const text = this.#mark();
    return this.#simple(`SELECT '${text}'`, () => ["T", `D ${text}`, "C SELECT 1"]);
  }

  /** Everything that the session has, in one row. */
  look(): Plan {
    const text = this.#mark();
    const columns = settingNames.map((name) => `coalesce(current_setting('${name}', true), '')`);
    const values = settingNames.map((name) => this.settings.get(name));
    const sql = `SELECT '${text}', (SELECT count(*) FROM public.model_log WHERE client = ${this.number}), ${columns.join(", ")}`;
    return this.#simple(sql, () => ["T", `D ${[text, this.#rows, ...values].join("|")}`, "C SELECT 1"]);
  }

  #fails(code: string): string[] {
    if (this.#status === "T") {
      this.#status = "E";
      // What was set is undone with the failure, not with the ROLLBACK.
      this.settings.end(false);
    }
    return [`E ${code}`];
  }

  error(): Plan {
    if (this.#random.chance(0.5)) return this.#simple("SELECT 1/0", () => this.#fails("22012"));
    return this.#simple("SELECT nothing_like_it", () => this.#fails("42703"));
  }

  /** Parse, bind and run, unnamed. */
  extended(): Plan {
    const text = this.#mark();
    const which = this.#random.below(sharedTexts.length);
    const messages = [parse(sharedTexts[which] ?? ""), bind("", "", [text]), describe(), execute(), sync()];
    this.#unnamed = this.#status === "E" ? null : which;
    if (this.#status === "E") return { messages, expected: ["E 25P02", this.#ready] };
    if (this.#random.chance(0.2)) messages.splice(1, 0, flush());
    return { messages, expected: ["1", "2", "T", `D ${text}|${which + 1}`, "C SELECT 1", this.#ready] };
  }

  /** Runs what was parsed before, by its name or without one. */
  bound(): Plan {
    const name = this.#random.chance(0.3) ? "" : `s${this.#random.below(4)}`;
    const which = name === "" ? this.#unnamed : (this.#named.get(name) ?? null);
    const text = this.#mark();
    const messages = [bind("", name, [text]), execute(), sync()];
    if (which === null) {
      // Whether the name exists is asked before whether the transaction has failed.
      const lines = this.#status === "E" ? ["E 26000"] : this.#fails("26000");
      return { messages, expected: [...lines, this.#ready] };
    }
    if (this.#status === "E") return { messages, expected: ["E 25P02", this.#ready] };
    return { messages, expected: ["2", `D ${text}|${which + 1}`, "C SELECT 1", this.#ready] };
  }

  named(): Plan {
    const name = `s${this.#random.below(4)}`;
    const which = this.#random.below(sharedTexts.length);
    const messages = [parse(sharedTexts[which] ?? "", name), sync()];
    if (this.#status === "E") return { messages, expected: ["E 25P02", this.#ready] };
    if (this.#named.has(name)) return { messages, expected: [...this.#fails("42P05"), this.#ready] };
    this.#named.set(name, which);
    return { messages, expected: ["1", this.#ready] };
  }

  unname(): Plan {
    const name = `s${this.#random.below(4)}`;
    this.#named.delete(name);
    return { messages: [close("S", name), sync()], expected: ["3", this.#ready] };
  }

  set(): Plan {
    const { sql, asRow, apply } = this.settings.change(this.#random, this.number, this.#status !== "I");
    return this.#simple(sql, () => {
      const lines = asRow ? ["T", `D ${apply()}`, "C SELECT 1"] : [`C ${apply()}`];
      return lines;
    });
  }

  /** RESET, alone in its transaction: what the startup packet asked for comes back with the next one. */
  undo(): Plan {
    const { sql, apply } = this.settings.undo(this.#random);
    return this.#simple(sql, () => [`C ${apply()}`]);
  }

  begin(): Plan {
    return this.#simple("BEGIN", () => {
      this.#status = "T";
      this.settings.begin();
      return ["C BEGIN"];
    });
  }

  insert(): Plan {
    return this.#simple(`INSERT INTO public.model_log VALUES (${this.number}, ${this.#sequence})`, () => {
      this.#rows += 1;
      if (this.#status === "I") this.#committed = this.#rows;
      return ["C INSERT 0 1"];
    });
  }

  /** COMMIT or ROLLBACK. */
  end(): Plan {
    const commit = this.#random.chance(0.5);
    const kept = commit && this.#status === "T";
    this.#status = "I";
    this.#unnamed = null;
    if (kept) this.#committed = this.#rows;
    this.#rows = this.#committed;
    this.settings.end(kept);
    return { messages: [query(commit ? "COMMIT" : "ROLLBACK")], expected: [kept ? "C COMMIT" : "C ROLLBACK", "Z I"] };
  }

  /** Something random that suits the state. */
  any(): Plan {
    const random = this.#random;
    if (this.#status === "E")
      return random.pick([
        () => this.select(),
        () => this.bound(),
        () => this.named(),
        () => this.end(),
        () => this.end(),
      ])();
    const plans = [
      () => this.select(),
      () => this.look(),
      () => this.extended(),
      () => this.extended(),
      () => this.bound(),
      () => this.bound(),
      () => this.named(),
      () => this.unname(),
      () => this.set(),
      () => this.insert(),
      () => this.error(),
      this.#status === "I" ? () => this.begin() : () => this.end(),
    ];
    return random.pick(plans)();
  }

  /** Ties it to its server in one more way. Outside a transaction. */
  pin(): Plan {
    const kinds = (["temporary", "cursor", "lock", "listen", "prepared"] as const).filter(
      (kind) => !this.pins.includes(kind),
    );
    if (kinds.length === 0) return this.usePins();
    const kind = this.#random.pick(kinds);
    this.pins.push(kind);
    const { number } = this;
    const steps: Record<typeof kind, readonly (readonly [string, readonly string[]])[]> = {
      temporary: [[`CREATE TEMP TABLE mine AS SELECT ${number} AS n`, ["C SELECT 1"]]],
      cursor: [
        ["BEGIN", ["C BEGIN"]],
        [`DECLARE held CURSOR WITH HOLD FOR SELECT ${number} FROM generate_series(1, 1000)`, ["C DECLARE CURSOR"]],
        ["COMMIT", ["C COMMIT"]],
      ],
      lock: [[`SELECT pg_advisory_lock(${number})`, ["T", "D ", "C SELECT 1"]]],
      listen: [[`LISTEN channel_${number}`, ["C LISTEN"]]],
      prepared: [[`PREPARE by_sql AS SELECT ${number}`, ["C PREPARE"]]],
    };
    this.#unnamed = null;
    const all = steps[kind];
    const expected = all.flatMap(([, lines], index) => [...lines, kind === "cursor" && index < 2 ? "Z T" : "Z I"]);
    return { messages: all.map(([sql]) => query(sql)), expected };
  }

  /** Makes sure that what ties it to its server is still there. */
  usePins(): Plan {
    const { number } = this;
    const uses = {
      temporary: [`SELECT n FROM mine`, "T", `D ${number}`, "C SELECT 1"],
      cursor: [`FETCH 1 FROM held`, "T", `D ${number}`, "C FETCH 1"],
      lock: [
        `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = ${number} AND pid = pg_backend_pid()`,
        "T",
        "D 1",
        "C SELECT 1",
      ],
      listen: [`NOTIFY channel_${number}, '${number}'`, "C NOTIFY"],
      prepared: [`EXECUTE by_sql`, "T", `D ${number}`, "C SELECT 1"],
    } as const;
    this.#unnamed = null;
    if (this.pins.includes("listen")) this.awaited.push(String(number));
    const used = this.pins.map((kind) => uses[kind]);
    return {
      messages: used.map(([sql]) => query(sql)),
      expected: used.flatMap(([, ...lines]) => [...lines, "Z I"]),
    };
  }

  discard(): Plan {
    this.#named.clear();
    this.#unnamed = null;
    this.pins = [];
    this.settings.reset();
    return { messages: [query("DISCARD ALL")], expected: ["C DISCARD ALL", "Z I"] };
  }
}
