// Who may log in and how, by the rules of an HBA file: the first that fits a connection decides, and where none does it is refused
// (https://www.postgresql.org/docs/current/auth-pg-hba-conf.html). PostgreSQL's words, whichever file it was.

import { ProxyError } from "../core/errors.ts";
import {
  type AccessDecision,
  type AccessRequest,
  type AccessRules,
  certificateFailed,
  certificateMissing,
  clearTextRefusal,
} from "./access.ts";
import { readLines } from "./hba-lines.ts";
import { cutName, namesMatch } from "./hba-names.ts";
import { addressBytes, cidrNetwork, inNetwork, maskOf } from "./hba-networks.ts";
import { type CertificateDemand, type HbaRule, readRule } from "./hba-rule.ts";
import type { AccessFiles, FileProblem } from "./hba-tokens.ts";
import type { IdentMaps } from "./ident-map.ts";

export type HbaFile =
  | { readonly ok: true; readonly rules: readonly HbaRule[] }
  | { readonly ok: false; readonly problems: readonly FileProblem[] };

/** Reads `file`, absolute, and what it includes. Every problem of every line. */
export function readHbaFile(file: string, files: AccessFiles): HbaFile {
  const terms = { called: "rules", remedy: "list users and addresses in fewer lines" };
  const { values: rules, problems } = readLines(file, files, terms, readRule);
  // PostgreSQL, too, does not take a file that would let nobody in.
  if (rules.length === 0 && problems.length === 0) {
    const message = "has no rule, and would let nobody in";
    return { ok: false, problems: [{ file, line: 0, message, remedy: "write one" }] };
  }
  return problems.length === 0 ? { ok: true, rules } : { ok: false, problems };
}

/** What the rules need besides themselves. */
export interface HbaSurroundings {
  readonly maps: IdentMaps;
  /** Whether method `password` may be used without TLS. */
  readonly allowClearText: boolean;
  /** This machine's addresses now, with their networks: `10.0.0.5/24`. */
  readonly ownAddresses: () => readonly string[];
}

export class HbaRules implements AccessRules {
  readonly #rules: readonly HbaRule[];
  readonly #around: HbaSurroundings;

  constructor(rules: readonly HbaRule[], around: HbaSurroundings) {
    this.#rules = rules;
    this.#around = around;
  }

  decide(request: AccessRequest): AccessDecision {
    const address = request.address === null ? null : addressBytes(request.address);
    const names = { user: cutName(request.user), database: cutName(request.database) };
    const rule = this.#rules.find((each) => this.#comesFrom(each, request, address) && isAbout(each, request, names));
    if (rule === undefined) return refused(rejection(request, false));
    if (rule.certificate !== null && request.certificate === null) return refused(certificateMissing());
    if (rule.method === "reject") return refused(rejection(request, true));
    const named = rule.certificate === null || this.#names(rule.certificate, request, names.user);
    if (rule.method === "cert") {
      return named ? { kind: "method", method: "trust", afterwards: null } : refused(certificateFailed(request.user));
    }
    const afterwards = named ? null : otherCertificate(rule.method, request.user);
    if (rule.method === "trust" && afterwards !== null) return refused(afterwards);
    const decision: AccessDecision = { kind: "method", method: rule.method, afterwards };
    return clearTextRefusal(decision, request, this.#around.allowClearText) ?? decision;
  }

  #comesFrom({ origin }: HbaRule, request: AccessRequest, address: Buffer | null): boolean {
    if (origin.kind === "never") return false;
    if (origin.kind === "local") return request.address === null;
    if (request.address === null || (origin.tls !== null && origin.tls !== request.tls)) return false;
    const { addresses } = origin;
    if (addresses === "all") return true;
    if (address === null) return false;
    return typeof addresses === "string"
      ? this.#isOurs(address, addresses === "samehost")
      : inNetwork(address, addresses);
  }

  #isOurs(address: Buffer, alone: boolean): boolean {
    return this.#around.ownAddresses().some((cidr) => {
      const own = cidrNetwork(cidr);
      if (own === null) return false;
      const mask = alone ? maskOf(8 * own.address.length, own.address.length) : own.mask;
      return mask !== null && inNetwork(address, { address: own.address, mask });
    });
  }

  /** Whether the certificate is the user's, or may stand for it. */
  #names({ names, nameFrom, map }: CertificateDemand, { certificate }: AccessRequest, user: string): boolean {
    if (!names) return true;
    const name = nameFrom === "DN" ? certificate?.distinguishedName : certificate?.commonName;
    if (name === undefined || name === null || name === "") return false;
    return map === null ? name === user : this.#around.maps.allows(map, name, user);
  }
}

const refused = (error: ProxyError): AccessDecision => ({ kind: "refused", error });

function isAbout(
  rule: HbaRule,
  request: AccessRequest,
  { user, database }: { user: string; database: string },
): boolean {
  const physical = request.replication === "physical";
  // The keyword alone stands for physical replication, which has no database; and it stands for nothing else.
  const databases = physical
    ? rule.databases.some((word) => word.kind === "keyword" && word.keyword === "replication")
    : namesMatch(
        rule.databases,
        database,
        (keyword) => keyword === "all" || (keyword === "sameuser" && database === user),
      );
  return databases && namesMatch(rule.users, user, () => true);
}

/** `explicit`: a rule says reject; otherwise no rule says anything. */
function rejection({ address, user, database, replication, tls }: AccessRequest, explicit: boolean): ProxyError {
  const host = address ?? "[local]";
  const encryption = tls ? "SSL encryption" : "no encryption";
  const about =
    replication === "physical"
      ? `host "${host}", user "${user}", ${encryption}`
      : `host "${host}", user "${user}", database "${database}", ${encryption}`;
  const kind = replication === "physical" ? "replication connection" : "connection";
  const words = explicit
    ? `pg_hba.conf rejects ${kind} for ${about}`
    : `no pg_hba.conf entry for ${replication === "physical" ? `${kind} from ` : ""}${about}`;
  return new ProxyError("invalid_authorization", words);
}

/** What PostgreSQL says when the password was right and the certificate another's: as if the method had failed. */
function otherCertificate(method: "trust" | "password" | "md5" | "scram-sha-256", user: string): ProxyError {
  if (method === "trust")
    return new ProxyError("invalid_authorization", `"trust" authentication failed for user "${user}"`);
  return new ProxyError("password_failed", `password authentication failed for user "${user}"`);
}
