// What the configuration only points to: passwords, certificates, the userlist. Read once, through the function that
// was handed in; what is missing or cannot be used is a problem of the key that names it. Contents never show in a
// message.

import { createPrivateKey, X509Certificate } from "node:crypto";
import { dirname, isAbsolute, join } from "node:path";
import type { Secret } from "../auth/secret.ts";
import { type ServerTlsOptions, serverTls } from "../auth/tls-options.ts";
import { parseUserlist } from "../auth/userlist.ts";
import type { Report } from "./decode.ts";
import type { Path } from "./document.ts";

/** Reads a whole text file; throws as node:fs does. */
export type ReadFile = (path: string) => string;
/** Names of the files in a directory; throws as node:fs does. */
export type ListFiles = (path: string) => readonly string[];
/** What a program printed, or what became of it, as in "names a program that …". */
export type CommandOutput =
  | { readonly ok: true; readonly text: string }
  | { readonly ok: false; readonly reason: string };
/** Runs a program with its arguments. */
export type RunCommand = (words: readonly string[]) => CommandOutput;
export type Environment = Readonly<Record<string, string | undefined>>;

/** Where pointed-to contents come from, and where their mistakes go. */
export interface Surroundings {
  /** Name of the configuration file: relative names start in its directory. */
  readonly fileName: string;
  readonly readFile: ReadFile;
  readonly listFiles: ListFiles;
  readonly env: Environment;
  readonly runCommand: RunCommand;
  readonly report: Report;
}

/** Problems of one userlist that are shown; more would bury the rest. */
const USERLIST_PROBLEMS_MAX = 20;

function reasonOf(error: unknown): string {
  const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT") return "does not exist";
  if (code === "EACCES" || code === "EPERM") return "may not be read by the user that runs pgsteer";
  if (code === "EISDIR") return "is a directory";
  return `cannot be read (${typeof code === "string" ? code : "unknown error"})`;
}

/** A file's name as written, from the directory of the configuration file on. */
export const fullName = (name: string, around: Surroundings): string =>
  isAbsolute(name) ? name : join(dirname(around.fileName), name);

/** The content of the file that the setting at `path` names; null, reported, when it cannot be read. */
export function readNamedFile(name: string, path: Path, around: Surroundings): string | null {
  const whole = fullName(name, around);
  try {
    return around.readFile(whole);
  } catch (error) {
    const remedy = isAbsolute(name)
      ? "check the path and its permissions"
      : "check the path (it starts in the directory of the configuration file) and its permissions";
    around.report.problem(path, `names a file that ${reasonOf(error)}: ${whole}`, remedy);
    return null;
  }
}

/** The four ways to give a password. */
export interface PasswordSettings {
  readonly password?: string | undefined;
  readonly password_file?: string | undefined;
  readonly password_env?: string | undefined;
  readonly password_command?: readonly string[] | undefined;
}

const passwordKeys = ["password", "password_file", "password_env", "password_command"] as const;

/** The password of the section at `path`; null when none is given, or, reported, when it cannot be had. */
export function readPassword(settings: PasswordSettings, path: Path, around: Surroundings): string | null {
  const given = passwordKeys.filter((key) => settings[key] !== undefined);
  const second = given[1];
  if (second !== undefined) {
    around.report.problem(
      [...path, second],
      `gives the password a second time, besides ${given[0]}`,
      "keep one of them",
    );
    return null;
  }
  if (settings.password_file !== undefined) {
    const content = readNamedFile(settings.password_file, [...path, "password_file"], around);
    if (content === null) return null;
    const password = content.replace(/\r?\n$/, "");
    if (password !== "") return password;
    around.report.problem([...path, "password_file"], "names an empty file", "write the password into it");
    return null;
  }
  if (settings.password_env !== undefined) {
    const password = around.env[settings.password_env];
    if (password !== undefined && password !== "") return password;
    const message = `names the environment variable ${settings.password_env}, which is not set`;
    around.report.problem([...path, "password_env"], message, "set it for the process that runs pgsteer");
    return null;
  }
  if (settings.password_command !== undefined) {
    return printedPassword(settings.password_command, [...path, "password_command"], around);
  }
  return settings.password ?? null;
}

/** The first line of what the program prints. */
function printedPassword(words: readonly string[], path: Path, { runCommand, report }: Surroundings): string | null {
  const output = runCommand(words);
  const remedy = "try it as the user that runs pgsteer: it is run without a shell";
  if (!output.ok) {
    report.problem(path, `names a program that ${output.reason}: ${words[0]}`, remedy);
    return null;
  }
  const [password = ""] = output.text.split(/\r?\n/, 1);
  if (password === "") report.problem(path, `names a program that printed no password: ${words[0]}`, remedy);
  return password === "" ? null : password;
}

/** Whether a section gives a password at all, even one that cannot be read. */
export function givesPassword(settings: PasswordSettings): boolean {
  return passwordKeys.some((key) => settings[key] !== undefined);
}

/** PEM texts; null where not set. */
export interface Pems {
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

/** The three ways in which a section points to certificates. */
export interface PemSettings {
  readonly ca_file?: string | undefined;
  readonly cert_file?: string | undefined;
  readonly key_file?: string | undefined;
}

/** The certificates of the section at `path`; null, reported, when they are incomplete or cannot be used. */
export function readPems(settings: PemSettings, path: Path, around: Surroundings): Pems | null {
  const { ca_file, cert_file, key_file } = settings;
  const read = (name: string | undefined, key: string) =>
    name === undefined ? null : readNamedFile(name, [...path, key], around);
  if (cert_file !== undefined && key_file === undefined) {
    around.report.problem([...path, "cert_file"], "is set without key_file", "add key_file");
  }
  if (key_file !== undefined && cert_file === undefined) {
    around.report.problem([...path, "key_file"], "is set without cert_file", "add cert_file");
  }
  const pems = { ca: read(ca_file, "ca_file"), cert: read(cert_file, "cert_file"), key: read(key_file, "key_file") };
  const unread = [
    [ca_file, pems.ca],
    [cert_file, pems.cert],
    [key_file, pems.key],
  ].some(([name, content]) => name !== undefined && content === null);
  if (unread || (cert_file === undefined) !== (key_file === undefined)) return null;
  return pemsWork(pems, settings, path, around) ? pems : null;
}

const certificatePattern = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/** OpenSSL passes over what it cannot read in an authority's file, and would then trust nobody: look at each certificate. */
function holdsCertificates(pem: string): boolean {
  const blocks = pem.match(certificatePattern) ?? [];
  try {
    for (const block of blocks) new X509Certificate(block);
    return blocks.length > 0;
  } catch {
    return false;
  }
}

/** OpenSSL compares only keys of one kind: with a certificate for another kind it takes both, and fails in each handshake. */
const belongTogether = (cert: string, key: string): boolean =>
  new X509Certificate(cert).checkPrivateKey(createPrivateKey(key));

function pemsWork(pems: Pems, settings: PemSettings, path: Path, around: Surroundings): boolean {
  const attempt = (part: Partial<ServerTlsOptions>): string | null => {
    try {
      serverTls({ sslmode: "require", ca: null, cert: null, key: null, ...part });
      return null;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  };
  const remedyPem = "check that it is an unencrypted PEM file";
  const cases: [
    name: string | undefined,
    key: string,
    part: Partial<ServerTlsOptions>,
    message: string,
    remedy: string,
  ][] = [
    [settings.cert_file, "cert_file", { cert: pems.cert }, "holds no usable certificate", remedyPem],
    [settings.key_file, "key_file", { key: pems.key }, "holds no usable private key", remedyPem],
    [
      settings.key_file,
      "key_file",
      { cert: pems.cert, key: pems.key },
      "is not the key of cert_file",
      "name the key that belongs to the certificate",
    ],
  ];
  for (const [name, key, part, message, remedy] of cases) {
    const failure = name === undefined ? null : attempt(part);
    if (failure === null) continue;
    around.report.problem([...path, key], `${message} (${failure})`, remedy);
    return false;
  }
  if (pems.cert !== null && pems.key !== null && !belongTogether(pems.cert, pems.key)) {
    const message = "is not the key of cert_file (it is of another kind)";
    around.report.problem([...path, "key_file"], message, "name the key that belongs to the certificate");
    return false;
  }
  if (pems.ca !== null && !holdsCertificates(pems.ca)) {
    around.report.problem([...path, "ca_file"], "holds no usable certificate", remedyPem);
    return false;
  }
  return true;
}

/** The users of the file that the setting at `path` names; null, reported, when it cannot be read or understood. */
export function readUserlist(name: string, path: Path, around: Surroundings): ReadonlyMap<string, Secret> | null {
  const content = readNamedFile(name, path, around);
  if (content === null) return null;
  const userlist = parseUserlist(content);
  if (userlist.ok) return userlist.users;
  for (const { line, message, remedy } of userlist.problems.slice(0, USERLIST_PROBLEMS_MAX)) {
    around.report.problem(path, `names ${name}, whose line ${line} ${message}`, remedy);
  }
  return null;
}
