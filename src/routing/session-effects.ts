// What statements do to their session beyond their transaction: settings that they make, things that cannot follow a client to
// another server, and what takes such things away. Read from PostgreSQL's grammar; what happens inside of functions is not in it.
// The chapters: https://www.postgresql.org/docs/current/sql-commands.html (SET, LISTEN, PREPARE, DECLARE, DISCARD, …).

import { SETTINGS_ASKED_MAX } from "../core/limits.ts";
import type { Statement } from "./grammar.ts";
import { everything, type Fields, fields, isTrue, list, literal, nameParts, nodeOf, text } from "./syntax-tree.ts";

/** Why a client cannot leave its server, for people and for a metric's label. */
export const pinCauses = [
  "temporary_table",
  "advisory_lock",
  "with_hold_cursor",
  "listen",
  "sql_prepare",
  "load",
  "session_authorization",
  "hidden_setting",
  "large_prepared_statement",
] as const;
export type PinCause = (typeof pinCauses)[number];

/** Something that a statement may leave in its session. */
export interface Pin {
  readonly cause: PinCause;
  /** In words: `temporary table "x"`. */
  readonly object: string;
}

/** A setting that is made, or with null reset. */
export interface SettingChange {
  readonly name: string;
  readonly value: string | null;
}

/** What a text may do to its session. */
export interface Effects {
  /** In order, where these are all that it can do to settings; null: only the server can tell. */
  readonly settings: readonly SettingChange[] | null;
  /** Settings of the user's own (`app.tenant`) that it may make, in lower case. */
  readonly customNames: readonly string[];
  /** How many of its statements end with the command tag SET or RESET. */
  readonly settingTags: number;
  /** From then on the same words may name other tables, or ask for another role's rights, if only up to the transaction's end. */
  readonly relocates: boolean;
  /** It begins or ends transactions in its middle: an error does not undo all of it. */
  readonly transactional: boolean;
  readonly pins: readonly Pin[];
  /** It may take these away. */
  readonly undoes: readonly PinCause[];
  /** What it does cannot be seen from here: it may leave anything. */
  readonly opaque: boolean;
}

/** Of a text that cannot be read. */
export function unknownEffects(sql: string): Effects {
  const found = new Collected();
  found.anything(sql);
  return { ...found.effects, undoes: pinCauses };
}

/** What decides which tables a text names, and whose rights count. */
const relocating = new Set(["search_path", "role", "session_authorization"]);

/** What looks like the name of a setting of the user's own. */
const dotted = /\b[a-z_]\w*\.[a-z_]\w*\b/gi;

class Collected {
  settings: SettingChange[] | null = [];
  settingTags = 0;
  relocates = false;
  transactional = false;
  readonly pins: Pin[] = [];
  readonly undoes = new Set<PinCause>();
  opaque = false;
  readonly #custom = new Set<string>();

  get effects(): Effects {
    const { settings, settingTags, relocates, transactional, pins, opaque } = this;
    return {
      settings,
      customNames: [...this.#custom],
      settingTags,
      relocates,
      transactional,
      pins,
      undoes: [...this.undoes],
      opaque,
    };
  }

  /** Nobody knows what `sql` does, but for the words in it. */
  anything(sql: string): void {
    this.opaque = true;
    this.relocates = true;
    this.settings = null;
    for (const [name] of sql.matchAll(dotted)) this.names(name);
  }

  /** It may make this setting. */
  names(name: string): void {
    if (!name.includes(".")) return;
    if (this.#custom.size < SETTINGS_ASKED_MAX) this.#custom.add(name.toLowerCase());
    else this.pin("hidden_setting", "more settings than can be asked for");
  }

  pin(cause: PinCause, object: string): void {
    this.pins.push({ cause, object });
  }

  set(name: string, value: string | null): void {
    this.names(name);
    this.settings?.push({ name, value });
  }

  get any(): boolean {
    const quiet = this.settings?.length === 0 && this.pins.length === 0 && this.undoes.size === 0;
    return !quiet || this.opaque || this.relocates || this.settingTags > 0;
  }
}

/** What these statements, one text, do together; null for nothing. */
export function effectsOf(statements: readonly Statement[]): Effects | null {
  const found = new Collected();
  for (const statement of statements) collect(statement, found);
  return found.any ? found.effects : null;
}

function collect(statement: Statement, found: Collected): void {
  const [kind, node] = nodeOf(statement);
  switch (kind) {
    case "VariableSetStmt":
      found.settingTags += 1;
      return collectSet(node, found);
    case "TransactionStmt":
      found.transactional = true;
      return;
    case "ListenStmt":
      return found.pin("listen", `LISTEN on channel "${text(node["conditionname"])}"`);
    case "UnlistenStmt":
      found.undoes.add("listen");
      return;
    case "PrepareStmt":
      return found.pin("sql_prepare", `prepared statement "${text(node["name"])}"`);
    case "DeallocateStmt":
      found.undoes.add("sql_prepare").add("large_prepared_statement");
      return;
    case "LoadStmt":
      return found.pin("load", `loaded library "${text(node["filename"])}"`);
    case "ClosePortalStmt":
      found.undoes.add("with_hold_cursor");
      return;
    case "DropStmt":
    case "DropOwnedStmt":
      found.undoes.add("temporary_table");
      return;
    case "DiscardStmt":
      return collectDiscard(text(node["target"]), found);
    case "DoStmt":
    case "CallStmt":
      return found.anything(stringsIn(node));
    case "ExplainStmt":
      return executes(node) ? collect(node["query"], found) : undefined;
    default:
      return collectQuery(kind, statement, found);
  }
}

function collectDiscard(target: string, found: Collected): void {
  if (target === "DISCARD_TEMP") found.undoes.add("temporary_table");
  if (target !== "DISCARD_ALL") return;
  found.settings = null;
  for (const cause of pinCauses) found.undoes.add(cause);
}

/** EXPLAIN runs its statement with ANALYZE alone. */
function executes(node: Fields): boolean {
  const option = list(node["options"])
    .map((each) => fields(fields(each)["DefElem"]))
    .findLast(({ defname }) => defname === "analyze");
  if (option === undefined) return false;
  return !/^(?:off|f(?:a(?:l(?:se?)?)?)?|no?|0)$/i.test(text(fields(fields(option["arg"])["String"])["sval"]));
}

const characteristics: ReadonlyMap<string, string> = new Map([
  ["transaction_isolation", "default_transaction_isolation"],
  ["transaction_read_only", "default_transaction_read_only"],
  ["transaction_deferrable", "default_transaction_deferrable"],
]);

/** Nothing of them outlives a transaction, or nobody can follow it: random numbers. */
const fleeting = new Set(["transaction_isolation", "transaction_read_only", "transaction_deferrable", "seed"]);

function collectSet(node: Fields, found: Collected): void {
  const kind = text(node["kind"]);
  const name = text(node["name"]).toLowerCase();
  if (name === "search_path" && createsTemporary(literal(list(node["args"])[0]))) found.opaque = true;
  if (relocating.has(name) || kind === "VAR_RESET_ALL") found.relocates = true;
  if (node["is_local"] === true || fleeting.has(name)) return;
  if (name === "session_authorization") {
    if (kind === "VAR_SET_VALUE") found.pin("session_authorization", "another session authorization");
    // Being another user takes the role away as well.
    found.settings = null;
  } else if (name === "role") found.settings = null;
  else if (kind === "VAR_SET_MULTI") collectCharacteristics(name, node, found);
  else if (kind === "VAR_SET_DEFAULT" || kind === "VAR_RESET") found.set(name, null);
  else {
    const args = list(node["args"]);
    const value = args.length === 1 ? literal(args[0]) : null;
    if (kind === "VAR_SET_VALUE" && value !== null) return found.set(name, value);
    found.settings = null;
    found.names(name);
  }
}

function collectCharacteristics(name: string, node: Fields, found: Collected): void {
  if (name === "transaction") return;
  for (const each of list(node["args"])) {
    const { defname, arg } = fields(fields(each)["DefElem"]);
    const setting = characteristics.get(text(defname));
    const value = literal(arg);
    if (setting === undefined || value === null) found.settings = null;
    else found.set(setting, value);
  }
}

/** Whether what is created under this search_path, and named without a schema, is temporary. */
export const createsTemporary = (searchPath: string | null): boolean => /^\s*"?pg_temp/i.test(searchPath ?? "");

/** What may create something. */
export const creation: Effects = { ...new Collected().effects, opaque: true };

const OPT_HOLD = 0x20;

/** Anything that may create temporary objects, hold cursors, or call one of the functions that matter. */
function collectQuery(kind: string, statement: Statement, found: Collected): void {
  const creates = /^(?:Create|View|CompositeType|Define)/.test(kind);
  for (const [key, node] of everything(statement)) {
    if (key === "FuncCall") collectCall(node, found);
    else if (key === "DeclareCursorStmt" && (Number(node["options"] ?? 0) & OPT_HOLD) !== 0) {
      found.pin("with_hold_cursor", `cursor "${text(node["portalname"])}" WITH HOLD`);
    } else if (node["relpersistence"] === "t" && !dropsOnCommit(kind, statement)) {
      found.pin("temporary_table", `temporary table "${text(node["relname"])}"`);
    } else if (creates && isTemporarySchema(node)) {
      found.pin("temporary_table", "something in the schema pg_temp");
    }
  }
}

/** What is gone at the end of its transaction pins nobody. */
function dropsOnCommit(kind: string, statement: Statement): boolean {
  const node = fields(fields(statement)[kind]);
  const into = fields(node["into"] ?? node["intoClause"]);
  return (node["oncommit"] ?? into["onCommit"]) === "ONCOMMIT_DROP";
}

const isTemporarySchema = ({ schemaname, sval }: Fields): boolean =>
  /^pg_temp(?:_\d+)?$/.test(text(schemaname) || text(sval));

const locks = /^pg_(?:try_)?advisory_lock(?:_shared)?$/;
const unlocks = /^pg_advisory_unlock(?:_shared|_all)?$/;

function collectCall(node: Fields, found: Collected): void {
  const name = nameParts(node["funcname"]).at(-1) ?? "";
  const args = list(node["args"]);
  if (locks.test(name)) {
    const keys = args.map((arg) => literal(arg) ?? "…").join(", ");
    found.pin("advisory_lock", `session advisory lock (${keys})`);
  } else if (unlocks.test(name)) found.undoes.add("advisory_lock");
  else if (name === "set_config") {
    if (literal(args[0])?.toLowerCase() === "search_path" && createsTemporary(literal(args[1]))) found.opaque = true;
    if (relocating.has(literal(args[0])?.toLowerCase() ?? "role")) found.relocates = true;
    if (!isLocalCall(args)) collectSetConfig(args, found);
  }
}

function collectSetConfig(args: readonly unknown[], found: Collected): void {
  found.settings = null;
  const name = literal(args[0]);
  if (name === null) found.pin("hidden_setting", "a setting whose name is not written out");
  else found.names(name);
}

/** All strings in a tree, one after the other. */
function stringsIn(root: Fields): string {
  const strings: string[] = [];
  for (const [, { sval }] of everything(root)) if (typeof sval === "string") strings.push(sval);
  return strings.join(" ");
}

/** set_config() whose last argument says that it ends with the transaction. */
function isLocalCall(args: readonly unknown[]): boolean {
  const [kind, named] = nodeOf(args[2]);
  // Other names are for the other arguments.
  if (args.length !== 3 || (kind === "NamedArgExpr" && named["name"] !== "is_local")) return false;
  const value = kind === "NamedArgExpr" ? named["arg"] : args[2];
  const [inner, cast] = nodeOf(value);
  return isTrue(inner === "TypeCast" ? cast["arg"] : value);
}
