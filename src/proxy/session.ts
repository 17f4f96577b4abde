// The session of one client, as far as it can move from server to server: its settings, its prepared statements, and what binds
// it to one server after all. In session mode everything is the server's own, and nothing moves.

import type { PoolMode } from "../core/pool-mode.ts";
import type { ReleaseMode } from "../pool/cleaning.ts";
import type { SessionListener } from "../pool/holder.ts";
import { isPlainSetting } from "../pool/plain-settings.ts";
import type { Server } from "../pool/server.ts";
import { followsClient, isCustom, type SettingsSet } from "../pool/settings.ts";
import { FEATURE_NOT_SUPPORTED } from "../pool/sqlstates.ts";
import type { StatementRegistry } from "../pool/statements.ts";
import { Frontend, TransactionStatus } from "../protocol/constants.ts";
import { PASS, type Verdict } from "../protocol/framer.ts";
import type { ErrorFields } from "../protocol/messages.ts";
import { mayMatter } from "../routing/glance.ts";
import { createsTemporary, creation, type Effects, type PinCause, unknownEffects } from "../routing/session-effects.ts";
import type { SessionEffects } from "../routing/session-state.ts";
import { Binding, type OnSessionState } from "./binding.ts";
import { Flight } from "./flight.ts";
import { Refusals } from "./refusals.ts";
import { decodeSessionAnswer, sessionQuestion } from "./session-question.ts";
import { StatementMapper } from "./statement-mapper.ts";
import { isComplete, parsedName, statementText, textStart, textVerdict } from "./statement-text.ts";

export interface SessionOptions {
  readonly poolMode: PoolMode;
  /** All clients' prepared statements, and how many of them a server keeps; 0: they do not follow clients. */
  readonly statements: StatementRegistry;
  readonly maxPreparedStatements: number;
  /** What texts do to a session. */
  readonly effects: SessionEffects;
  readonly onSessionState: OnSessionState;
  /** Hears what a client leaves in its session: that it pins, is refused, or is passed over. */
  readonly count: (cause: PinCause, outcome: "pinned" | "refused" | "ignored") => void;
  /** Whether it is for replication: what streams then does not end by itself. */
  readonly replicates?: boolean;
}

export class Session implements SessionListener {
  /** What is on its way to the server, or being answered. */
  readonly flight = new Flight();
  /** Null where prepared statements are the server's own. */
  readonly mapper: StatementMapper | null;
  /** No transaction of more than one statement is allowed. */
  readonly statementMode: boolean;
  readonly #replicates: boolean;
  readonly #moves: boolean;
  readonly #effects: SessionEffects;
  readonly #binding: Binding;
  readonly #refusals: Refusals;
  /** What the startup packet asked for: RESET goes back to it. */
  readonly #startup: SettingsSet;
  #settings: SettingsSet;
  /** They have what is created be temporary. */
  #createsTemporary: boolean;
  /** Reported parameters as the client was last told. */
  #told: ReadonlyMap<string, string> = new Map();
  /** Whom it logged in as. */
  #authorization: string | undefined;
  /** What the startup packet asked for comes back with the next server, and the client has heard otherwise. */
  #untold = false;
  /** Settings may have been made that nobody reported. */
  #touched = false;
  /** Settings of the user's own that were named meanwhile: no server lists them. */
  readonly #named = new Set<string>();
  /** What the startup packet asked for may have been reset to what the server has by itself. */
  #reset = false;
  /** So may its settings of the user's own: reset, they are empty for a server. */
  #resetOwn = false;
  /** Texts that were run since nothing was owed, and of a lone one the settings that it makes once it has succeeded. */
  #runs = 0;
  #making: Effects | null = null;
  #tags = 0;
  #failed = false;
  /** What names stand for is not what its settings say, up to the end of the transaction. */
  #relocated = false;
  /** Without a mapper: what the client's named statements do, all together, each time that it runs anything. */
  #lasting: Effects | null = null;

  constructor(startup: SettingsSet, options: SessionOptions) {
    const { count, effects, maxPreparedStatements, onSessionState, poolMode, statements } = options;
    this.#startup = startup;
    this.#settings = startup;
    this.#createsTemporary = createsTemporary(startup.get("search_path"));
    this.#effects = effects;
    this.#replicates = options.replicates === true;
    this.#binding = new Binding(onSessionState, count);
    this.#refusals = new Refusals(({ cause }) => count(cause, "refused"));
    this.statementMode = poolMode === "statement";
    this.#moves = poolMode !== "session";
    const maps = this.#moves && maxPreparedStatements > 0;
    const run = (server: Server, effects: Effects | null): void => this.#run(server, effects);
    const place = (): string | null => this.#place();
    this.mapper = maps ? new StatementMapper(statements, maxPreparedStatements, this.#binding, place, run) : null;
  }

  /** What decides what a text's tables and functions are, and whose rights count; null where only the server can tell. */
  #place(): string | null {
    if (this.#relocated || (this.#touched && this.#binding.bound)) return null;
    return `${this.#settings.get("search_path") ?? ""}\0${this.#settings.get("role") ?? ""}`;
  }

  /** What a server must have in force before it works for this client. */
  get settings(): SettingsSet {
    return this.#settings;
  }

  /** Why it stays with its server between transactions; nothing where it does not, or where it does so by its mode. */
  get pins(): ReadonlySet<PinCause> {
    return this.#binding.causes;
  }

  /**
   * Whether this server's settings must be right before anything is sent: with another role, a statement behind a SET that fails
   * would do what it may not.
   */
  mustPrepare(server: Server): boolean {
    return (this.#settings.hasRole || server.settings.hasRole) && !this.#settings.equals(server.settings);
  }

  /** A lease is as long as the session. */
  get ownsServer(): boolean {
    return !this.#moves;
  }

  /** A reported parameter as the client was last told. */
  told(name: string): string | undefined {
    return this.#told.get(name);
  }

  /** A lease outlives transactions. */
  get keepsServer(): boolean {
    return !this.#moves || this.#binding.bound;
  }

  /** Before the server may go to another client, or is the client's own, its session must be looked at. */
  get unsettled(): boolean {
    if (this.#reset && this.keepsServer) return true;
    return this.#moves && (this.#binding.doubtful || (this.#touched && !this.#binding.bound));
  }

  /** What the client leaves behind with its server: nothing that another client would meet, or a session to be reset. */
  get remains(): ReleaseMode {
    return this.#moves && !this.#binding.suspect && !this.#touched ? "transaction" : "session";
  }

  /** Whether what it does now does not end by itself: WAL is being streamed to it. */
  endless(server: Server | null): boolean {
    return this.#replicates && server?.exchange.copyIn === true;
  }

  /** How a message of this type has to be read. */
  verdict(type: number, length: number): Verdict {
    if (!this.#moves) return PASS;
    if (this.mapper !== null) return this.mapper.verdict(type, length);
    return type === Frontend.Query || type === Frontend.Parse ? textVerdict(length) : PASS;
  }

  /** Whether the client's next message has to wait: until something is answered, or a cancel request is not under way any more. */
  bars(server: Server, type: number): boolean {
    return server.cancels.underWay || server.exchange.full || this.mapper?.bars(server, type) === true;
  }

  /** What the login told the client. */
  welcomed(parameters: ReadonlyMap<string, string>): void {
    this.#told = parameters;
    this.#authorization = parameters.get("session_authorization");
  }

  /**
   * Looks at a Query or Parse, or its beginning, on its way to `server`. Returns what the server gets in its place where it is
   * refused; null otherwise.
   */
  observe(server: Server, type: number, length: number, buffer: Buffer, start: number, end: number): Buffer | null {
    if (!this.#moves) return null;
    const { mapper } = this;
    const quiet = isComplete(length, start, end) && !mayMatter(buffer, textStart(type, buffer, start, end), end);
    mapper?.reading(quiet);
    if (quiet) {
      if (type === Frontend.Query || mapper === null) this.#run(server, null);
      return null;
    }
    const text = statementText(type, buffer, start, end);
    const effects = isComplete(length, start, end) ? this.#effects.of(text) : unknownEffects(text);
    const refused = effects === null ? null : this.#binding.refusable(effects);
    if (refused !== null) return this.#refusals.inPlaceOf(refused, parsedName(type, buffer, start, end));
    if (type === Frontend.Query) this.#run(server, effects);
    else if (mapper !== null) mapper.parsing = effects;
    else {
      this.#run(server, effects);
      if (effects !== null && parsedName(type, buffer, start, end) !== "") this.#lasting = unknownEffects(text);
    }
    return null;
  }

  /** A text with these effects is being run. */
  #run(server: Server, effects: Effects | null): void {
    this.#runs += 1;
    if (this.#making !== null) this.#doubtSettings();
    const does = effects ?? this.#lasting ?? (this.#createsTemporary ? creation : null);
    if (does === null) return;
    this.#binding.runs(does);
    if (does.relocates) this.#relocated = true;
    const { settings, customNames } = does;
    for (const name of customNames) this.#named.add(name);
    for (const { name, value } of settings ?? []) if (value === null) this.#mayReset(isCustom(name));
    if (settings === null) return this.#doubtSettings();
    if (settings.every(({ name, value }) => value !== null && isReported(server, name))) return;
    const sure = settings.every(
      ({ name, value }) => value === null || isPlainSetting(name) || isReported(server, name),
    );
    const alone = this.#runs === 1 && server.status === TransactionStatus.Idle && !does.transactional;
    if (sure && alone) this.#making = does;
    else this.#doubtSettings();
  }

  #doubtSettings(): void {
    this.#touched = true;
    this.#making = null;
  }

  #have(settings: SettingsSet): void {
    this.#settings = settings;
    this.#createsTemporary = createsTemporary(settings.get("search_path"));
  }

  #mayReset(own: boolean): void {
    if (this.#startup.size === 0) return;
    this.#reset = true;
    this.#resetOwn ||= own;
  }

  /** Nothing is owed any more; `server` stands as its ReadyForQuery said. */
  answered(server: Server): void {
    const making = this.#making;
    // An error elsewhere in the same write says nothing about what was SET beside it.
    if (making !== null && this.#failed) this.#touched ||= this.#tags > 0;
    else if (making !== null) {
      // Fewer are those of a text that was not run.
      if (server.status !== TransactionStatus.Idle || (this.#tags > 0 && this.#tags !== making.settingTags))
        this.#touched = true;
      else if (this.#tags > 0) this.#make(server, making);
    }
    if (server.status === TransactionStatus.Idle) this.#relocated = false;
    if (server.status === TransactionStatus.Idle && !this.keepsServer && !this.unsettled)
      this.#reset = this.#resetOwn = false;
    this.flight.clear();
    this.#forget();
  }

  /** The server is gone. What was in flight is taken from here; null when it was too much to keep. */
  lost(): Buffer | null {
    this.#forget();
    return this.flight.take();
  }

  #forget(): void {
    this.#refusals.clear();
    this.#making = null;
    this.#runs = 0;
    this.#tags = 0;
    this.#failed = false;
  }

  /** What was SET, word for word, is what client and server have now. */
  #make(server: Server, { settings }: Effects): void {
    for (const { name, value } of settings ?? []) {
      const before = this.#startup.get(name);
      if (value === null) {
        server.settings = server.settings.without(name);
        server.baseLost ||= server.base.has(name);
        this.#have(before === null ? this.#settings.without(name) : this.#settings.with(name, before));
        this.#untold ||= before !== null;
      } else if (!isReported(server, name)) {
        server.settings = server.settings.with(name, value);
        this.#have(this.#settings.with(name, value));
      }
    }
  }

  commandDone(tag: string): void {
    if (tag === "DISCARD ALL" || tag === "DEALLOCATE ALL") this.mapper?.clear();
    if (tag === "DISCARD ALL") this.#binding.binds("hidden_setting", false);
    if (tag === "LOAD") this.#binding.bind("load");
    if (tag === "SET" || tag === "RESET") this.#tags += 1;
    const toDefault = tag === "SET" && !this.#moves && this.flight.mayName(/\bDEFAULT\b/i);
    if (tag === "DISCARD ALL") this.#mayReset(true);
    else if (tag === "RESET" || toDefault) this.#mayReset(this.flight.mayName(/\bALL\b|\w"?\."?\w/i));
  }

  failed(fields: ErrorFields): Buffer | null {
    this.#failed = true;
    if (fields.sqlstate === FEATURE_NOT_SUPPORTED) this.mapper?.retire();
    return this.#refusals.wordsFor(fields);
  }

  /** The server reports a change. Returns whether the client is told. */
  parameterChanged(name: string, value: string): boolean {
    if (name === "session_authorization" && this.#moves) this.#binding.binds(name, value !== this.#authorization);
    if (!followsClient(name)) return name !== "in_hot_standby";
    this.#have(this.#settings.with(name, value));
    this.#tell(name, value);
    return true;
  }

  /** The server reports what we brought about. The client is told where it has heard otherwise. */
  parameterRestored(name: string, value: string): boolean {
    if (!followsClient(name) || this.#told.get(name) === value) return false;
    this.#tell(name, value);
    return true;
  }

  #tell(name: string, value: string): void {
    if (this.#told.get(name) !== value) this.#told = new Map(this.#told).set(name, value);
  }

  /** What to ask this server. */
  questionFor(server: Server): string {
    const custom = new Set([...this.#named, ...server.settings.customNames, ...server.base.customNames]);
    return sessionQuestion(custom, this.#binding.doubtful, this.mapper !== null);
  }

  /**
   * The settings that a server has after this client's transaction, as it answered; null when the answer cannot be read. Those of
   * `base` are the server's, not the client's.
   */
  settle(row: readonly (string | null)[] | null, base: SettingsSet): SettingsSet | null {
    const answer = decodeSessionAnswer(row, this.#binding.doubtful);
    if (answer === null) return null;
    const made = this.#resetOwn ? answer.settings.withoutEmptied() : answer.settings;
    this.#have(this.#startup.overlaid(made.beyond(base)));
    this.#touched = false;
    this.#reset = false;
    this.#resetOwn = false;
    this.#named.clear();
    if (answer.pins !== null) this.#binding.settle(answer.pins);
    this.#untold = !this.#settings.equals(answer.settings);
    return answer.settings;
  }

  /** Parameters that this server has in force already, so that it will not report them, and that the client takes to be others. */
  untoldBy(server: Server): readonly (readonly [string, string])[] {
    if (!this.#untold) return nothing;
    this.#untold = false;
    const untold = [...server.parameters].filter(
      ([name, value]) =>
        followsClient(name) && this.#told.get(name) !== value && this.#settings.get(name) === server.settings.get(name),
    );
    for (const [name, value] of untold) this.#tell(name, value);
    return untold;
  }

  /** The client is gone. */
  end(): void {
    this.mapper?.close();
  }
}

const nothing: readonly (readonly [string, string])[] = [];

/** Whether the server tells of each change to this setting by itself. */
function isReported(server: Server, name: string): boolean {
  for (const reported of server.parameters.keys()) if (reported.toLowerCase() === name) return true;
  return false;
}
