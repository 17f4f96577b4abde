// From a startup packet's parameters to who a client is and what it asked for, or the error that PostgreSQL gives to such a packet
// (its ProcessStartupPacket()).

import { ProxyError } from "../core/errors.ts";
import { parseStartupOptions } from "./startup-options.ts";

/** What a listener makes of startup parameters. */
export interface StartupRules {
  /** Names of parameters that are dropped, in lower case. */
  readonly ignored: ReadonlySet<string>;
  /** Whether application_name says where the client is. */
  readonly addHost: boolean;
  /** Whether replication connections are passed on, otherwise why not, as a hint. */
  readonly replication: "allow" | { readonly hint: string };
}

/** Who a client is, and what it asked for. */
export interface ClientFacts {
  readonly user: string;
  readonly database: string;
  /** Startup settings, those inside `options` included; names as sent. */
  readonly settings: ReadonlyMap<string, string>;
  /** What it asked to replicate: a whole cluster, or within its database; null for an ordinary session. */
  readonly replication: "physical" | "database" | null;
  readonly tls: boolean;
  /** Minor version of protocol 3 that is spoken with it. */
  readonly minor: number;
}

/** Parameters that are no settings. */
const noSettings: ReadonlySet<string> = new Set(["user", "database", "replication", "options"]);

/** Reads the parameters of a client at `address`. Throws ProxyError. */
export function clientFacts(
  parameters: ReadonlyMap<string, string>,
  address: string,
  rules: StartupRules,
): Omit<ClientFacts, "tls" | "minor"> {
  const user = parameters.get("user") ?? "";
  if (user === "") {
    throw new ProxyError("invalid_authorization", "no PostgreSQL user name specified in startup packet");
  }
  const database = parameters.get("database") ?? "";
  return {
    user,
    database: database === "" ? user : database,
    settings: settingsOf(parameters, address, rules),
    replication: replicationOf(parameters.get("replication"), rules),
  };
}

function settingsOf(
  parameters: ReadonlyMap<string, string>,
  address: string,
  rules: StartupRules,
): Map<string, string> {
  const { ignored, addHost } = rules;
  // PostgreSQL applies the options first, wherever they stand in the packet.
  const settings = ignored.has("options")
    ? new Map<string, string>()
    : parseStartupOptions(parameters.get("options") ?? "");
  for (const name of settings.keys()) if (noSettings.has(name)) throw notASetting(name);
  for (const [name, value] of parameters) if (!noSettings.has(name)) settings.set(name, value);
  for (const name of settings.keys()) if (ignored.has(name.toLowerCase())) settings.delete(name);
  if (!addHost) return settings;
  // In PgBouncer's words.
  let application = "app";
  for (const [name, value] of settings) {
    if (name.toLowerCase() !== "application_name") continue;
    settings.delete(name);
    if (value !== "") application = value;
  }
  return settings.set("application_name", `${application} - ${address}`);
}

/** A server that were logged in with such a one would take it for its parameter: for another user than the one that we let in. */
const notASetting = (name: string): ProxyError =>
  new ProxyError("invalid_parameter", `unrecognized configuration parameter "${name}"`, { sqlstate: "42704" });

/** PostgreSQL's parse_bool(): any beginning of a word that can be no other's. */
const yes = /^(?:t|tr|tru|true|y|ye|yes|on|1)$/i;
const no = /^(?:f|fa|fal|fals|false|n|no|of|off|0)$/i;

function replicationOf(value: string | undefined, rules: StartupRules): ClientFacts["replication"] {
  if (value === undefined || no.test(value)) return null;
  if (value !== "database" && !yes.test(value)) {
    throw new ProxyError("invalid_parameter", `invalid value for parameter "replication": "${value}"`, {
      hint: 'Valid values are: "false", 0, "true", 1, "database".',
    });
  }
  if (rules.replication !== "allow") {
    throw new ProxyError("feature_not_supported", "replication connections are not accepted here", rules.replication);
  }
  return value === "database" ? "database" : "physical";
}
