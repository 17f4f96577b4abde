// The value types of the configuration file: durations, sizes, ports, names, `host:port` lists. Each is a zod schema
// that takes what a person writes and yields what the code counts in; what it says when it refuses is a message and, in
// `params.remedy`, what to write instead.

import { isIP } from "node:net";
import { z } from "zod";
import { isSocketDirectory } from "../core/addresses.ts";
import { type Bytes, bytes, type Millis, millis } from "../core/units.ts";

/** The longest duration: what a timer can wait (2^31 - 1 ms, about 24 days). */
const DURATION_MS_MAX = 2_147_483_647;

const durationUnits: ReadonlyMap<string, number> = new Map([
  ["", 1000],
  ["ms", 1],
  ["s", 1000],
  ["m", 60_000],
  ["min", 60_000],
  ["h", 3_600_000],
  ["d", 86_400_000],
]);

const sizeUnits: ReadonlyMap<string, number> = new Map([
  ["", 1],
  ["B", 1],
  ["kB", 1024],
  ["KB", 1024],
  ["MB", 1024 ** 2],
  ["GB", 1024 ** 3],
  ["TB", 1024 ** 4],
]);

function scaled(written: number | string, units: ReadonlyMap<string, number>): number | null {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$/.exec(String(written));
  const factor = units.get(match?.[2] ?? "");
  if (match?.[1] === undefined || factor === undefined) return null;
  return Number(match[1]) * factor;
}

/**
 * Seconds as a number, or `500ms`, `30s`, `5m`, `1h`, `1d`. Null when it is none of these, or longer than a timer can
 * wait.
 */
export function parseDuration(written: number | string): Millis | null {
  const value = scaled(written, durationUnits);
  return value === null || value > DURATION_MS_MAX ? null : millis(value);
}

/**
 * Bytes as a number, or `64kB`, `16MB`, `1GB` (powers of 1024, as PostgreSQL has them). Null when it is none of these.
 */
export function parseSize(written: number | string): Bytes | null {
  const value = scaled(written, sizeUnits);
  return value === null || !Number.isSafeInteger(value) ? null : bytes(value);
}

function refused(message: string, remedy: string, input: unknown) {
  return { code: "custom" as const, message, params: { remedy }, input };
}

const durationRemedy = "write a number of seconds, or a text such as 500ms, 30s, 5m or 1h";
const sizeRemedy = "write a number of bytes, or a text such as 64kB, 16MB or 1GB";
const numberOrText = z.union([z.number(), z.string()], { error: "must be a number or a text" });

/** A duration that may be 0, which for most settings means "off". */
export const duration = numberOrText.transform((written, context): Millis => {
  const parsed = parseDuration(written);
  if (parsed !== null) return parsed;
  context.issues.push(refused(`"${written}" is not a duration, or is longer than 24 days`, durationRemedy, written));
  return z.NEVER;
});

/** A duration for which 0 would make no sense. */
export const positiveDuration = duration.transform((parsed, context): Millis => {
  if (parsed > 0) return parsed;
  context.issues.push(refused("must be longer than 0", durationRemedy, parsed));
  return z.NEVER;
});

/** A duration that the kernel counts in seconds. */
export const wholeSeconds = duration.transform((parsed, context): Millis => {
  if (parsed >= 1000 && parsed % 1000 === 0) return parsed;
  context.issues.push(refused("must be whole seconds, at least 1", "write a number of seconds", parsed));
  return z.NEVER;
});

/** An amount of bytes. */
export const size = numberOrText.transform((written, context): Bytes => {
  const parsed = parseSize(written);
  if (parsed !== null) return parsed;
  context.issues.push(refused(`"${written}" is not a size`, sizeRemedy, written));
  return z.NEVER;
});

/** A TCP port to listen on; 0 takes any free one. */
export const listenPort = z.int().min(0).max(65_535);

/** Text that says something. */
export const text = z.string().min(1);

/** Names that appear in metric labels, logs and URLs: kept to characters that need no quoting anywhere. */
export const plainName = z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$/, {
  error: "must be 1 to 63 letters, digits, underscores, dots or hyphens",
});

/** A host and a TCP port. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

const hostName = /^(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?$/;

/** Whether `written` is an IP address or could be a host name. */
export function isHost(written: string): boolean {
  if (/^[0-9.]+$/.test(written)) return isIP(written) === 4;
  return isIP(written) !== 0 || hostName.test(written);
}

/** `/run/postgresql:5432`: the directory of a Unix-domain socket, and the port in its name. */
function parseSocketPort(written: string, defaultPort: number): HostPort | null {
  const match = /^(\/[^:]*)(?::(\d{1,5}))?$/.exec(written);
  const port = match?.[2] === undefined ? defaultPort : Number(match[2]);
  return match?.[1] === undefined || port < 1 || port > 65_535 ? null : { host: match[1], port };
}

/**
 * `10.0.0.1:5432`, `db1:5432`, `[::1]:5432`, `/run/postgresql:5432`; without a port, `defaultPort`. Null when it is none of these.
 */
export function parseHostPort(written: string, defaultPort: number): HostPort | null {
  if (isSocketDirectory(written)) return parseSocketPort(written, defaultPort);
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(written);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? defaultPort : Number(match[3]);
  if (host === undefined || port < 1 || port > 65_535 || !isHost(host)) return null;
  if (match?.[1] !== undefined && isIP(host) !== 6) return null;
  return { host, port };
}

/** One PostgreSQL server, `host:port`. */
export const hostPort = z.string().transform((written, context): HostPort => {
  const parsed = parseHostPort(written, 5432);
  if (parsed !== null) return parsed;
  context.issues.push(
    refused(`"${written}" is not a host and a port`, "write host:port, such as 10.0.0.1:5432 or [::1]:5432", written),
  );
  return z.NEVER;
});

/** An address to listen on. */
export const listenAddress = z.string().transform((written, context): string => {
  if (isHost(written)) return written;
  const remedy = written === "*" ? "write 0.0.0.0, or :: for IPv6 too" : "write an IP address, such as 127.0.0.1";
  context.issues.push(refused(`"${written}" is not an address`, remedy, written));
  return z.NEVER;
});

/** Where a listener listens: an address, or the directory of a Unix-domain socket. */
export const listenerAddress = z.string().transform((written, context): string => {
  if (isSocketDirectory(written)) return written;
  const parsed = listenAddress.safeParse(written);
  if (parsed.success) return parsed.data;
  for (const { message, params } of parsed.error.issues.filter((issue) => issue.code === "custom")) {
    context.issues.push(refused(message, String(params?.["remedy"]), written));
  }
  return z.NEVER;
});

/** Permissions of a file, in octal, as text: as a number YAML would read them otherwise. */
export const fileMode = z.string().transform((written, context): number => {
  if (/^0?[0-7]{3}$/.test(written)) return Number.parseInt(written, 8);
  context.issues.push(refused(`"${written}" are no permissions`, 'write them in octal, such as "0770"', written));
  return z.NEVER;
});

/** A network in CIDR notation, or one address. */
export const network = z.string().transform((written, context): string => {
  const [address = "", bits, more] = written.split("/");
  const family = isIP(address);
  const widest = family === 6 ? 128 : 32;
  const narrow = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= widest);
  if (family !== 0 && narrow && more === undefined) return `${address}/${bits ?? widest}`;
  context.issues.push(refused(`"${written}" is not a network`, "write such as 10.0.0.0/8 or fd00::/8", written));
  return z.NEVER;
});

/** Base URL of an HTTP service; without a final slash. */
export const httpUrl = z.string().transform((written, context): string => {
  const url = URL.canParse(written) ? new URL(written) : null;
  const remedy = "write http://host:port or https://host:port";
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:") || url.hostname === "") {
    context.issues.push(refused("is not an http or https URL", remedy, written));
    return z.NEVER;
  }
  if (url.username !== "" || url.password !== "") {
    context.issues.push(refused("has a user or a password in its URL", "use the settings user and password_file", ""));
    return z.NEVER;
  }
  if (url.search !== "" || url.hash !== "") {
    context.issues.push(refused("has more than a host, a port and a path", remedy, ""));
    return z.NEVER;
  }
  return url.href.replace(/\/+$/, "");
});
