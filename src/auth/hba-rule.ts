// One line of an HBA file as a rule, or what is wrong with it: connection type, databases, users, addresses, method, options
// (https://www.postgresql.org/docs/current/auth-pg-hba-conf.html). What PostgreSQL knows and pgsteer cannot do is a fault with its
// remedy: a rule that were left out would let in, or keep out, the wrong people.

import { isIP } from "node:net";
import type { ClientAuthenticationMethod } from "./access.ts";
import { fault, type LineFault, type NameWord, type Read, readNames } from "./hba-names.ts";
import { addressBytes, maskOf, type Network } from "./hba-networks.ts";
import type { FieldLine, Token } from "./hba-tokens.ts";

/** Where a rule's clients come from: a Unix-domain socket, or these addresses. */
export type RuleOrigin =
  | { readonly kind: "local" }
  | {
      readonly kind: "host";
      /** Whether the connection has to be encrypted; null: no matter. */
      readonly tls: boolean | null;
      readonly addresses: "all" | "samehost" | "samenet" | Network;
    }
  /** GSSAPI encryption, which pgsteer does not speak. */
  | { readonly kind: "never" };

/** What a client's certificate has to be. */
export interface CertificateDemand {
  /** Whether its name has to be the user's, or be mapped to it; otherwise any that our authorities vouch for will do. */
  readonly names: boolean;
  readonly nameFrom: "CN" | "DN";
  /** Name of a map in the ident file; null: the names have to be equal. */
  readonly map: string | null;
}

export interface HbaRule {
  readonly file: string;
  readonly line: number;
  readonly origin: RuleOrigin;
  readonly databases: readonly NameWord[];
  readonly users: readonly NameWord[];
  readonly method: ClientAuthenticationMethod | "reject" | "cert";
  /** Null: none is asked for. */
  readonly certificate: CertificateDemand | null;
}

const databaseWords: ReadonlySet<string> = new Set(["all", "sameuser", "replication"]);
const userWords: ReadonlySet<string> = new Set(["all"]);
const connectionTypes = ["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];
const methods = ["trust", "reject", "scram-sha-256", "md5", "password", "cert"] as const;
const methodRemedy = `use one of ${methods.join(", ")}`;

/** PostgreSQL's methods that ask somebody whom pgsteer cannot ask. */
const foreignMethods: ReadonlyMap<string, string> = new Map([
  ["peer", "asks the system who is at the other end of a Unix-domain socket, which Node.js cannot"],
  ["ident", "asks the client's machine who its user is"],
  ["gss", "needs Kerberos"],
  ["sspi", "needs Windows"],
  ["pam", "asks PAM"],
  ["bsd", "asks BSD Authentication"],
  ["ldap", "asks an LDAP server"],
  ["radius", "asks a RADIUS server"],
  ["oauth", "asks an OAuth server"],
]);

const isMethod = (text: string): text is (typeof methods)[number] => methods.some((method) => method === text);

/** The one word of a field that may have one only. */
function single(tokens: readonly Token[] | undefined, what: string): Read<Token> {
  const [token, second] = tokens ?? [];
  if (token === undefined)
    return fault(`ends before its ${what}`, "write TYPE DATABASE USER [ADDRESS] METHOD [OPTIONS]");
  if (second !== undefined) return fault(`has several words as ${what}`, "write one; a line for each");
  return { ok: true, value: token };
}

export function readRule({ file, line, fields }: FieldLine): Read<HbaRule> {
  const type = single(fields[0], "connection type");
  if (!type.ok) return type;
  const kind = type.value.text;
  if (!connectionTypes.includes(kind)) {
    return fault(`has the connection type "${kind}", which does not exist`, `use one of ${connectionTypes.join(", ")}`);
  }
  const databases = readWords(fields[1], "databases", databaseWords);
  if (!databases.ok) return databases;
  const users = readWords(fields[2], "users", userWords);
  if (!users.ok) return users;
  const place =
    kind === "local" ? { ok: true as const, value: { addresses: "all" as const, used: 0 } } : readAddresses(fields);
  if (!place.ok) return place;
  const next = 3 + place.value.used;
  const method = single(fields[next], "method");
  if (!method.ok) return method;
  const options = readOptions(fields.slice(next + 1).flat());
  if (!options.ok) return options;
  const terms = readTerms(kind, method.value.text, options.value);
  if (!terms.ok) return terms;
  const value = {
    file,
    line,
    origin: originOf(kind, place.value.addresses),
    databases: databases.value,
    users: users.value,
    ...terms.value,
  };
  return { ok: true, value };
}

function originOf(kind: string, addresses: "all" | "samehost" | "samenet" | Network): RuleOrigin {
  if (kind === "local") return { kind: "local" };
  if (kind === "hostgssenc") return { kind: "never" };
  return { kind: "host", tls: kind === "hostssl" ? true : kind === "hostnossl" ? false : null, addresses };
}

function readWords(
  tokens: readonly Token[] | undefined,
  what: "databases" | "users",
  keywords: ReadonlySet<string>,
): Read<readonly NameWord[]> {
  if (tokens === undefined)
    return fault(`ends before its ${what}`, "write TYPE DATABASE USER [ADDRESS] METHOD [OPTIONS]");
  const member = tokens.find(({ text, quoted }) => !quoted && asksMembership(text, what));
  if (member !== undefined) {
    const message = `has ${member.text}, which asks who is a member of which role; pgsteer does not know that`;
    return fault(message, "list the users, in the line or in a file: @name");
  }
  return readNames(tokens, keywords);
}

function asksMembership(text: string, what: "databases" | "users"): boolean {
  return what === "users" ? text.startsWith("+") : text === "samerole" || text === "samegroup";
}

/** The field of the address, and that of the mask where there is one; `used` says how many they are. */
function readAddresses(
  fields: FieldLine["fields"],
): Read<{ addresses: "all" | "samehost" | "samenet" | Network; used: 1 | 2 }> {
  const token = single(fields[3], "address");
  if (!token.ok) return token;
  const { text, quoted } = token.value;
  if (!quoted && (text === "all" || text === "samehost" || text === "samenet")) {
    return { ok: true, value: { addresses: text, used: 1 } };
  }
  const [written = "", bits, more] = text.split("/");
  const address = addressBytes(written);
  if (address === null || more !== undefined) return notAnAddress(text);
  if (bits !== undefined) {
    const mask = /^\d{1,3}$/.test(bits) ? maskOf(Number(bits), address.length) : null;
    if (mask === null)
      return fault(
        `has the address ${text}, whose mask cannot be`,
        `write ${written}/${8 * address.length} for one address`,
      );
    return { ok: true, value: { addresses: { address, mask }, used: 1 } };
  }
  const second = single(fields[4], "mask");
  if (!second.ok)
    return fault(`has the address ${text} without a mask`, `write ${text}/${8 * address.length} for this one`);
  const mask = addressBytes(second.value.text);
  if (mask === null) {
    const message = `has the address ${text}, and behind it ${second.value.text}, which is no mask`;
    return fault(message, `write ${text}/${8 * address.length} for this one address`);
  }
  if (mask.length !== address.length)
    return fault(`has an address and a mask that do not match`, "write both as IPv4, or both as IPv6");
  return { ok: true, value: { addresses: { address, mask }, used: 2 } };
}

function notAnAddress(text: string): { readonly ok: false } & LineFault {
  if (isIP(text.split("/")[0] ?? "") !== 0)
    return fault(`has the address ${text}, which is none`, "write such as 10.0.0.0/8");
  const message = `has the host name ${text}; pgsteer does not trust the name service with who may log in`;
  return fault(message, "write the addresses, such as 10.0.0.0/8, or all");
}

type Options = ReadonlyMap<string, string>;

function readOptions(tokens: readonly Token[]): Read<Options> {
  const options = new Map<string, string>();
  for (const { text } of tokens) {
    const [name = "", ...rest] = text.split("=");
    if (rest.length === 0)
      return fault(`has ${text} behind its method, which is no option`, "write name=value, or remove it");
    options.set(name, rest.join("="));
  }
  return { ok: true, value: options };
}

/** Method and options, which have to fit each other and the connection type. */
function readTerms(kind: string, method: string, options: Options): Read<Pick<HbaRule, "method" | "certificate">> {
  if (!isMethod(method)) {
    const why = foreignMethods.get(method);
    if (why === undefined) return fault(`has the method ${method}, which does not exist`, methodRemedy);
    return fault(`has the method ${method}, which ${why}`, methodRemedy);
  }
  if (method === "cert" && kind !== "hostssl") return fault("has the method cert, which needs TLS", "write hostssl");
  for (const [name, value] of options) {
    const wrong = optionFault(name, value, kind, method);
    if (wrong !== null) return wrong;
  }
  const verify = options.get("clientcert");
  if (method !== "cert" && verify === undefined) return { ok: true, value: { method, certificate: null } };
  const map = options.get("map") ?? "";
  const certificate: CertificateDemand = {
    names: method === "cert" || verify === "verify-full",
    nameFrom: options.get("clientname") === "DN" ? "DN" : "CN",
    map: map === "" ? null : map,
  };
  return { ok: true, value: { method, certificate } };
}

function optionFault(
  name: string,
  value: string,
  kind: string,
  method: string,
): ({ readonly ok: false } & LineFault) | null {
  switch (name) {
    case "map":
      return method === "cert"
        ? null
        : fault(`has the option map, and the method ${method} takes none`, "remove it, or use the method cert");
    case "clientcert":
      if (kind !== "hostssl") return fault("has the option clientcert, which needs TLS", "write hostssl");
      if (value === "verify-full") return null;
      if (value !== "verify-ca") return fault(`has clientcert=${value}`, "write verify-ca or verify-full");
      return method === "cert"
        ? fault("has clientcert=verify-ca, and the method cert verifies fully", "remove it")
        : null;
    case "clientname":
      if (kind !== "hostssl") return fault("has the option clientname, which needs TLS", "write hostssl");
      return value === "CN" || value === "DN" ? null : fault(`has clientname=${value}`, "write CN or DN");
    default:
      return fault(`has the option ${name}, which does not exist here`, "use one of map, clientcert, clientname");
  }
}
