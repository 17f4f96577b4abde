// Where somebody listens, as people write it and as node:net wants it. As in libpq a host that begins with a slash is the directory
// of a Unix-domain socket, whose name follows from the port (https://www.postgresql.org/docs/current/libpq-connect.html).

/** Whether `host` is a directory of Unix-domain sockets. */
export const isSocketDirectory = (host: string): boolean => host.startsWith("/");

/** The socket of `port` in `directory`: `/run/pgsteer/.s.PGSQL.6432`. */
export const socketPath = (directory: string, port: number): string =>
  `${directory.replace(/\/+$/, "")}/.s.PGSQL.${port}`;

/** Options for `connect` and `listen`. */
export function netAddress(host: string, port: number): { host: string; port: number } | { path: string } {
  return isSocketDirectory(host) ? { path: socketPath(host, port) } : { host, port };
}

/** `10.0.0.1:5432`, `db1:5432`, `[::1]:5432`, `/run/postgresql/.s.PGSQL.5432`. */
export function formatAddress(host: string, port: number): string {
  if (isSocketDirectory(host)) return socketPath(host, port);
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The address alone of what formatAddress() made of one with its port: `10.0.0.1`, `::1`. */
export const hostOf = (formatted: string): string =>
  formatted.slice(0, formatted.lastIndexOf(":")).replace(/^\[|\]$/g, "");

/** Whether whoever listens on `address` is reached from this machine alone. */
export const isLocalListener = (address: string): boolean =>
  isSocketDirectory(address) || address === "localhost" || address === "::1" || address.startsWith("127.");

/** A peer's address without the disguise that a socket for both IP versions gives to IPv4: `::ffff:10.0.0.1` is `10.0.0.1`. */
export const plainAddress = (address: string): string => address.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, "");

/** Whether an IP address is this machine's own: what is sent there crosses no network. */
export const isLoopback = (ip: string): boolean => plainAddress(ip).startsWith("127.") || ip === "::1";
