// Which pgsteer a command asks over HTTP, and as whom: from its options, or from the configuration file of that pgsteer. Of the file only
// the section http is read: the secrets of the rest may not be ours to see.

import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import type { ConnectionOptions } from "node:tls";
import { Agent } from "undici";
import { valueAt } from "../config/decode.ts";
import { parseConfigDocument } from "../config/document.ts";
import { type FileHttp, httpSchema } from "../config/schema-access.ts";
import { describeReadError } from "./configuration.ts";

const DEFAULT_URL = "http://127.0.0.1:7000";

export const ANSWER_TIMEOUT_MS = 3_000;

/** Options of a command line. */
export interface HttpFlags {
  readonly config?: string | undefined;
  readonly url?: string | undefined;
  readonly tokenFile?: string | undefined;
  readonly caFile?: string | undefined;
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
}

/** A pgsteer to ask. */
export interface HttpTarget {
  /** Without a final slash. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** One connection at a time; to be destroyed. */
  agent(): Agent;
}

/** How the other side is known, and who we are. */
type OwnTls = Pick<ConnectionOptions, "ca" | "cert" | "key" | "checkServerIdentity" | "allowPartialTrustChain">;

/** For a person. */
interface Problem {
  readonly problem: string;
}

class Unusable extends Error {}

/** Reads what the options name. */
export function httpTarget(flags: HttpFlags): HttpTarget | Problem {
  try {
    const file = flags.config === undefined ? null : sectionOf(flags.config);
    const url = (file?.url ?? flags.url ?? DEFAULT_URL).replace(/\/+$/, "");
    const token = flags.tokenFile === undefined ? (file?.token ?? null) : read(flags.tokenFile).trim();
    const tls: OwnTls = {
      ...(flags.caFile === undefined ? file?.tls : {}),
      ...(flags.caFile === undefined ? {} : { ca: read(flags.caFile) }),
      ...(flags.certFile === undefined ? {} : { cert: read(flags.certFile) }),
      ...(flags.keyFile === undefined ? {} : { key: read(flags.keyFile) }),
    };
    return {
      url,
      headers: token === null ? {} : { authorization: `Bearer ${token}` },
      agent: () => new Agent({ connections: 1, connect: { timeout: ANSWER_TIMEOUT_MS, ...tls } }),
    };
  } catch (error) {
    if (error instanceof Unusable) return { problem: error.message };
    throw error;
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new Unusable(`${file}: ${describeReadError(error)}`);
  }
}

/** What the file says of its own HTTP: where, with which certificate, with which token. */
function sectionOf(file: string): {
  readonly url: string;
  readonly token: string | null;
  readonly tls: OwnTls;
} {
  const parsed = httpSchema.safeParse(valueAt(parseConfigDocument(read(file)).root, ["http"]) ?? {});
  if (!parsed.success) throw new Unusable(`${file}: http cannot be understood: run pgsteer check -c ${file}`);
  const http = parsed.data;
  if (!http.enabled) throw new Unusable(`${file}: http.enabled is false: this pgsteer cannot be asked`);
  const { address, port } = http;
  const host = address === "0.0.0.0" ? "127.0.0.1" : address === "::" ? "::1" : address;
  const beside = (name: string): string => resolve(dirname(file), name);
  const scheme = http.cert_file === undefined ? "http" : "https";
  return {
    url: `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`,
    token: tokenOf(http, beside),
    tls: http.cert_file === undefined ? {} : pinned(read(beside(http.cert_file))),
  };
}

function tokenOf(http: FileHttp, beside: (name: string) => string): string | null {
  if (http.token !== undefined) return http.token.trim();
  if (http.token_file !== undefined) return read(beside(http.token_file)).trim();
  return http.token_env === undefined ? null : (process.env[http.token_env]?.trim() ?? null);
}

/** Trusts this one certificate, whatever names are in it: it is known from the file that its owner was started with. */
function pinned(cert: string): OwnTls {
  const known = new X509Certificate(cert).fingerprint256;
  return {
    ca: cert,
    allowPartialTrustChain: true,
    checkServerIdentity: (_host, shown) =>
      shown.fingerprint256 === known ? undefined : new Error("it shows another certificate than http.cert_file"),
  };
}
