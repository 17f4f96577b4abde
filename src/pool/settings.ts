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

  private constructor(entries: ReadonlyMap<string, Setting>) {
    this.#entries = entries;
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

  get size(): number {
    return this.#entries.size;
  }

  /** SQL that brings a session from `current` to this set; null when they are equal. */
  sqlFrom(current: SettingsSet): string | null {
    if (this.equals(current)) return null;
    const resets: string[] = [];
    for (const [key, setting] of current.#entries) {
      if (!this.#entries.has(key)) resets.push(`RESET ${quoteName(setting.name)};`);
    }
    const sets: string[] = [];
    for (const [key, setting] of this.#entries) {
      if (current.#entries.get(key)?.value === setting.value) continue;
      sets.push(`pg_catalog.set_config(${quoteText(setting.name)},${quoteText(setting.value)},false)`);
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

/** Asks a session which settings were made in it: one JSON object, names to values. */
export const SETTINGS_QUESTION = `SELECT coalesce(pg_catalog.json_object_agg(name, setting), '{}')::text FROM (
  SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'
    AND name NOT IN ('transaction_deferrable', 'transaction_isolation', 'transaction_read_only')
  UNION ALL SELECT 'role', pg_catalog.current_setting('role') WHERE pg_catalog.current_setting('role') <> 'none') s`;

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
