// Settings of PgBouncer's that a person may expect and that do not exist here, and why: better than "is not a setting".

/** What is said of such a key: what is wrong, and what to do. */
export interface ForeignSetting {
  readonly message: string;
  readonly remedy: string;
}

const because = (message: string, remedy: string): ForeignSetting => ({ message, remedy });

/** By name. */
export const foreignSettings: ReadonlyMap<string, ForeignSetting> = new Map([
  [
    "track_extra_parameters",
    because("is not needed: whatever a client sets follows it, parameters that are not reported too", "remove it"),
  ],
  [
    "tcp_user_timeout",
    because(
      "cannot be set: Node.js has no way to set TCP_USER_TIMEOUT",
      "remove it, and set the kernel's net.ipv4.tcp_retries2, or tcp_keepidle",
    ),
  ],
  ["tcp_defer_accept", because("cannot be set: Node.js has no way to set TCP_DEFER_ACCEPT", "remove it")],
  [
    "tcp_socket_buffer",
    because("cannot be set: Node.js has no way to set it for TCP", "set net.ipv4.tcp_rmem and tcp_wmem"),
  ],
  [
    "unix_socket_dir",
    because("is written as the address of a listener", "add a listener with address: /run/pgsteer and a port"),
  ],
  [
    "unix_socket_group",
    because("cannot be set: a socket belongs to the group of its process", "give the socket's directory that group"),
  ],
]);
