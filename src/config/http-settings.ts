// The http section of the file: where it listens, its certificates, its token; and what is wrong with the three together.

import { isLocalListener } from "../core/addresses.ts";
import type { AuthConfig, HttpConfig } from "./config.ts";
import { readNamedFile, readPems, type Surroundings } from "./files.ts";
import type { FileHttp } from "./schema-access.ts";

/** Shorter, and it could be guessed. */
const TOKEN_CHARACTERS_MIN = 16;
const remedyToken = "write one made by chance, such as openssl rand -hex 32 prints";

/** What applies where no file says otherwise. */
export const defaultHttp = ({ address, port }: FileHttp): HttpConfig => ({ address, port, tls: null, token: null });

/** Null where it is switched off, or where a mistake was reported. */
export function resolveHttp(file: FileHttp, around: Surroundings): HttpConfig | null {
  if (!file.enabled) return null;
  const { address, port } = file;
  return { address, port, tls: resolveTls(file, around), token: readToken(file, around) };
}

function resolveTls(file: FileHttp, around: Surroundings): HttpConfig["tls"] {
  const pems = readPems(file, ["http"], around);
  if (pems === null) return null;
  if (pems.cert !== null && pems.key !== null) return { cert: pems.cert, key: pems.key, ca: pems.ca };
  if (pems.ca !== null) {
    around.report.problem(
      ["http", "ca_file"],
      "asks for client certificates without TLS",
      "add cert_file and key_file",
    );
  }
  return null;
}

function readToken(file: FileHttp, around: Surroundings): string | null {
  const { report, env } = around;
  const given = (["token", "token_file", "token_env"] as const).filter((key) => file[key] !== undefined);
  const [first, second] = given;
  if (first === undefined) return null;
  if (second !== undefined) {
    report.problem(["http", second], `gives the token a second time, besides ${first}`, "keep one of them");
    return null;
  }
  const named = file[first] ?? "";
  const written =
    first === "token"
      ? named
      : first === "token_env"
        ? (env[named] ?? "")
        : readNamedFile(named, ["http", first], around);
  if (written === null) return null;
  const token = written.trim();
  if (token.length >= TOKEN_CHARACTERS_MIN && /^[\x21-\x7e]+$/.test(token)) return token;
  const what =
    token.length < TOKEN_CHARACTERS_MIN
      ? `has fewer than ${TOKEN_CHARACTERS_MIN} characters`
      : "has characters that no header takes";
  report.problem(["http", first], `gives a token that ${what}`, remedyToken);
  return null;
}

/** Warns of what others on the network could do or read. */
export function warnAboutHttp(http: HttpConfig, auth: AuthConfig, report: Surroundings["report"]): void {
  if (isLocalListener(http.address)) return;
  const login = http.token !== null || auth.adminUsers.length > 0 || auth.statsUsers.length > 0;
  if (!login && (http.tls?.ca ?? null) === null) {
    const message = "can be reached from other machines, and has no login";
    report.warning(["http", "address"], message, "set http.token_file or auth.stats_users, or address: 127.0.0.1");
  }
  if (login && http.tls === null) {
    const message = "can be reached from other machines, and its login crosses the network in clear";
    report.warning(["http", "address"], message, "set http.cert_file and key_file");
  }
}
