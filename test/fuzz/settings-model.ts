// The settings of one session by PostgreSQL's rules: SET lasts, SET LOCAL ends with the transaction, a rollback undoes both, and
// RESET goes back to what the startup packet asked for.

import type { Random } from "./random.ts";

/** Settings that the model changes; the first two are reported to the client. */
export const settingNames = ["application_name", "TimeZone", "work_mem", "search_path"] as const;
export type SettingName = (typeof settingNames)[number];

const defaults: Readonly<Record<SettingName, string>> = {
  application_name: "",
  TimeZone: "Etc/UTC",
  work_mem: "4MB",
  search_path: '"$user", public',
};

/** A value that only this client would choose, where there are enough of them; as `current_setting` shows it. */
export function valueFor(name: SettingName, random: Random, client: number): string {
  switch (name) {
    case "application_name":
      return `app '${client}' \\ ${random.below(3)}`;
    case "TimeZone":
      return random.pick(["Europe/Berlin", "Asia/Tokyo", "America/New_York"]);
    case "work_mem":
      return `${1025 + 2 * (client % 400) + 1000 * random.below(2)}kB`;
    case "search_path":
      return `schema_${client}`;
  }
}

interface Change {
  readonly sql: string;
  /** Whether it is a query with a row. */
  readonly asRow: boolean;
  /** Does it in the model; returns the row's value, or the command tag. */
  readonly apply: () => string;
}

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;

export class SettingsModel {
  readonly #startup: ReadonlyMap<SettingName, string>;
  #session: Map<SettingName, string>;
  #local = new Map<SettingName, string>();
  #before: Map<SettingName, string> | null = null;

  constructor(startup: Readonly<Record<string, string>>) {
    this.#startup = new Map(settingNames.map((name) => [name, startup[name] ?? defaults[name]]));
    this.#session = new Map(this.#startup);
  }

  get(name: SettingName): string {
    return this.#local.get(name) ?? this.#session.get(name) ?? "";
  }

  begin(): void {
    this.#before = new Map(this.#session);
  }

  end(kept: boolean): void {
    if (!kept && this.#before !== null) this.#session = this.#before;
    this.#before = null;
    this.#local.clear();
  }

  /** RESET ALL and DISCARD ALL. */
  reset(): void {
    this.#session = new Map(this.#startup);
    this.#local.clear();
  }

  #put(name: SettingName, value: string, local: boolean): void {
    if (local) this.#local.set(name, value);
    else {
      this.#session.set(name, value);
      this.#local.delete(name);
    }
  }

  /** RESET of one or of all. Outside a transaction. */
  undo(random: Random): Change {
    if (random.chance(0.5)) {
      const apply = () => {
        this.reset();
        return "RESET";
      };
      return { sql: "RESET ALL", asRow: false, apply };
    }
    const name = random.pick(settingNames);
    const apply = () => {
      this.#put(name, this.#startup.get(name) ?? "", false);
      return "RESET";
    };
    return { sql: `RESET ${name}`, asRow: false, apply };
  }

  change(random: Random, client: number, inTransaction: boolean): Change {
    const name = random.pick(settingNames);
    const value = valueFor(name, random, client);
    const local = inTransaction && random.chance(0.4);
    const kind = random.pick(["set", "set", "set_config"]);
    const asRow = kind === "set_config";
    const apply = () => {
      this.#put(name, value, local);
      return asRow ? value : "SET";
    };
    if (asRow) return { sql: `SELECT set_config('${name}', ${quoted(value)}, ${local})`, asRow, apply };
    return { sql: `SET ${local ? "LOCAL " : ""}${name} = ${quoted(value)}`, asRow, apply };
  }
}
