// Settings of PgBouncer's that a person may expect and that do not exist here, and why: better than "is not a setting".

/** What is said of such a key: what is wrong, and what to do. */
export interface ForeignSetting {
  readonly message: string;
  readonly remedy: string;
}

const because = (message: string, remedy: string): ForeignSetting => ({ message, remedy });

/** Those that have another place here: PgBouncer's name, and where it went. */
const moved = [
  ["auth_type", "auth", "type"],
  ["auth_file", "auth", "file"],
  ["auth_hba_file", "auth", "hba_file"],
  ["auth_ident_file", "auth", "ident_file"],
  ["client_tls_sslmode", "client_tls", "mode"],
  ["client_tls_cert_file", "client_tls", "cert_file"],
  ["client_tls_key_file", "client_tls", "key_file"],
  ["client_tls_ca_file", "client_tls", "ca_file"],
  ["client_tls_protocols", "client_tls", "protocols"],
  ["client_tls_ciphers", "client_tls", "ciphers"],
  ["client_tls13_ciphers", "client_tls", "tls13_ciphers"],
  ["client_tls_ecdhcurve", "client_tls", "ecdhcurve"],
] as const;

/** By name. */
export const foreignSettings: ReadonlyMap<string, ForeignSetting> = new Map([
  ...moved.map(
    ([name, section, key]) =>
      [name, because("is not a setting of the file", `write it as ${key} under ${section}`)] as const,
  ),
  [
    "client_tls_dheparams",
    because("is not needed: keys are agreed on over elliptic curves, which client_tls.ecdhcurve names", "remove it"),
  ],
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
