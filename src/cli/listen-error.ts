// Why a port could not be opened, in one line that names the setting to change.

import { z } from "zod";
import type { Config } from "../config/config.ts";

const listenFailure = z.object({
  syscall: z.enum(["listen", "bind", "getaddrinfo"]),
  code: z.string(),
  address: z.string().optional(),
  port: z.number().optional(),
  /** In place of the two above where the address is a name that could not be resolved. */
  hostname: z.string().optional(),
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

/** One line for an error of `listen`; null for any other error, which is then a bug. */
export function describeListenError(error: unknown, config: Config): string | null {
  const known = listenFailure.safeParse(error);
  if (!known.success) return null;
  const { code, port, hostname } = known.data;
  const address = known.data.address ?? hostname ?? "";
  const where = `${port === undefined ? address : `${address}:${port}`} (${settingOf(config, address, port)})`;
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
