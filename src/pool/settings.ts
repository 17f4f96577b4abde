// Session settings as a value: what a client asked for, what a server has. Bringing a server from one set to another is one
// string of SQL, sent in front of the client's first message. Values are kept byte for byte (latin1).

interface Setting {
  readonly name: string;
  readonly value: string;
}

/** Reported parameters that a session cannot set: they describe the server, or belong to the route. */
const NOT_SETTABLE = new Set([
  "in_hot_standby",
  "integer_datetimes",
  "is_superuser",
  "server_encoding",
  "server_version",
  "session_authorization",
  "system_user",
]);

/** Whether a change that the server reports is a setting that has to follow the client. */
export const followsClient = (name: string): boolean => !NOT_SETTABLE.has(name);

/** An immutable set of settings, names compared without case. Equal sets have equal keys. */
export class SettingsSet {
  static readonly empty = new SettingsSet(new Map());
  readonly #entries: ReadonlyMap<string, Setting>;
  /** Identifies the content. */
  readonly key: string;
  /** Whether the role is in it. */
  readonly hasRole: boolean;

  private constructor(entries: ReadonlyMap<string, Setting>) {
    this.#entries = entries;
    this.hasRole = entries.has("role");
    this.key = JSON.stringify([...entries].map(([name, setting]) => [name, setting.value]).sort());
  }

  static of(settings: Iterable<readonly [string, string]>): SettingsSet {
    const entries = new Map<string, Setting>();
    for (const [name, value] of settings) entries.set(name.toLowerCase(), { name, value });
    return entries.size === 0 ? SettingsSet.empty : new SettingsSet(entries);
  }

  /** This set with one setting changed; itself when nothing changes. */
  with(name: string, value: string): SettingsSet {
    const key = name.toLowerCase();
    if (this.#entries.get(key)?.value === value) return this;
    return new SettingsSet(new Map(this.#entries).set(key, { name, value }));
  }

  /** This set without one setting; itself where it has none of that name. */
  without(name: string): SettingsSet {
    const key = name.toLowerCase();
    return this.#entries.has(key)
      ? new SettingsSet(new Map([...this.#entries].filter(([each]) => each !== key)))
      : this;
  }

  /** This set without settings of the user's own that are empty: a RESET leaves them so, and does not take them away. */
  withoutEmptied(): SettingsSet {
    return this.customNames.reduce<SettingsSet>((set, name) => (set.get(name) === "" ? set.without(name) : set), this);
  }

  /** The value of a setting; null where it is not in this set. */
  get(name: string): string | null {
    return this.#entries.get(name.toLowerCase())?.value ?? null;
  }

  /** This set, with everything in `other` on top of it. */
  overlaid(other: SettingsSet): SettingsSet {
    if (other.size === 0 || other.equals(this)) return this.size === 0 ? other : this;
    return new SettingsSet(new Map([...this.#entries, ...other.#entries]));
  }

  has(name: string): boolean {
    return this.#entries.has(name.toLowerCase());
  }

  equals(other: SettingsSet): boolean {
    return this === other || this.key === other.key;
  }

  /** Names of the user's own settings in it, in lower case. */
  get customNames(): readonly string[] {
    return [...this.#entries.keys()].filter(isCustom);
  }

  get size(): number {
    return this.#entries.size;
  }

  /** This set without what `base` says as well. */
  beyond(base: SettingsSet): SettingsSet {
    if (base.size === 0) return this;
    const entries = [...this.#entries].filter(([key, { value }]) => base.#entries.get(key)?.value !== value);
    return entries.length === 0 ? SettingsSet.empty : new SettingsSet(new Map(entries));
  }

  /** Whether every setting of `other` is in this set, with whatever value. */
  covers(other: SettingsSet): boolean {
    return [...other.#entries.keys()].every((key) => this.#entries.has(key));
  }

  /** SQL that brings a session from `current` to this set; null when they are equal. What neither has is as in `base`. */
  sqlFrom(current: SettingsSet, base: SettingsSet = SettingsSet.empty): string | null {
    if (this.equals(current)) return null;
    const resets: string[] = [];
    const sets: string[] = [];
    const set = ({ name, value }: Setting): void => {
      sets.push(`pg_catalog.set_config(${quoteText(name)},${quoteText(value)},false)`);
    };
    for (const [key, setting] of current.#entries) {
      if (this.#entries.has(key)) continue;
      const original = base.#entries.get(key);
      if (original === undefined) resets.push(`RESET ${quoteName(setting.name)};`);
      else set(original);
    }
    for (const [key, setting] of this.#entries) {
      if (current.#entries.get(key)?.value !== setting.value) set(setting);
    }
    return resets.join("") + (sets.length === 0 ? "" : `SELECT ${sets.join(",")}`);
  }
}

/** A literal that means the same whatever standard_conforming_strings says. */
function quoteText(value: string): string {
  const quoted = value.replaceAll("'", "''");
  return quoted.includes("\\") ? ` E'${quoted.replaceAll("\\", "\\\\")}'` : `'${quoted}'`;
}

/** `custom.name` is two identifiers to RESET. */
function quoteName(name: string): string {
  return name
    .split(".")
    .map((part) => `"${part.replaceAll('"', '""')}"`)
    .join(".");
}

/** Whether a setting is of the user's own making: no server lists those, they can only be asked for by name. */
export const isCustom = (name: string): boolean => name.includes(".");

/** Of a transaction, not of the session. */
const ofTransaction = "'transaction_deferrable', 'transaction_isolation', 'transaction_read_only'";

/** Asks a session which settings were made in it: one JSON object, names to values. `custom`: the user's own that it may have. */
export function settingsQuestion(custom: Iterable<string>): string {
  const names = [...custom].map((name) => `(${quoteText(name)})`);
  const own = `UNION ALL SELECT name, pg_catalog.current_setting(name, true) FROM (VALUES ${names.join(",")}) own (name)
    WHERE pg_catalog.current_setting(name, true) IS NOT NULL AND NOT EXISTS (
      SELECT 1 FROM pg_catalog.pg_settings known WHERE pg_catalog.lower(known.name) = own.name)`;
  return `SELECT coalesce(pg_catalog.json_object_agg(name, setting), '{}')::text FROM (
  SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session' AND name NOT IN (${ofTransaction})
  UNION ALL SELECT 'role', pg_catalog.current_setting('role') WHERE pg_catalog.current_setting('role') <> 'none'
  ${names.length === 0 ? "" : own}) s`;
}

/** Reads the answer; null when it is not one. */
export function decodeSettings(answer: string | null | undefined): SettingsSet | null {
  try {
    const decoded: unknown = JSON.parse(answer ?? "");
    if (typeof decoded !== "object" || decoded === null) return null;
    const entries = Object.entries(decoded);
    return SettingsSet.of(entries.map(([name, value]) => [name, String(value)] as const));
  } catch {
    return null;
  }
}
