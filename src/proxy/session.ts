// The session of one client, as far as it can move from server to server: its settings, its prepared statements, and what binds
// it to one server after all. In session mode everything is the server's own, and nothing moves.

import type { SessionListener } from "../pool/holder.ts";
import type { Server } from "../pool/server.ts";
import { decodeSettings, followsClient, type SettingsSet } from "../pool/settings.ts";
import type { StatementRegistry } from "../pool/statements.ts";
import { Frontend } from "../protocol/constants.ts";
import { HEAD, PASS, type Verdict } from "../protocol/framer.ts";
import { bindingTags, bindsSession, callsSetConfig, setsLocally } from "../routing/session-state.ts";
import { Binding } from "./binding.ts";
import { Flight } from "./flight.ts";
import { StatementMapper } from "./statement-mapper.ts";

export interface SessionOptions {
  readonly poolMode: "transaction" | "session";
  /** All clients' prepared statements, and how many of them a server keeps; 0: they do not follow clients. */
  readonly statements: StatementRegistry;
  readonly maxPreparedStatements: number;
  readonly countPin: (cause: string) => void;
}

export class Session implements SessionListener {
  /** What is on its way to the server, or being answered. */
  readonly flight = new Flight();
  /** Null where prepared statements are the server's own. */
  readonly mapper: StatementMapper | null;
  readonly #moves: boolean;
  readonly #binding: Binding;
  /** What the startup packet asked for: RESET goes back to it. */
  readonly #startup: SettingsSet;
  #settings: SettingsSet;
  /** Reported parameters as the client was last told. */
  #told: ReadonlyMap<string, string> = new Map();
  /** What the startup packet asked for comes back with the next server, and the client has heard otherwise. */
  #untold = false;
  /** Settings may have been made that nobody reported. */
  #touched = false;

  constructor(startup: SettingsSet, options: SessionOptions) {
    this.#startup = startup;
    this.#settings = startup;
    this.#binding = new Binding(options.countPin);
    this.#moves = options.poolMode === "transaction";
    const maps = this.#moves && options.maxPreparedStatements > 0;
    this.mapper = maps ? new StatementMapper(options.statements, options.maxPreparedStatements, this.#binding) : null;
  }

  /** What a server must have in force before it works for this client. */
  get settings(): SettingsSet {
    return this.#settings;
  }

  /**
   * Whether this server's settings must be right before anything is sent: with another role, a statement behind a SET that fails
   * would do what it may not.
   */
  mustPrepare(server: Server): boolean {
    return (this.#settings.has("role") || server.settings.has("role")) && !this.#settings.equals(server.settings);
  }

  /** A lease outlives transactions. */
  get keepsServer(): boolean {
    return !this.#moves || this.#binding.bound;
  }

  /** Before the server may go to another client, the settings that it has must be learnt. */
  get unsettled(): boolean {
    return this.#touched && !this.keepsServer;
  }

  /** A server that is taken from this client has to be made as new: it may have what nobody knows of. */
  get leavesTraces(): boolean {
    return this.keepsServer || this.#touched;
  }

  /** How a message of this type has to be read. */
  verdict(type: number, length: number): Verdict {
    if (!this.#moves) return PASS;
    if (this.mapper !== null) return this.mapper.verdict(type, length);
    return type === Frontend.Query || type === Frontend.Parse ? HEAD : PASS;
  }

  /** Whether the client's next message has to wait until something is answered. */
  bars(server: Server, type: number): boolean {
    return server.exchange.full || this.mapper?.bars(server, type) === true;
  }

  /** What the login told the client. */
  welcomed(parameters: ReadonlyMap<string, string>): void {
    this.#told = parameters;
  }

  /** Looks at a text that is on its way to the server. */
  observe(sql: string): void {
    if (!this.#moves) return;
    if (callsSetConfig(sql)) this.#touched = true;
    const cause = bindsSession(sql);
    if (cause !== null) this.#binding.bind(cause);
  }

  commandDone(tag: string): void {
    if (tag === "DISCARD ALL") this.#binding.clear();
    if (tag === "DISCARD ALL" || tag === "DEALLOCATE ALL") this.mapper?.clear();
    const cause = bindingTags.get(tag);
    if (cause !== undefined) this.#binding.bind(cause);
    const sql = tag === "SET" ? this.flight.text : null;
    const local = sql !== null && setsLocally(sql);
    if ((tag === "SET" && !local) || tag === "RESET" || tag === "DISCARD ALL") this.#touched = true;
  }

  /** The server reports a change. Returns whether the client is told. */
  parameterChanged(name: string, value: string): boolean {
    if (!followsClient(name)) return name !== "in_hot_standby";
    this.#settings = this.#settings.with(name, value);
    this.#tell(name, value);
    return true;
  }

  planRefused(): void {
    this.mapper?.retire();
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

  /** The settings that a server has after this client's transaction, as it answered; null when the answer cannot be read. */
  settle(answer: string | null | undefined): SettingsSet | null {
    const inForce = decodeSettings(answer);
    if (inForce === null) return null;
    this.#touched = false;
    this.#settings = this.#startup.overlaid(inForce);
    this.#untold = !this.#settings.equals(inForce);
    return inForce;
  }

  /** Parameters that this server has in force already, so that it will not report them, and that the client takes to be others. */
  untoldBy(server: Server): readonly (readonly [string, string])[] {
    if (!this.#untold) return [];
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
