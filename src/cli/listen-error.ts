// Why a port could not be opened, in one line that names the setting to change.

import { z } from "zod";
import type { Config } from "../config/config.ts";
import { formatAddress, isSocketDirectory } from "../core/addresses.ts";

const listenFailure = z.object({
  syscall: z.enum(["listen", "bind", "getaddrinfo", "chmod"]),
  code: z.string(),
  address: z.string().optional(),
  port: z.number().optional(),
  /** In place of the two above where the address is a name that could not be resolved. */
  hostname: z.string().optional(),
  /** Of a Unix-domain socket whose permissions cannot be set. */
  path: z.string().optional(),
});

/** The setting that names this address and port; an error shows the address that a name was resolved to. */
function settingOf(config: Config, address: string, port: number | undefined): string {
  const candidates = config.listeners.map((listener, index) => ({
    address: listener.address,
    port: listener.port,
    setting: `listeners[${index}], "${listener.name}"`,
  }));
  if (config.http !== null) candidates.push({ ...config.http, setting: "http" });
  const samePort = candidates.filter((candidate) => port === undefined || candidate.port === port);
  const found = samePort.find((candidate) => candidate.address === address) ?? samePort[0];
  return found === undefined ? "its setting" : found.setting;
}

/** The same for a Unix-domain socket. */
function describeSocketError(code: string, path: string, config: Config): string {
  const index = config.listeners.findIndex(({ address, port }) => formatAddress(address, port) === path);
  const name = config.listeners[index]?.name;
  const where = `${path} (${name === undefined ? "its setting" : `listeners[${index}], "${name}"`})`;
  switch (code) {
    case "EADDRINUSE":
      return `cannot listen on ${where}: another process listens there already, or the file is no socket`;
    case "EACCES":
      return `cannot listen on ${where}: its directory does not exist, or this user may not write there`;
    default:
      return `cannot listen on ${where}: ${code}`;
  }
}

/** One line for an error of `listen`; null for any other error, which is then a bug. */
export function describeListenError(error: unknown, config: Config): string | null {
  const known = listenFailure.safeParse(error);
  if (!known.success) return null;
  const path = known.data.path ?? known.data.address ?? "";
  if (isSocketDirectory(path)) return describeSocketError(known.data.code, path, config);
  const { code, port, hostname } = known.data;
  const address = known.data.address ?? hostname ?? "";
  const where = `${port === undefined ? address : formatAddress(address, port)} (${settingOf(config, address, port)})`;
  if (hostname !== undefined) return `cannot listen on ${where}: this name has no address (${code})`;
  switch (code) {
    case "EADDRINUSE":
      return `cannot listen on ${where}: another process listens there already; stop it, or choose another port`;
    case "EACCES":
      return `cannot listen on ${where}: this user may not; ports below 1024 need CAP_NET_BIND_SERVICE`;
    case "EADDRNOTAVAIL":
      return `cannot listen on ${where}: this machine has no such address`;
    default:
      return `cannot listen on ${where}: ${error instanceof Error ? error.message : code}`;
  }
}
